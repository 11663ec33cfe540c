//! Runs blocking work outside of the async threads.

use crate::error::{OciError, OciErrorKind};

/// Runs `work`, typically file operations, on a thread that may block.
///
/// # Errors
/// When `work` panicked, or when the runtime is shutting down.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, OciError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| OciError::new(OciErrorKind::Internal, "a blocking operation was interrupted").caused_by(error))
}
