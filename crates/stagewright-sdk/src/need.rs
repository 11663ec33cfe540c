//! The stages that a stage needs.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// A stage that has ended before this one.
#[derive(Clone, Debug, PartialEq)]
pub struct Need {
    /// Its name.
    pub stage: String,
    /// Its unique name, with its matrix values.
    pub stage_id: String,
    /// Its outcome.
    pub outcome: NeedOutcome,
    /// The outcome after `continue-on-error`.
    pub conclusion: NeedOutcome,
    /// Its outputs, an object.
    pub outputs: Json,
}

/// How a stage has ended.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "named as in pipelines and in the documentation of runs")]
pub enum NeedOutcome {
    Succeeded,
    Failed,
    Errored,
    TimedOut,
    Cancelled,
    Skipped,
    Rejected,
    Lost,
    Inconclusive,
    Rehearsed,
    /// One of a later version of the contract.
    #[serde(untagged)]
    Other(String),
}

impl NeedOutcome {
    pub(crate) fn parse(name: String) -> NeedOutcome {
        serde_json::from_value(Json::from(name)).unwrap_or_else(|_| unreachable!("any text is an outcome"))
    }
}
