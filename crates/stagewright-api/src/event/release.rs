//! What runs deploy, and which files they hand on.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// A release that a stage deployed to its environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DeployedReleaseEntry {
    /// Name of the environment.
    pub environment: String,
    /// What runs, by digest, as in `local/app@sha256:…`.
    pub artifact: String,
    /// Where people reach it. Left out without an address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The token of the environment that it was deployed under.
    pub fence: u64,
    /// The stage's `with` table, evaluated; secrets stand in it by name.
    pub config: Json,
    /// Full id of the commit that the run is of; empty outside a repository.
    pub commit: String,
    /// Name of the user who started the run.
    pub by: String,
    /// What deployed it.
    #[serde(rename = "way")]
    pub origin: ReleaseOriginName,
}

/// What deployed a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReleaseOriginName {
    /// A run of the pipeline.
    Deploy,
    /// `stagewright rollback`.
    Rollback,
    /// A run that failed afterwards and restored it.
    Undo,
}

/// How far a deploy is that gives a new version its requests step by step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RolloutEntry {
    /// What is deployed.
    pub service: String,
    /// Name of the new version on its target.
    pub version: String,
    /// Content of the new version, by digest.
    pub artifact: String,
    /// As in `canary`.
    pub strategy: String,
    /// What it does, or how it ended.
    pub phase: RolloutPhaseName,
    /// How many of its steps are done.
    pub step: u32,
    /// How many steps it has.
    pub steps: u32,
    /// How many percent of the requests the new version gets.
    pub weight: u32,
    /// What it does or waits for, or why it ended, in a sentence; may be empty.
    pub message: String,
}

/// What a rollout does, or how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RolloutPhaseName {
    /// Its steps are carried out.
    Progressing,
    /// It waits for a time or for a person.
    Paused,
    /// The new version gets all requests.
    Completed,
    /// It was given up; the earlier version gets all requests again.
    Aborted,
    /// It was given up, but the earlier version could not be restored.
    Degraded,
}

/// A file that a stage published under a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ArtifactEntry {
    /// Its name, unique within the run.
    pub name: String,
    /// Digest of its content.
    pub digest: String,
    /// As in `text/plain`.
    pub media_type: String,
    /// Its size in bytes.
    pub size: u64,
}
