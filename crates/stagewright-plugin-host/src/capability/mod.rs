//! The interfaces of the WIT, one module each: data and checks in plain structs, and a thin binding to wasmtime.

pub(crate) mod artifacts;
pub(crate) mod clock;
pub(crate) mod context;
pub(crate) mod effects;
pub(crate) mod environment;
pub(crate) mod gate;
pub(crate) mod http;
pub(crate) mod logging;
pub(crate) mod outputs;
pub(crate) mod process;
pub(crate) mod registry;
pub(crate) mod secrets;
pub(crate) mod service;
pub(crate) mod workspace;

use crate::error::{CapabilityError, ErrorCode};

/// Runs file work off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CapabilityError> + Send + 'static,
) -> Result<T, CapabilityError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(CapabilityError::new(ErrorCode::Internal, "the host broke off its work").caused_by(&error)),
    }
}
