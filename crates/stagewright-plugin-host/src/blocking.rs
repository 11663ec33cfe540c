//! Runs blocking work outside of the async threads.

use crate::error::{CapabilityError, ErrorCode};

/// Runs `work` on a thread that may block. Fails when `work` panics or the async runtime shuts down.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, CapabilityError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| CapabilityError::new(ErrorCode::Internal, "the host's work was interrupted").caused_by(&error))
}
