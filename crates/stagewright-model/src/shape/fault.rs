//! What is wrong with a value.

/// Why a string doesn't have its format.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) code: &'static str,
    /// Goes on after the string itself.
    pub(crate) message: String,
    pub(crate) help: String,
}

pub(super) fn fault(code: &'static str, message: impl Into<String>, help: impl Into<String>) -> Option<Fault> {
    Some(Fault { code, message: message.into(), help: help.into() })
}
