//! What a plugin implements.

use std::time::Duration;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::{Diagnostic, Manifest, Result};

/// A stage of a pipeline.
pub trait Stage {
    /// The stage's `with` table. Use `#[serde(deny_unknown_fields)]`, so that a misspelt key is an error.
    type Config: DeserializeOwned + JsonSchema;

    /// What the plugin is. The schema of [`Stage::Config`] is added to it. May not call the host.
    fn manifest() -> Manifest;

    /// What is wrong with a configuration beyond its types. May call [`crate::context`] only. Asked before the run
    /// starts, and again when the stage does: an error keeps it from running.
    fn validate(config: &Self::Config) -> Vec<Diagnostic> {
        let _ = config;
        Vec::new()
    }

    /// Does the work.
    ///
    /// # Errors
    /// Whatever keeps it from being done, a negative result included.
    fn run(config: Self::Config) -> Result<Outcome>;
}

/// A stage whose effect outlives it, such as a deploy.
pub trait Reconcile: Stage {
    /// Asks the target what became of an attempt whose end wasn't recorded. It must not change anything: calls with an effect
    /// beyond the machine are refused. Of an attempt that was applied, it sets the outputs once more, and tells the
    /// environment's ledger what is there ([`crate::environment::released`]).
    ///
    /// # Errors
    /// When the target can't be asked. A person is asked then, as after [`Observation::Unknown`].
    fn observe(config: Self::Config) -> Result<Observation>;

    /// Compensates for an attempt that was applied. It may be called again after it was broken off, and must then finish
    /// what it began.
    ///
    /// # Errors
    /// When it can't.
    fn undo(config: Self::Config) -> Result<()>;
}

/// How a stage ended that did not fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did what it is for.
    Succeeded,
    /// It found nothing to do, and says why.
    Skipped(String),
    /// It waits, and is called again; see [`crate::gate`].
    Suspended(Suspension),
}

/// What a stage waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspension {
    /// Names what is waited for: the gate's token.
    pub token: String,
    /// For people.
    pub reason: String,
    /// Call again after this long even if nothing was decided.
    pub poll_after: Option<Duration>,
}

/// What a target says of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// Nothing of it is there.
    NotStarted,
    /// It is being applied.
    InProgress,
    /// It is there; the text says what.
    Applied(String),
    /// It was tried and is not there; the text says why.
    Failed(String),
    /// The target can't tell; the text says why.
    Unknown(String),
}
