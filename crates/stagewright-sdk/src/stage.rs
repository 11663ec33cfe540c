//! The traits that a plugin implements.

use std::time::Duration;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::{Diagnostic, Manifest, Result};

/// A stage of a pipeline.
pub trait Stage {
    /// The stage's `with` table. Use `#[serde(deny_unknown_fields)]`, so that a misspelt key is an error.
    type Config: DeserializeOwned + JsonSchema;

    /// Describes the plugin. The schema of [`Stage::Config`] is added to it. Must not call the host.
    fn manifest() -> Manifest;

    /// Checks a configuration beyond its types. May only call [`crate::context`]. It is called before the run starts, and
    /// again when the stage starts; an error prevents either.
    fn validate(config: &Self::Config) -> Vec<Diagnostic> {
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
}

/// The outcome of a stage that didn't fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did its work.
    Succeeded,
    /// It had nothing to do; the text is the reason.
    Skipped(String),
    /// It waits, and is to be called again; see [`crate::gate`].
    Suspended(Suspension),
}

/// What a stage waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspension {
    /// The gate's token.
    pub token: String,
    /// What it waits for, shown to people.
    pub reason: String,
    /// Call again after this time, even without a decision.
    pub poll_after: Option<Duration>,
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
