//! Keeping apart what must not happen at once.

use std::time::Duration;

use stagewright_model::Queue;

use super::store::StoreError;
use crate::event::{Release, RunId, Timestamp};

/// Keeps apart what must not happen at once: deploys to one environment, and runs of one concurrency group.
///
/// What a run holds ends with the process that drives it, however that ends. Rehearsals have environments and groups of
/// their own. Whatever a call changes is on disk once it returns.
pub trait RunCoordinator: Send {
    /// Asks for an environment on behalf of an attempt. A run may ask again for what it holds, and gets a new token.
    fn acquire_environment(&mut self, claim: &EnvironmentRequest) -> Result<EnvironmentAnswer, StoreError>;
    /// Whether `fence` is still the environment's newest token.
    fn holds(&mut self, run: &RunId, environment: &str, fence: u64) -> Result<bool, StoreError>;
    /// Lets others have the environment.
    fn release_environment(&mut self, run: &RunId, environment: &str) -> Result<(), StoreError>;
    /// Says that the run is alive, for all that it holds. To be called at least every [`HEARTBEAT`].
    fn heartbeat(&mut self, run: &RunId, now: Timestamp) -> Result<(), StoreError>;
    /// Asks for a concurrency group. Runs that this one replaces are asked to end.
    fn enter_group(&mut self, join: &GroupRequest) -> Result<GroupAnswer, StoreError>;
    /// Lets others of the group go on.
    fn leave_group(&mut self, run: &RunId, group: &str) -> Result<(), StoreError>;
}

/// How often a run that holds an environment says that it is alive.
pub const HEARTBEAT: Duration = Duration::from_secs(5);

/// How long a run without a heartbeat keeps an environment when its process can't be checked.
pub const LEASE: Duration = Duration::from_secs(60);

/// A request for an environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvironmentRequest {
    /// Who asks.
    pub run: RunId,
    /// For what.
    pub environment: String,
    /// Whether a person allowed it in spite of a freeze.
    pub override_freeze: bool,
    /// When.
    pub at: Timestamp,
}

/// The answer to a [`EnvironmentRequest`].
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and it is handed on at once")]
pub enum EnvironmentAnswer {
    /// It is the run's until the run releases it, ends, or misses its heartbeats.
    Granted {
        /// Larger than any before it.
        fence: u64,
        /// The current release.
        current: Option<Release>,
        /// The last known-good release other than the current one.
        last_known_good: Option<Release>,
    },
    /// Another run has it.
    Held {
        /// Which.
        by: RunId,
    },
    /// A newer run has acted on it.
    Superseded {
        /// Which.
        by: RunId,
    },
    /// It is frozen.
    Frozen {
        /// When the freeze ends; none for a freeze that a person has to lift.
        until: Option<Timestamp>,
        /// Why, and by whom.
        reason: String,
    },
}

/// A request for a concurrency group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRequest {
    /// Who asks.
    pub run: RunId,
    /// For what.
    pub group: String,
    /// Whether the run that has the group is asked to end.
    pub cancel_in_progress: bool,
    /// Which waiting runs are kept.
    pub queue: Queue,
    /// When.
    pub at: Timestamp,
}

/// The answer to a [`GroupRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupAnswer {
    /// The group is the run's.
    Granted {
        /// Runs that were asked to end since this one first asked.
        replaced: Vec<RunId>,
    },
    /// Other runs come first. Ask again later.
    Waiting {
        /// Who has the group.
        holder: RunId,
    },
}
