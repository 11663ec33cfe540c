//! Errors of reading, writing and unpacking images.

use std::error::Error;
use std::sync::Arc;

/// A failed operation on an image or a registry; cheap to clone.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct OciError {
    /// The class of the error, for callers that handle some of them.
    pub kind: OciErrorKind,
    /// A sentence that names the image, the repository or the file.
    pub message: String,
    /// What the user can do about it.
    pub help: Option<String>,
    /// The immediate cause.
    #[source]
    pub source: Option<Arc<dyn Error + Send + Sync>>,
}

/// The kinds of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OciErrorKind {
    /// Text that isn't an image reference, or a reference with a digest other than that of the image to be written.
    InvalidReference,
    /// A manifest that can't be parsed, or that contains an invalid digest or media type.
    InvalidManifest,
    /// The image, tag, blob or layout does not exist.
    NotFound,
    /// The registry requires other credentials.
    Unauthenticated,
    /// The registry denies access, or a path leads out of the workspace.
    Denied,
    /// Content that doesn't have the expected digest or size.
    DigestMismatch,
    /// A layout that contains links, or a layer that can't be unpacked safely.
    UnusableContent,
    /// The registry rejects the request for another reason.
    Rejected,
    /// An image with more manifests than the limit.
    TooLarge,
    /// The registry receives too many requests.
    RateLimited,
    /// The registry can't be reached, or fails to handle the request.
    Unavailable,
    /// The registry didn't respond in time.
    TimedOut,
    /// A file on this machine can't be read or written.
    Disk,
    /// The image is in a registry that a rehearsal doesn't contact.
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
