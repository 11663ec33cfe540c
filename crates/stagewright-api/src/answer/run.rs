//! `runs --json`: a list of [`RunEntry`], newest first.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::event::{CaptureEntry, OutcomeName, RunSourceEntry};

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RunEntry {
    /// Its id.
    pub run: String,
    /// `[pipeline] name`.
    pub pipeline: String,
    /// The pipeline file, relative to the repository.
    pub file: String,
    /// Whether it is a rehearsal.
    pub rehearsal: bool,
    /// When it started, in milliseconds since the Unix epoch.
    pub started: u64,
    /// When its last event was recorded, in milliseconds since the Unix epoch.
    pub last: u64,
    /// Where it stands.
    pub state: RunStatus,
    /// Unique name of the first stage that failed.
    pub failed_stage: Option<String>,
    /// Unique names of the stages that wait at a gate.
    pub waiting: Vec<String>,
    /// The files that an approval would be for, by unique name of the stage. Stages whose gates captured none are left
    /// out.
    pub captures: BTreeMap<String, CaptureEntry>,
    /// The tokens of the stages that wait for a time or a signal, by unique name of the stage. Left out when there are
    /// none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tokens: BTreeMap<String, String>,
    /// What it is of, and what started it.
    pub source: RunSourceEntry,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunStatus {
    /// A process drives it.
    Running,
    /// It waits at gates, and no process drives it.
    Waiting,
    /// Its process went away before it ended.
    Interrupted,
    /// It is over: `succeeded`, `failed`, `rejected` or `cancelled`.
    #[serde(untagged)]
    Ended(OutcomeName),
}
