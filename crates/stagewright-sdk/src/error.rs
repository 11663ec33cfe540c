//! Errors, with help on how to fix them.

use std::fmt;
use std::time::Duration;

pub use crate::bindings::imports::types::{ErrorCode, Position};

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
    pub retry: Retry,
    /// The causes, from the nearest to the root.
    pub causes: Vec<String>,
    /// How to fix it, in the imperative.
    pub help: Option<String>,
    /// A file of the workspace that it is about, and the place in it. Boxed, since every result has room for an error.
    pub file: Option<Box<(String, Option<Position>)>>,
}

/// Whether a retry may succeed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retry {
    /// It isn't known. The engine then retries every error but denials, invalid arguments and cancellations, if the
    /// pipeline has `retry`.
    #[default]
    Unknown,
    /// It would fail in the same way.
    Never,
    /// At any time.
    Anytime,
    /// After this time, which a server asked for.
    After(Duration),
}

impl Error {
    /// An error without causes and help.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Error {
        Error { code, message: message.into(), retry: Retry::Unknown, causes: Vec::new(), help: None, file: None }
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

    /// The end of a stage that notices between two steps that it is asked to stop.
    pub fn cancelled(message: impl Into<String>) -> Error {
        Error::new(ErrorCode::Cancelled, message)
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

    /// Sets the file of the workspace that it is about, and the place in it.
    #[must_use]
    pub fn file(mut self, path: impl Into<String>, position: Option<Position>) -> Error {
        self.file = Some(Box::new((path.into(), position)));
        self
    }

    /// Says that a retry would fail in the same way.
    #[must_use]
    pub fn never_retry(mut self) -> Error {
        self.retry = Retry::Never;
        self
    }

    /// Marks it as retryable.
    #[must_use]
    pub fn retryable(mut self) -> Error {
        self.retry = Retry::Anytime;
        self
    }

    /// Sets how long to wait before a retry, and marks it as retryable.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Error {
        self.retry = Retry::After(delay);
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

    /// Whether a retry is known to be of use.
    pub fn is_retryable(&self) -> bool {
        matches!(self.retry, Retry::Anytime | Retry::After(_))
    }

    /// Whether the stage is asked to stop.
    pub fn is_cancelled(&self) -> bool {
        self.code == ErrorCode::Cancelled
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

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

impl Position {
    /// A line, counted from 1.
    pub fn line(line: u32) -> Position {
        Position { line, column: None }
    }

    /// A line and a column, both counted from 1. Columns count bytes.
    pub fn at(line: u32, column: u32) -> Position {
        Position { line, column: Some(column) }
    }
}
