//! The error that a capability returns to a guest.

use std::num::NonZeroU32;

use stagewright_engine::FilePlace;
use stagewright_model::{MissingGrant, PathError, PatternError};

/// Mirrors `types.error` of the WIT.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CapabilityError {
    /// The kind of denial or failure.
    pub code: ErrorCode,
    /// One sentence that names what was requested.
    pub message: String,
    /// Whether the same call may succeed later; none if that isn't known.
    pub retryable: Option<bool>,
    /// The least delay before it is tried again in milliseconds, as a server asked for it.
    pub retry_after: Option<NonZeroU32>,
    /// The place in a file of the workspace that it is about.
    pub place: Option<Box<FilePlace>>,
    /// From the nearest cause to the farthest.
    pub causes: Vec<String>,
    /// What to change; for a denial, the TOML line that grants it.
    pub help: Option<String>,
    /// For a denial, what the stage lacks.
    pub grant: Option<Box<MissingGrant>>,
}

/// Mirrors `types.error-code` of the WIT.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as in the WIT, where they are explained")]
pub enum ErrorCode {
    InvalidArgument,
    FailedPrecondition,
    NotFound,
    AlreadyExists,
    PermissionDenied,
    Unauthenticated,
    ResourceExhausted,
    DeadlineExceeded,
    Cancelled,
    Unavailable,
    Internal,
    Aborted,
    Unimplemented,
    Superseded,
    Withheld,
    Other(String),
}

impl CapabilityError {
    /// Without causes or help.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> CapabilityError {
        CapabilityError {
            code,
            message: message.into(),
            retryable: None,
            retry_after: None,
            place: None,
            causes: Vec::new(),
            help: None,
            grant: None,
        }
    }

    /// Adds advice.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> CapabilityError {
        self.help = Some(help.into());
        self
    }

    /// Adds an error and its chain of causes.
    #[must_use]
    pub fn caused_by(mut self, error: &(dyn std::error::Error + 'static)) -> CapabilityError {
        self.causes.push(error.to_string());
        self.causes.extend(causes_of(error));
        self
    }

    /// Marks the call as one that may succeed when it is tried again.
    #[must_use]
    pub fn retryable(mut self) -> CapabilityError {
        self.retryable = Some(true);
        self
    }
}

/// The causes of an error without the error itself, from the nearest to the farthest.
pub fn causes_of(error: &(dyn std::error::Error + 'static)) -> Vec<String> {
    std::iter::successors(error.source(), |cause| cause.source()).map(ToString::to_string).collect()
}

impl From<PathError> for CapabilityError {
    fn from(error: PathError) -> CapabilityError {
        CapabilityError::new(ErrorCode::InvalidArgument, error.to_string())
            .with_help("give a path relative to the workspace's root, as in `target/report.xml`")
    }
}

impl From<PatternError> for CapabilityError {
    fn from(error: PatternError) -> CapabilityError {
        match error {
            PatternError::Path(error) => error.into(),
            error @ PatternError::Glob { .. } => CapabilityError::new(ErrorCode::InvalidArgument, error.to_string()),
        }
    }
}

/// The sandbox could not be set up. `doing` completes the sentence "could not …".
pub(crate) fn unprepared(doing: &str, error: &std::io::Error) -> CapabilityError {
    CapabilityError::new(ErrorCode::Internal, format!("the sandbox can't be set up: could not {doing}: {error}"))
}
