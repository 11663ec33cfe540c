//! Blocking work, which must not run on the threads that drive async tasks.

use std::panic;

use crate::error::SessionError;

/// Runs `work` on a thread that may block. If `work` panics, so does this.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SessionError> + Send + 'static,
) -> Result<T, SessionError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(payload) => panic::resume_unwind(payload),
            Err(_) => Err(SessionError::internal("the runtime was shut down before the operation started")),
        },
    }
}
