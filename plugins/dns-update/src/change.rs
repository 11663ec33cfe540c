//! What changes, in comparison with what a server has.

use crate::note::{Note, Values};
use crate::record::Kind;

/// What a server has of a name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    pub(crate) values: Values,
    /// The note of the last change by a stage.
    pub(crate) note: Option<Note>,
    /// All texts beside the record, as the server shows them.
    pub(crate) texts: Vec<String>,
}

/// A record that changes.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) known: Known,
    /// Without values, the record is deleted.
    pub(crate) values: Values,
    pub(crate) note: Note,
}
