//! Why an image could not be read, written or unpacked.

use std::error::Error;
use std::sync::Arc;

/// What went wrong with an image or a registry; cheap to clone.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct OciError {
    /// What callers tell apart.
    pub kind: OciErrorKind,
    /// In a sentence, naming the image, the repository or the file.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// The nearest cause.
    #[source]
    pub source: Option<Arc<dyn Error + Send + Sync>>,
}

/// The kinds of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OciErrorKind {
    /// Text that isn't an image reference, or a digest that the image to be written doesn't have.
    InvalidReference,
    /// A manifest that can't be parsed, or that names what isn't a digest or a media type.
    InvalidManifest,
    /// The image, tag, blob or layout does not exist.
    NotFound,
    /// The registry requires other credentials.
    Unauthenticated,
    /// The registry denies access, or a path leads out of the workspace.
    Denied,
    /// Content that doesn't have the digest or the size that it was requested by.
    DigestMismatch,
    /// A layout with links in it, or a layer that can't be unpacked safely.
    UnusableContent,
    /// The registry rejects the request for another reason.
    Rejected,
    /// An image with more manifests than the limit.
    TooLarge,
    /// The registry receives too many requests.
    RateLimited,
    /// The registry can't be reached, or fails.
    Unavailable,
    /// The registry didn't answer in time.
    TimedOut,
    /// A file on this machine can't be read or written.
    Disk,
    /// A rehearsal doesn't read this image from its registry.
    WithheldInRehearsal,
    /// Anything else.
    Internal,
}

impl OciError {
    pub(crate) fn new(kind: OciErrorKind, message: impl Into<String>) -> OciError {
        OciError { kind, message: message.into(), help: None, source: None }
    }

    #[must_use]
    pub(crate) fn with_help(mut self, help: impl Into<String>) -> OciError {
        self.help = Some(help.into());
        self
    }

    #[must_use]
    pub(crate) fn caused_by(mut self, error: impl Error + Send + Sync + 'static) -> OciError {
        self.source = Some(Arc::new(error));
        self
    }
}

impl OciErrorKind {
    /// Whether the same request may succeed later.
    pub fn is_retryable(self) -> bool {
        matches!(self, OciErrorKind::RateLimited | OciErrorKind::Unavailable | OciErrorKind::TimedOut)
    }
}
