//! What goes wrong, told so that a person knows what to change.

use std::fmt;

use crate::bindings::stage::stagewright::stage::types as wire;

pub use wire::{Diagnostic, ErrorCode, Severity};

/// Of a stage, or of a call to the host.
pub type Result<T> = std::result::Result<T, Error>;

/// Why something can't be done.
#[derive(Clone, Debug, PartialEq)]
pub struct Error {
    /// What kind of failure.
    pub code: ErrorCode,
    /// What was asked and what is wrong with it, in a sentence.
    pub message: String,
    /// Whether the same may succeed later.
    pub retryable: bool,
    /// From the nearest cause to the farthest.
    pub causes: Vec<String>,
    /// What to change.
    pub help: Option<String>,
}

impl Error {
    /// Not retryable, without causes or help.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Error {
        Error { code, message: message.into(), retryable: false, causes: Vec::new(), help: None }
    }

    /// The stage did its work and the answer is no: a test failed, a check didn't hold.
    pub fn failed(message: impl Into<String>) -> Error {
        Error::new(ErrorCode::FailedPrecondition, message)
    }

    /// The configuration doesn't hold.
    pub fn invalid(message: impl Into<String>) -> Error {
        Error::new(ErrorCode::InvalidArgument, message)
    }

    /// Something answered in a way that it never should.
    pub fn internal(message: impl Into<String>) -> Error {
        Error::new(ErrorCode::Internal, message)
    }

    /// With a cause, farther than those before it.
    #[must_use]
    pub fn cause(mut self, cause: impl Into<String>) -> Error {
        self.causes.push(cause.into());
        self
    }

    /// With several causes, the nearest first.
    #[must_use]
    pub fn causes(mut self, causes: impl IntoIterator<Item = impl Into<String>>) -> Error {
        self.causes.extend(causes.into_iter().map(Into::into));
        self
    }

    /// With advice.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Error {
        self.help = Some(help.into());
        self
    }

    /// Worth another try.
    #[must_use]
    pub fn retryable(mut self) -> Error {
        self.retryable = true;
        self
    }

    /// Says what was being done; the message so far becomes the nearest cause. Code, help and the rest stay.
    #[must_use]
    pub fn context(mut self, doing: impl Into<String>) -> Error {
        let cause = std::mem::replace(&mut self.message, doing.into());
        self.causes.insert(0, cause);
        self
    }

    /// Whether the pipeline doesn't grant what was asked.
    pub fn is_denied(&self) -> bool {
        self.code == ErrorCode::PermissionDenied
    }

    /// Whether what was asked for isn't there.
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
        Error::invalid(format!("not the JSON that was expected: {error}"))
    }
}

impl From<std::string::FromUtf8Error> for Error {
    fn from(error: std::string::FromUtf8Error) -> Error {
        Error::invalid(format!("not UTF-8: {error}"))
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

    /// Something good to know; `code` is a stable name.
    pub fn info(code: impl Into<String>, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(Severity::Info, code, message)
    }

    /// Without a path or advice.
    pub fn new(severity: Severity, code: impl Into<String>, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity, code: code.into(), message: message.into(), path: None, help: None }
    }

    /// Where: a key of the `with` table, as in `args[0]`, or a file of the workspace.
    #[must_use]
    pub fn at(mut self, path: impl Into<String>) -> Diagnostic {
        self.path = Some(path.into());
        self
    }

    /// With advice.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Diagnostic {
        self.help = Some(help.into());
        self
    }
}
