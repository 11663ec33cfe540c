//! The one handle that a session has on its state folder.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stagewright_engine::{Claim, Claimed, Event, Join, Joined, RunId, RunStore, StoreError, Timestamp, Turns};
use stagewright_store::Store;

/// A [`Store`] that the parts of a session share: whoever starts runs, the loops that drive them, and those who answer.
/// Cheap to clone.
///
/// A call holds the store until it returns, which takes as long as the disk takes to sync. The lock must not be held while
/// something else is awaited.
#[derive(Clone, Debug)]
pub struct SharedStore(Arc<Mutex<Store>>);

impl SharedStore {
    /// See [`Store::open`].
    pub(crate) fn open(directory: &Path) -> Result<SharedStore, StoreError> {
        Ok(SharedStore(Arc::new(Mutex::new(Store::open(directory)?))))
    }

    /// The store, for one call or a few.
    pub fn lock(&self) -> MutexGuard<'_, Store> {
        // A call that panicked was in a transaction of its own, which SQLite has undone.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RunStore for SharedStore {
    fn append(&mut self, run: &RunId, events: &[Event], durable: bool) -> Result<(), StoreError> {
        self.lock().append(run, events, durable)
    }
}

impl Turns for SharedStore {
    fn claim(&mut self, claim: &Claim) -> Result<Claimed, StoreError> {
        Turns::claim(&mut *self.lock(), claim)
    }

    fn holds(&mut self, run: &RunId, environment: &str, fence: u64) -> Result<bool, StoreError> {
        self.lock().holds(run, environment, fence)
    }

    fn unclaim(&mut self, run: &RunId, environment: &str) -> Result<(), StoreError> {
        self.lock().unclaim(run, environment)
    }

    fn beat(&mut self, run: &RunId, now: Timestamp) -> Result<(), StoreError> {
        self.lock().beat(run, now)
    }

    fn join(&mut self, join: &Join) -> Result<Joined, StoreError> {
        self.lock().join(join)
    }

    fn leave(&mut self, run: &RunId, group: &str) -> Result<(), StoreError> {
        self.lock().leave(run, group)
    }
}
