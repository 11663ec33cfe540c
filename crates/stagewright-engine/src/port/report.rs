//! What an attempt came to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::event::{Artifact, Failure, Finding, Gate, Made, Outcome};

/// What an attempt came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AttemptReport {
    /// How it ended.
    pub end: AttemptEnd,
    /// JSON values by name; kept for a failed attempt too.
    pub outputs: BTreeMap<String, Json>,
    /// What it published, also when it didn't succeed.
    pub artifacts: Vec<Artifact>,
    /// What it deployed, if it did.
    pub release: Option<ReleaseNote>,
    /// What it left in the places that it may write, where [`Basis::readers`] asks for it.
    pub made: Option<Made>,
}

/// What a plugin says of the release that it made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ReleaseNote {
    /// What runs, by digest.
    pub artifact: String,
    /// Where it answers.
    pub url: Option<String>,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttemptEnd {
    /// It did what it is for.
    Succeeded,
    /// It found nothing to do, and says why.
    Skipped(String),
    /// It is a rehearsal's, and came to something that isn't done in one: what it would have done, as in "would run …".
    Rehearsed(String),
    /// It waits for a person, and holds nothing meanwhile.
    Suspended(Gate),
    /// The answer to [`Call::Observe`].
    Observed(Observation),
    /// It did not succeed. The outcome is one of failed, errored, timed-out, cancelled, lost or inconclusive.
    Unsuccessful(Outcome, Failure),
}

/// What a plugin sees of an attempt that was left in doubt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Observation {
    /// It is settled what became of it.
    Found(Finding),
    /// It still goes on: ask again later.
    InProgress,
    /// It can't tell, and why.
    Unknown(String),
}
