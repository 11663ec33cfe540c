//! What was deployed.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// What a stage deployed to its environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Release {
    /// A key of `[environments]`.
    pub environment: String,
    /// What runs, by digest, as in `local/app@sha256:…`.
    pub artifact: String,
    /// Where it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The token that it was deployed under.
    pub fence: u64,
    /// The stage's `with` table as it was then; secrets stand in it by name alone.
    pub config: Json,
    /// Full id of the commit that the run is of; empty outside of a repository.
    #[serde(default)]
    pub commit: String,
    /// Who started the run.
    #[serde(default)]
    pub by: String,
    /// How it got there. Journals have it as `way`.
    #[serde(rename = "way")]
    pub origin: ReleaseOrigin,
}

/// How a release got to its environment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReleaseOrigin {
    /// A run deployed it.
    #[default]
    Deploy,
    /// `stagewright rollback` went back to it.
    Rollback,
    /// A run that failed afterwards went back to it.
    Undo,
}
