//! Errors of starting, stopping and querying services.

use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::Arc;

use stagewright_oci::{OciError, OciErrorKind};
use stagewright_process::supervisor::SupervisorError;

/// An error of starting, stopping or querying a service; cheap to clone.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ServiceError {
    /// Determines how callers handle the error.
    pub kind: ServiceErrorKind,
    /// A sentence that names the service, the release or the file.
    pub message: String,
    /// How to fix it.
    pub help: Option<String>,
    #[source]
    source: Option<Arc<dyn Error + Send + Sync>>,
}

/// The kind of a [`ServiceError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceErrorKind {
    /// A name is invalid, or an image isn't specified by digest.
    InvalidArgument,
    /// The service does not exist, or has no current release.
    NotFound,
    /// Another deploy of the service is in progress.
    DeployInProgress,
    /// A deploy with a newer fencing token has come first.
    StaleFence,
    /// Another program uses the release's port.
    PortTaken,
    /// This machine has no free port.
    NoFreePort,
    /// The release doesn't accept connections on its port yet.
    NotListening,
    /// The image can't be run, because it contains no program or its configuration is invalid.
    UnusableImage,
    /// The image could not be fetched or unpacked.
    Image(OciErrorKind),
    /// A file, the supervisor, or the runtime failed.
    Internal,
}

impl ServiceError {
    pub(crate) fn new(kind: ServiceErrorKind, message: impl Into<String>) -> ServiceError {
        ServiceError { kind, message: message.into(), help: None, source: None }
    }

    pub(crate) fn supervisor(error: SupervisorError) -> ServiceError {
        ServiceError::new(ServiceErrorKind::Internal, "the service's supervisor failed").caused_by(error)
    }

    pub(crate) fn file(path: &Path, error: io::Error) -> ServiceError {
        ServiceError::new(ServiceErrorKind::Internal, format!("`{}` can't be read or written", path.display()))
            .caused_by(error)
    }

    #[must_use]
    pub(crate) fn with_help(mut self, help: impl Into<String>) -> ServiceError {
        self.help = Some(help.into());
        self
    }

    #[must_use]
    pub(crate) fn caused_by(mut self, error: impl Error + Send + Sync + 'static) -> ServiceError {
        self.source = Some(Arc::new(error));
        self
    }

    /// Whether the same call may succeed later without any change.
    pub fn is_retryable(&self) -> bool {
        match self.kind {
            ServiceErrorKind::DeployInProgress | ServiceErrorKind::NotListening => true,
            ServiceErrorKind::Image(kind) => kind.is_retryable(),
            _ => false,
        }
    }
}

impl From<OciError> for ServiceError {
    /// Keeps the message, the help and the causes.
    fn from(error: OciError) -> ServiceError {
        let OciError { kind, message, help, source, .. } = error;
        ServiceError { kind: ServiceErrorKind::Image(kind), message, help, source }
    }
}
