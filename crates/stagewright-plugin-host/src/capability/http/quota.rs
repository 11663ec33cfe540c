//! Limits what a guest's requests take of the host's resources.
//!
//! The data of a request is copied out of the guest's memory, and a response that isn't read occupies a connection. The
//! guest's own limits cover neither.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

use crate::error::{CapabilityError, ErrorCode};
use crate::limits::ByteSize;
use crate::policy::Policy;

/// The limits of one attempt's requests; clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Quota {
    responses: Arc<Semaphore>,
    requests: usize,
    data: Arc<Semaphore>,
    memory: u64,
    policy: Arc<Policy>,
}

/// A part of the quota, returned to it when this is dropped.
pub(crate) type Held = OwnedSemaphorePermit;

impl Quota {
    /// `requests`: the most responses open at a time. `memory`: the most bytes in all request builders together.
    pub(crate) fn new(requests: usize, memory: u64, policy: Arc<Policy>) -> Quota {
        let permits = |count: usize| Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS)));
        let data = permits(usize::try_from(memory).unwrap_or(usize::MAX));
        Quota { responses: permits(requests), requests, data, memory, policy }
    }

    /// Takes a permit for a response, to be held until its body has ended.
    pub(super) fn response(&self) -> Result<Held, CapabilityError> {
        self.responses.clone().try_acquire_owned().map_err(|_: TryAcquireError| {
            let message = format!("the plugin already has {} responses open, which is its limit", self.requests);
            CapabilityError::new(ErrorCode::ResourceExhausted, message)
                .with_help(self.policy.raise_requests(self.requests))
        })
    }

    /// Takes `bytes` for the data of a request.
    pub(super) fn data(&self, bytes: usize) -> Result<Held, CapabilityError> {
        let held = u32::try_from(bytes).ok().and_then(|bytes| self.data.clone().try_acquire_many_owned(bytes).ok());
        held.ok_or_else(|| {
            let limit = ByteSize(self.memory);
            let message = format!("the plugin's requests exceed its memory limit of {limit}");
            CapabilityError::new(ErrorCode::ResourceExhausted, message)
                .with_help("send large bodies from files, or raise the stage's `memory`")
        })
    }
}
