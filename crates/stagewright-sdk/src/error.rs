//! Errors and diagnostics, with help on how to fix them.

use std::fmt;

use crate::bindings::stage::stagewright::stage::types as wire;

pub use wire::{Diagnostic, ErrorCode, Severity};

/// The result of a stage, or of a call to the host.
pub type Result<T> = std::result::Result<T, Error>;

/// The error of a stage, or of a call to the host.
#[derive(Clone, Debug, PartialEq)]
pub struct Error {
    /// The kind of failure.
    pub code: ErrorCode,
    /// What failed and why, in a sentence.
    pub message: String,
    /// Whether a retry may succeed.
    pub retryable: bool,
    /// The causes, from the nearest to the root.
    pub causes: Vec<String>,
    /// How to fix it, in the imperative.
    pub help: Option<String>,
}

impl Error {
    /// An error that isn't retryable, without causes and help.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Error {
        Error { code, message: message.into(), retryable: false, causes: Vec::new(), help: None }
    }

    /// A negative result: a test or a check failed.
    pub fn failed(message: impl Into<String>) -> Error {
        Error::new(ErrorCode::FailedPrecondition, message)
    }

    /// Invalid configuration.
    pub fn invalid(message: impl Into<String>) -> Error {
        Error::new(ErrorCode::InvalidArgument, message)
    }

    /// A response or a state that should be impossible.
    pub fn internal(message: impl Into<String>) -> Error {
        Error::new(ErrorCode::Internal, message)
    }

    /// Appends a cause.
    #[must_use]
    pub fn cause(mut self, cause: impl Into<String>) -> Error {
        self.causes.push(cause.into());
        self
    }

    /// Appends causes, the nearest first.
    #[must_use]
    pub fn causes(mut self, causes: impl IntoIterator<Item = impl Into<String>>) -> Error {
        self.causes.extend(causes.into_iter().map(Into::into));
        self
    }

    /// Sets the help.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Error {
        self.help = Some(help.into());
        self
    }

    /// Marks it as retryable.
    #[must_use]
    pub fn retryable(mut self) -> Error {
        self.retryable = true;
        self
    }

    /// Replaces the message with what was attempted. The old message becomes the nearest cause.
    #[must_use]
    pub fn context(mut self, doing: impl Into<String>) -> Error {
        let cause = std::mem::replace(&mut self.message, doing.into());
        self.causes.insert(0, cause);
        self
    }

    /// Whether the pipeline doesn't grant the call.
    pub fn is_denied(&self) -> bool {
        self.code == ErrorCode::PermissionDenied
    }

    /// Whether what the call refers to doesn't exist.
    pub fn is_not_found(&self) -> bool {
        self.code == ErrorCode::NotFound
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<wire::Error> for Error {
    fn from(error: wire::Error) -> Error {
        let wire::Error { code, message, retryable, causes, help } = error;
        Error { code, message, retryable, causes, help }
    }
}

impl From<Error> for wire::Error {
    fn from(error: Error) -> wire::Error {
        let Error { code, message, retryable, causes, help } = error;
        wire::Error { code, message, retryable, causes, help }
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Error {
        Error::invalid(format!("unexpected JSON: {error}"))
    }
}

impl From<std::string::FromUtf8Error> for Error {
    fn from(error: std::string::FromUtf8Error) -> Error {
        Error::invalid(format!("invalid UTF-8: {error}"))
    }
}

impl Diagnostic {
    /// An error; `code` is a stable name, as in `test-failed`.
    pub fn error(code: impl Into<String>, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(Severity::Error, code, message)
    }

    /// A warning; `code` is a stable name.
    pub fn warning(code: impl Into<String>, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(Severity::Warning, code, message)
    }

    /// A note; `code` is a stable name.
    pub fn info(code: impl Into<String>, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(Severity::Info, code, message)
    }

    /// A diagnostic without path and help.
    pub fn new(severity: Severity, code: impl Into<String>, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity, code: code.into(), message: message.into(), path: None, help: None }
    }

    /// Sets the path: a key of the `with` table, as in `args[0]`, or a file of the workspace.
    #[must_use]
    pub fn at(mut self, path: impl Into<String>) -> Diagnostic {
        self.path = Some(path.into());
        self
    }

    /// Sets the help.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Diagnostic {
        self.help = Some(help.into());
        self
    }
}
