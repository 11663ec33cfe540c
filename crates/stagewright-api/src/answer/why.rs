//! `why --json`: a list of [`WhyEntry`], one for each stage that the name fits.

use serde::{Deserialize, Serialize};

use super::{ExplainEntry, PermissionsEntry};
use crate::event::{FailureEntry, OutcomeName, ProblemEntry};

/// What happened to a stage in a run, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct WhyEntry {
    /// The run.
    pub run: String,
    /// Whether effects acted on stand-ins.
    pub rehearsal: bool,
    /// Unique name of the stage.
    pub stage: String,
    /// How it ended; none if it hasn't.
    pub outcome: Option<OutcomeName>,
    /// Why it never started.
    pub reason: Option<String>,
    /// Why its last attempt failed.
    pub failure: Option<FailureEntry>,
    /// How many attempts were started.
    pub attempts: u32,
    /// Why it ran, or came from the cache.
    pub cache: ExplainEntry,
    /// What the run's pipeline file grants it; none if the file is invalid in this version.
    pub permissions: Option<PermissionsEntry>,
    /// The secrets among its grants.
    pub secrets: Vec<SecretDestination>,
    /// What its attempts announced to do beyond this machine, in order, as in `run kubectl`.
    pub effects: Vec<String>,
    /// What it was refused, in all of its attempts.
    pub refused: Vec<ProblemEntry>,
}

/// Where a secret may go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SecretDestination {
    /// Its name.
    pub name: String,
    /// How the stage may use it: `header` in requests of its plugin, `env` for programs, `proxy` for their downloads.
    pub uses: Vec<String>,
    /// The hosts that requests may carry it to.
    pub hosts: Vec<String>,
    /// The programs that may get it by `env`; any if the list is empty.
    pub programs: Vec<String>,
}
