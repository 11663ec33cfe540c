//! Errors of a session: a message, its causes, and hints.

use std::error::Error;

use stagewright_engine::{StoreError, StoreErrorKind};

/// The category of an error, which a front end maps to an exit code or an HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request is malformed, or names a run, stage, release or environment that does not exist.
    InvalidRequest,
    /// The pipeline file has errors.
    InvalidPipeline,
    /// Nothing was started, because a plugin, an input, a secret or a permission is missing, or because of the state of
    /// the run or the repository.
    NotReady,
    /// A fault of the machine, such as a disk, the state folder or the policy file, or a defect.
    Internal,
}

/// An error of a session.
///
/// It can contain untrusted text, such as names from pipelines and output of programs, which must be escaped when it is
/// shown.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct SessionError {
    /// The category.
    pub kind: ErrorKind,
    /// The failure in one sentence.
    pub message: String,
    /// Details of the message, one line each.
    pub details: Vec<String>,
    /// How to fix it, separate from the message.
    pub hints: Vec<String>,
    /// Causes that are only known as text, the immediate one first.
    pub causes: Vec<String>,
    /// The cause.
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl SessionError {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> SessionError {
        let (details, hints, causes) = Default::default();
        SessionError { kind, message: message.into(), details, hints, causes, source: None }
    }

    pub(crate) fn invalid_request(message: impl Into<String>) -> SessionError {
        SessionError::new(ErrorKind::InvalidRequest, message)
    }

    pub(crate) fn invalid_pipeline(message: impl Into<String>) -> SessionError {
        SessionError::new(ErrorKind::InvalidPipeline, message)
    }

    pub(crate) fn not_ready(message: impl Into<String>) -> SessionError {
        SessionError::new(ErrorKind::NotReady, message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> SessionError {
        SessionError::new(ErrorKind::Internal, message)
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> SessionError {
        self.hints.push(hint.into());
        self
    }

    #[must_use]
    pub(crate) fn details(mut self, details: impl IntoIterator<Item = String>) -> SessionError {
        self.details.extend(details);
        self
    }

    #[must_use]
    pub(crate) fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> SessionError {
        self.source = Some(source.into());
        self
    }
}

impl From<StoreError> for SessionError {
    fn from(error: StoreError) -> SessionError {
        let kind = match error.kind {
            StoreErrorKind::Storage => ErrorKind::Internal,
            StoreErrorKind::NotFound => ErrorKind::InvalidRequest,
            StoreErrorKind::Busy => ErrorKind::NotReady,
        };
        let mut failed = SessionError::new(kind, error.message);
        failed.hints.extend(error.help);
        failed.source = error.source;
        failed
    }
}
