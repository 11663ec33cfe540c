//! The traits that a plugin implements.

use std::time::Duration;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::duration::millis;
use crate::host::types as host;
use crate::{Error, ErrorCode, Manifest, Problem, Requirement, Result};

/// A stage of a pipeline.
pub trait Stage {
    /// The stage's `with` table. Use `#[serde(deny_unknown_fields)]`, so that a misspelt key is an error.
    type Config: DeserializeOwned + JsonSchema;

    /// Describes the plugin. The schema of [`Stage::Config`] is added to it. Must not call the host.
    fn manifest() -> Manifest;

    /// Checks a configuration beyond its types. May only call [`crate::context`]. It is called before the run starts, and
    /// again when the stage starts; an error prevents either.
    fn validate(config: &Self::Config) -> Vec<Problem> {
        let _ = config;
        Vec::new()
    }

    /// The grants that the stage will use with a configuration. May only call [`crate::context`]. A stage with a missing
    /// grant that isn't optional doesn't start.
    fn requirements(config: &Self::Config) -> Vec<Requirement> {
        let _ = config;
        Vec::new()
    }

    /// Does the work.
    ///
    /// # Errors
    /// When the work can't be done, or its result is negative, such as a failed test.
    fn run(config: Self::Config) -> Result<Outcome>;
}

/// A stage with effects that outlive it, such as a deploy.
pub trait Reconcile: Stage {
    /// Determines what an interrupted attempt did. It must not change anything: the host refuses calls with an external
    /// effect. For an attempt that was applied, it sets the outputs again, and records the release in the environment's
    /// ledger ([`crate::environment::released`]).
    ///
    /// # Errors
    /// When the target can't be reached. As after [`Observation::Unknown`], a person has to decide then.
    fn observe(config: Self::Config) -> Result<Observation>;

    /// Compensates an attempt that was applied. It is called again after an interruption, and must then complete what the
    /// interrupted call began.
    ///
    /// # Errors
    /// When the attempt can't be compensated.
    fn undo(config: Self::Config) -> Result<()>;

    /// How what is in place differs from the environment's current release, whose configuration this is and which
    /// [`crate::environment::restored`] has. As [`observe`](Reconcile::observe), it must not change anything.
    ///
    /// # Errors
    /// When the target can't be reached. By default always: not every stage can tell.
    fn compare(config: Self::Config) -> Result<Vec<LiveDifference>> {
        let _ = config;
        Err(Error::new(ErrorCode::Unimplemented, "this plugin can't compare its releases with what is in place"))
    }
}

/// A difference between a release and what is in place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveDifference {
    /// A part of the release, as in `deployment/web: spec.replicas`.
    pub what: String,
    /// What the release has there, for people; none for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// What is in place, for people; none for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
}

/// The outcome of a stage that didn't fail.
#[derive(Debug, PartialEq)]
pub enum Outcome {
    /// It did its work.
    Succeeded,
    /// It had nothing to do; the text is the reason.
    Skipped(String),
    /// It waits, and is to be called again.
    Suspended(Suspension),
}

/// A durable wait. The attempt then has no instance of the plugin and no place among the stages that run at a time.
/// Afterwards [`Stage::run`] is called again, and [`crate::gate::resumption`] says why.
#[derive(Debug)]
pub struct Suspension(pub(crate) host::Suspension);

impl Suspension {
    /// A wait for a time or for a signal. `token` names what is waited for, as in a job's id, in 1 to 256 bytes; it is what
    /// `stagewright signal` ends the wait with. `reason` is shown to people. For a wait for people's decision, see
    /// [`crate::gate::Approval`].
    pub fn new(token: &str, reason: &str) -> Suspension {
        Suspension(host::Suspension::new(token, reason))
    }

    /// Ends the wait after this time. Without it only a signal does.
    #[must_use]
    pub fn poll_after(self, delay: Duration) -> Suspension {
        self.0.poll_after_ms(millis(delay));
        self
    }

    /// Ends the stage as timed out when the wait hasn't ended by then.
    #[must_use]
    pub fn expires(self, delay: Duration) -> Suspension {
        self.0.expires_ms(millis(delay));
        self
    }
}

/// Always false: a suspension is a handle of the host, and each is a wait of its own. It exists so that tests can compare
/// other outcomes.
impl PartialEq for Suspension {
    fn eq(&self, _other: &Suspension) -> bool {
        false
    }
}

/// What became of an attempt, according to its target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// It had no effect.
    NotStarted,
    /// It is being applied.
    InProgress,
    /// It was applied; the text describes the result.
    Applied(String),
    /// It was tried and failed; the text is the reason.
    Failed(String),
    /// The target can't tell; the text is the reason.
    Unknown(String),
}
