//! Mutual exclusion between runs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use stagewright_model::Queue;

use super::store::StoreError;
use crate::event::{Release, RunId, Timestamp};

/// Mutual exclusion between runs: deploys to one environment, and runs of one concurrency group.
///
/// A run loses what it holds when the process that drives it ends, however it ends. Only a suspended run can keep its
/// group, and only a run with an unfinished [`Rollout`](crate::Rollout) its environment. Rehearsals use separate
/// environments and groups. The changes of a call are durable once it returns.
pub trait RunCoordinator: Send {
    /// Requests an environment for an attempt. A run may request an environment that it already holds, and gets a new
    /// fence.
    fn acquire_environment(&mut self, request: &EnvironmentRequest) -> Result<EnvironmentAnswer, StoreError>;
    /// Whether `fence` is still the newest one issued for the environment.
    fn holds(&mut self, run: &RunId, environment: &str, fence: u64) -> Result<bool, StoreError>;
    /// The fences of the current releases of environments, as the run would be granted them. Those without a release are left
    /// out.
    fn current_releases(
        &mut self,
        run: &RunId,
        environments: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, u64>, StoreError>;
    /// Releases the environment to other runs.
    fn release_environment(&mut self, run: &RunId, environment: &str) -> Result<(), StoreError>;
    /// Extends the leases of the environments that the run holds. Must be called at least every [`HEARTBEAT`].
    fn heartbeat(&mut self, run: &RunId, now: Timestamp) -> Result<(), StoreError>;
    /// Requests a concurrency group. Runs that this one replaces get a cancel request.
    fn enter_group(&mut self, request: &GroupRequest) -> Result<GroupAnswer, StoreError>;
    /// Releases the concurrency group, or the run's place in its queue.
    fn leave_group(&mut self, run: &RunId, group: &str) -> Result<(), StoreError>;
}

/// How often a run that holds an environment or a group sends a heartbeat.
pub const HEARTBEAT: Duration = Duration::from_secs(5);

/// How long after its last heartbeat a run keeps an environment, even if its process lives.
pub const LEASE: Duration = Duration::from_secs(60);

/// A request for an environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvironmentRequest {
    /// The run that requests it.
    pub run: RunId,
    /// A key of `[environments]`.
    pub environment: String,
    /// Whether to grant it even if it is frozen.
    pub override_freeze: bool,
    /// Whether to grant it even if an unfinished rollout of a run that no process drives keeps it, as a rollback does.
    pub take_over: bool,
    /// The time of the request.
    pub at: Timestamp,
}

/// The answer to an [`EnvironmentRequest`].
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "only one exists at a time, and it is passed on immediately")]
pub enum EnvironmentAnswer {
    /// The run holds the environment until it releases it, ends, or misses its heartbeats.
    Granted {
        /// Greater than every fence issued before for this environment.
        fence: u64,
        /// The current release.
        current: Option<Release>,
        /// For a rehearsal, the current release of the real environment; none for other runs.
        standing: Option<Box<Release>>,
        /// The last known-good release other than the current one.
        last_known_good: Option<Release>,
        /// The release that the run restores; none if it isn't a rollback.
        restored: Option<Box<Release>>,
    },
    /// Another run holds it, or keeps it with an unfinished rollout.
    Held {
        /// The run that holds it.
        by: RunId,
    },
    /// A newer run has acted on it.
    Superseded {
        /// The newer run.
        by: RunId,
    },
    /// It is frozen.
    Frozen {
        /// When the freeze ends; none if a person must lift it.
        until: Option<Timestamp>,
        /// Why it is frozen, and who froze it.
        reason: String,
    },
}

/// A request for a concurrency group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRequest {
    /// The run that requests it.
    pub run: RunId,
    /// The group's name, with its expressions evaluated.
    pub group: String,
    /// Whether the run that holds the group gets a cancel request.
    pub cancel_in_progress: bool,
    /// Which waiting runs stay in the queue.
    pub queue: Queue,
    /// The time of the request.
    pub at: Timestamp,
}

/// The answer to a [`GroupRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupAnswer {
    /// The run holds the group.
    Granted {
        /// Runs that got a cancel request since this run first requested the group.
        replaced: Vec<RunId>,
    },
    /// Other runs are ahead of it. Request the group again later.
    Waiting {
        /// The run that holds the group.
        holder: RunId,
    },
}
