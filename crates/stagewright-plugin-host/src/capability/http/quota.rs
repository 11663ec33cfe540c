//! How much a guest's requests may hold of the host.
//!
//! What a guest hands over leaves its own memory, and an answer that isn't read holds a connection: neither is bounded
//! by the guest's own limits.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

use crate::error::{CapabilityError, ErrorCode};
use crate::limits::Bytes;
use crate::policy::Policy;

/// Bounds the requests of one attempt; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Quota {
    answers: Arc<Semaphore>,
    requests: usize,
    data: Arc<Semaphore>,
    memory: u64,
    policy: Arc<Policy>,
}

/// What is held is given back when it is dropped.
pub(crate) type Held = OwnedSemaphorePermit;

impl Quota {
    /// `requests`: answers that are open at a time. `memory`: bytes in requests that are put together, all of them.
    pub(crate) fn new(requests: usize, memory: u64, policy: Arc<Policy>) -> Quota {
        let permits = |count: usize| Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS)));
        let data = permits(usize::try_from(memory).unwrap_or(usize::MAX));
        Quota { answers: permits(requests), requests, data, memory, policy }
    }

    /// For an answer, until its body has ended.
    pub(super) fn answer(&self) -> Result<Held, CapabilityError> {
        self.answers.clone().try_acquire_owned().map_err(|_: TryAcquireError| {
            let message = format!("the plugin has {} answers open, and may have no more at a time", self.requests);
            CapabilityError::new(ErrorCode::ResourceExhausted, message)
                .with_help(self.policy.raise_requests(self.requests))
        })
    }

    /// For so many bytes of a request.
    pub(super) fn data(&self, bytes: usize) -> Result<Held, CapabilityError> {
        let held = u32::try_from(bytes).ok().and_then(|bytes| self.data.clone().try_acquire_many_owned(bytes).ok());
        held.ok_or_else(|| {
            let limit = Bytes(self.memory);
            let message = format!("the plugin's requests hold more than {limit}, which is all the memory it may have");
            CapabilityError::new(ErrorCode::ResourceExhausted, message)
                .with_help("send large bodies from files, or raise `memory` of the stage")
        })
    }
}
