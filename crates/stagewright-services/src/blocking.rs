//! Work that blocks, off the async threads.

use crate::error::{ServiceError, ServiceErrorKind};

/// Runs `work`, as on files, where it may block.
///
/// An error means that it panicked, or that the runtime is shutting down.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ServiceError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        ServiceError::new(ServiceErrorKind::Internal, "the host's work was interrupted").caused_by(error)
    })
}
