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
