//! Work that blocks, off the async threads.

use crate::error::{OciError, OciErrorKind};

/// Runs `work`, as on files, where it may block.
///
/// An error means that it panicked, or that the runtime is shutting down.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, OciError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| OciError::new(OciErrorKind::Internal, "the host's work was interrupted").caused_by(error))
}
