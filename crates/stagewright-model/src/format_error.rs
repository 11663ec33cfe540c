//! Why a string in a file doesn't have the form that its key requires.

/// What is wrong with a string, in the words of its diagnostic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct FormatError {
    /// The diagnostic's code, as in `stagewright::bad-origin`.
    pub code: &'static str,
    /// A predicate whose subject is the string, as in "doesn't name a host".
    pub message: String,
    /// What to write instead.
    pub help: String,
}

pub(crate) fn refuse<T>(
    code: &'static str,
    message: impl Into<String>,
    help: impl Into<String>,
) -> Result<T, FormatError> {
    Err(FormatError { code, message: message.into(), help: help.into() })
}

impl FormatError {
    /// The whole message, including the string and the help.
    pub(crate) fn explain(&self, text: &str) -> String {
        format!("`{text}` {self}: {}", self.help)
    }
}
