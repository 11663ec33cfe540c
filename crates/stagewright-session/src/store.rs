//! The handle of a session on its state folder.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stagewright_engine::{
    EnvironmentAnswer, EnvironmentRequest, Event, GroupAnswer, GroupRequest, RunCoordinator, RunId, RunStore,
    StoreError, Timestamp,
};
use stagewright_store::Store;

/// A [`Store`] that the parts of a session share: starting runs, the loops that drive them, and answering gates. Cheap
/// to clone.
///
/// A call locks the store until it returns, which includes syncing to disk. The lock must not be held across an
/// `await`.
#[derive(Clone, Debug)]
pub struct SharedStore(Arc<Mutex<Store>>);

impl SharedStore {
    /// See [`Store::open`].
    pub(crate) fn open(directory: &Path) -> Result<SharedStore, StoreError> {
        Ok(SharedStore(Arc::new(Mutex::new(Store::open(directory)?))))
    }

    /// Locks the store, for one call or a few.
    pub fn lock(&self) -> MutexGuard<'_, Store> {
        // A poisoned lock can be ignored. A call that panicked was in its own transaction, which SQLite has rolled
        // back, so the store is in the state before that call. Other runs of the session must be able to continue with
        // it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RunStore for SharedStore {
    fn append(&mut self, run: &RunId, events: &[Event], durable: bool) -> Result<(), StoreError> {
        self.lock().append(run, events, durable)
    }
}

impl RunCoordinator for SharedStore {
    fn acquire_environment(&mut self, claim: &EnvironmentRequest) -> Result<EnvironmentAnswer, StoreError> {
        RunCoordinator::acquire_environment(&mut *self.lock(), claim)
    }

    fn holds(&mut self, run: &RunId, environment: &str, fence: u64) -> Result<bool, StoreError> {
        self.lock().holds(run, environment, fence)
    }

    fn current_releases(
        &mut self,
        run: &RunId,
        environments: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, u64>, StoreError> {
        self.lock().current_releases(run, environments)
    }

    fn release_environment(&mut self, run: &RunId, environment: &str) -> Result<(), StoreError> {
        self.lock().release_environment(run, environment)
    }

    fn heartbeat(&mut self, run: &RunId, now: Timestamp) -> Result<(), StoreError> {
        self.lock().heartbeat(run, now)
    }

    fn enter_group(&mut self, join: &GroupRequest) -> Result<GroupAnswer, StoreError> {
        self.lock().enter_group(join)
    }

    fn leave_group(&mut self, run: &RunId, group: &str) -> Result<(), StoreError> {
        self.lock().leave_group(run, group)
    }
}
