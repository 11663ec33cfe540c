//! The result of an attempt.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::event::{Artifact, Failure, Finding, Gate, Made, Outcome, Wait};

/// The result of an attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AttemptReport {
    /// How it ended.
    pub end: AttemptEnd,
    /// JSON values by name; those of a failed attempt, too.
    pub outputs: BTreeMap<String, Json>,
    /// The files that it published; those of a failed attempt, too.
    pub artifacts: Vec<Artifact>,
    /// The release that it deployed.
    pub release: Option<ReleaseNote>,
    /// The files that it left where it may write; none where no stage reads them, see
    /// [`Basis::readers`](super::Basis::readers).
    pub made: Option<Made>,
    /// Whether it asked for the history of the repository or of an environment, which no key of the cache has.
    #[serde(default)]
    pub read_history: bool,
}

/// What a plugin reports of a release.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ReleaseNote {
    /// What runs, by digest.
    pub artifact: String,
    /// Where people reach it.
    pub url: Option<String>,
    /// What it consists of: texts by name.
    #[serde(default)]
    pub parts: BTreeMap<String, String>,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttemptEnd {
    /// It did its work.
    Succeeded,
    /// It found nothing to do, for this reason.
    Skipped(String),
    /// In a rehearsal, it stopped before something that a rehearsal doesn't do: what it would have done, as in "would
    /// run …".
    Rehearsed(String),
    /// It waits for an approval, without a running process or instance.
    Suspended(Gate),
    /// It waits for a time or a signal, without a running process or instance. Its artifacts and its release are recorded;
    /// its outputs don't count, because the call that ends the attempt reports them.
    Waiting(Wait),
    /// The answer to [`Call::Observe`](super::Call::Observe).
    Observed(Observation),
    /// The answer to [`Call::Compare`](super::Call::Compare).
    Compared(Vec<Drift>),
    /// It did not succeed. The outcome is one of failed, errored, timed-out, cancelled, lost or inconclusive.
    Unsuccessful(Outcome, Failure),
}

/// A difference between a release and what is in place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Drift {
    /// A part of the release, as in `deployment/web: spec.replicas`.
    pub what: String,
    /// What the release has there; none for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// What is in place; none for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
}

/// What a plugin determines about an interrupted attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Observation {
    /// Its outcome.
    Found(Finding),
    /// Its effect is still in progress: ask again later.
    InProgress,
    /// The outcome can't be determined, for this reason.
    Unknown(String),
}
