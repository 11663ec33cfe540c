//! Runs blocking work outside of the async threads.

use crate::error::{ServiceError, ServiceErrorKind};

/// Runs `work` on a thread that may block, for example on file access.
///
/// # Errors
/// [`ServiceErrorKind::Internal`] if `work` panics, or if the runtime is shutting down.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ServiceError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        ServiceError::new(ServiceErrorKind::Internal, "blocking work was interrupted").caused_by(error)
    })
}
