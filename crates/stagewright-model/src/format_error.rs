//! Why a string of a file doesn't have the form that its key takes.

/// What is wrong with a string, as its diagnostic says it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct FormatError {
    /// The diagnostic's code, as in `stagewright::bad-origin`.
    pub code: &'static str,
    /// Goes on after the string itself, as in "doesn't name a host".
    pub message: String,
    /// What to write.
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
    /// The whole message, with the string.
    pub(crate) fn explain(&self, text: &str) -> String {
        format!("`{text}` {self}: {}", self.help)
    }
}
