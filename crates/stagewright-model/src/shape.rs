//! The description of the file formats. Files are checked against it, and the JSON Schema is generated from it.
//!
//! It describes keys, types and the form of single values. Relations between values, for example that a need is the
//! name of a stage, are checked in [`crate::read`].

mod check;
mod cron;
mod file;
mod format;
mod lock;
mod name;
mod policy;
mod reference;
mod schema;

pub(crate) use check::check;
pub(crate) use file::FILE;
pub use format::duration;
pub(crate) use format::{Format, percentage, size};
pub(crate) use lock::LOCK;
pub(crate) use name::{NameRule, check_variable};
pub(crate) use policy::POLICY;
pub use reference::file_reference;
pub use schema::json_schema;

/// What a value may be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    Text(Format),
    /// An integer in an inclusive range.
    Integer(i64, i64),
    Boolean,
    /// A date with time and offset.
    Moment,
    /// A string, number or boolean.
    Scalar,
    Anything,
    List(&'static Shape),
    Table(&'static Table),
    /// The first of these shapes whose TOML type matches.
    Either(&'static [Shape]),
}

#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) keys: &'static [Key],
    /// Which other keys are allowed; none for a closed table.
    pub(crate) others: Option<&'static OtherKeys>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) doc: &'static str,
    pub(crate) shape: Shape,
    pub(crate) is_required: bool,
    /// The default as JSON.
    pub(crate) default: Option<&'static str>,
}

/// The keys of a table whose names are chosen by the user.
#[derive(Debug)]
pub(crate) struct OtherKeys {
    /// What a key names, with its article, as in "an input".
    pub(crate) what: &'static str,
    pub(crate) rule: NameRule,
    pub(crate) shape: Shape,
}
