//! `env list --json`, a list of [`EnvironmentEntry`]; `env status --json`, one of them; and `env history --json`, a list
//! of [`ReleaseEntry`], newest first.

use serde::{Deserialize, Serialize};

use crate::event::{DeployedReleaseEntry, RolloutEntry};

/// An environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct EnvironmentEntry {
    /// Its name.
    pub environment: String,
    /// The release that it runs.
    pub current: Option<ReleaseEntry>,
    /// The release that a rollback restores.
    pub last_known_good: Option<ReleaseEntry>,
    /// Its last rollout; none if no deploy gave a new version its requests step by step. Left out by versions without
    /// rollouts.
    #[serde(default)]
    pub rollout: Option<RolloutEntry>,
    /// Id of the run that holds it.
    pub holder: Option<String>,
    /// The newest token that was given to a run; 0 before the first.
    pub fence: u64,
    /// The freeze that is in force.
    pub freeze: Option<FreezeEntry>,
    /// How what is in place differs from the current release. Only with `--live`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub differences: Option<Vec<DriftEntry>>,
}

/// A difference between a release and what is in place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DriftEntry {
    /// A part of the release, as in `deployment/web: spec.replicas`.
    pub what: String,
    /// What the release has there, for people; none for nothing.
    pub expected: Option<String>,
    /// What is in place, for people; none if it is missing.
    pub found: Option<String>,
}

/// The last rollout of an environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RolloutStatusEntry {
    /// Name of the environment.
    pub environment: String,
    /// Id of the run that it belongs to.
    pub run: String,
    /// The stage that deploys.
    pub stage: String,
    /// When it got that far, in milliseconds since the Unix epoch.
    pub at: u64,
    /// How far it is.
    pub rollout: RolloutEntry,
}

/// A freeze of an environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FreezeEntry {
    /// When it ends, in milliseconds since the Unix epoch; none for a freeze that a person has to lift.
    pub until: Option<u64>,
    /// Why the environment is frozen.
    pub reason: String,
    /// Name of the person who froze it.
    pub by: String,
}

/// A release in the history of an environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ReleaseEntry {
    /// Identifies it; newer releases of any environment have higher numbers.
    pub number: u64,
    /// Id of the run that made it.
    pub run: String,
    /// Unique name of the stage that made it.
    pub stage: String,
    /// Which try of the stage, from 1.
    pub attempt: u32,
    /// When it was recorded, in milliseconds since the Unix epoch.
    pub at: u64,
    /// Whether all stages that directly need the one that made it have succeeded.
    pub good: bool,
    /// Whether it was undone.
    pub undone: bool,
    /// What was deployed.
    pub release: DeployedReleaseEntry,
}
