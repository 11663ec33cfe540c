//! Why a service could not be started, stopped or looked at.

use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::Arc;

use stagewright_oci::{OciError, OciErrorKind};
use stagewright_process::supervisor::SupervisorError;

/// What went wrong with a service; cheap to clone.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ServiceError {
    /// What callers tell apart.
    pub kind: ServiceErrorKind,
    /// In a sentence, naming the service, the release or the file.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    #[source]
    source: Option<Arc<dyn Error + Send + Sync>>,
}

/// The kinds of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceErrorKind {
    /// A name that can't be used, or an image that isn't named by digest.
    InvalidArgument,
    /// The service does not exist, or has no current release.
    NotFound,
    /// Another deploy of the service is in progress.
    DeployInProgress,
    /// A deploy with a newer token came first.
    StaleFence,
    /// Another program has the release's port.
    PortTaken,
    /// No port is free on this machine.
    NoFreePort,
    /// The release accepts no connections on its port yet.
    NotListening,
    /// The image can't be run: it has no program, or its configuration is invalid.
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
        ServiceError::new(ServiceErrorKind::Internal, format!("`{}` can't be used", path.display())).caused_by(error)
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

    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self.kind {
            ServiceErrorKind::DeployInProgress | ServiceErrorKind::NotListening => true,
            ServiceErrorKind::Image(kind) => kind.is_retryable(),
            _ => false,
        }
    }
}

impl From<OciError> for ServiceError {
    /// With the same message, help and causes.
    fn from(error: OciError) -> ServiceError {
        let OciError { kind, message, help, source, .. } = error;
        ServiceError { kind: ServiceErrorKind::Image(kind), message, help, source }
    }
}
