//! Requests that are sent while the guest goes on.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::{Http, RequestBuilder, ResponseHandle};
use crate::capability::poll::Pollable;
use crate::error::{CapabilityError, ErrorCode};

/// A response that may not have arrived. Dropping it gives the request up.
pub struct PendingResponse {
    ready: Pollable,
    /// The result, until the guest takes it.
    result: Arc<Mutex<Option<Result<ResponseHandle, CapabilityError>>>>,
    task: AbortHandle,
}

impl Http {
    /// Sends a request in the background.
    pub(crate) fn start(&self, request: RequestBuilder) -> PendingResponse {
        let (http, result) = (self.clone(), Arc::new(Mutex::new(None)));
        let (done, ended) = oneshot::channel::<()>();
        let answer = result.clone();
        let task = tokio::spawn(async move {
            let sent = http.send(&request).await;
            *answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(sent);
            drop(done);
        });
        // The sender is dropped at the end of the task, however it ends.
        let ready = Pollable::new(async move { drop(ended.await) });
        PendingResponse { ready, result, task: task.abort_handle() }
    }
}

impl PendingResponse {
    /// Ready once [`PendingResponse::take`] returns without waiting.
    pub(crate) fn ready(&self) -> Pollable {
        self.ready.clone()
    }

    /// Takes the response, which has arrived.
    pub(crate) fn take(&self) -> Result<ResponseHandle, CapabilityError> {
        self.result.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_else(|| {
            let message = "the response of this request has been taken already";
            Err(CapabilityError::new(ErrorCode::FailedPrecondition, message))
        })
    }
}

impl Drop for PendingResponse {
    fn drop(&mut self) {
        self.task.abort();
    }
}
