//! What a pipeline file may look like: one description from which files are checked and the JSON Schema is made.
//!
//! The description knows keys, types and the form of single values. What one value says about another (that a need is a
//! stage, that a reference holds) is for [`crate::read`].

mod check;
mod cron;
mod file;
mod format;
mod lock;
mod name;
mod policy;
mod schema;

pub(crate) use check::check;
pub(crate) use file::FILE;
pub use format::duration;
pub(crate) use format::{Format, size};
pub(crate) use lock::LOCK;
pub(crate) use name::{NameRule, check_variable};
pub(crate) use policy::POLICY;
pub use schema::json_schema;

/// What may stand at a place.
#[derive(Debug)]
pub(crate) enum Shape {
    Text(Format),
    /// Both bounds included.
    Integer(i64, i64),
    Boolean,
    /// A date with time and offset.
    Moment,
    /// A string, number or boolean.
    Scalar,
    Anything,
    List(&'static Shape),
    Table(&'static Table),
    /// The first shape whose TOML type fits.
    Either(&'static [Shape]),
}

#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) keys: &'static [Key],
    /// What keys may be there beside `keys`.
    pub(crate) others: Option<&'static Others>,
}

#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) doc: &'static str,
    pub(crate) shape: Shape,
    pub(crate) is_required: bool,
    /// In JSON.
    pub(crate) default: Option<&'static str>,
}

#[derive(Debug)]
pub(crate) struct Others {
    /// As in "an input".
    pub(crate) what: &'static str,
    pub(crate) rule: NameRule,
    pub(crate) shape: Shape,
}
