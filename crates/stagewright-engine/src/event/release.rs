//! Releases: deployed artifacts.

use std::collections::BTreeMap;

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
    /// Where people reach it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// What it consists of, as far as its plugin describes that: texts by name, such as the objects of a cluster.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: BTreeMap<String, String>,
    /// The environment's fence that it was deployed under.
    pub fence: u64,
    /// The stage's `with` table at that time. Secrets are in it only by name.
    pub config: Json,
    /// Full id of the commit that the run is for; empty outside a repository.
    #[serde(default)]
    pub commit: String,
    /// Who started the run.
    #[serde(default)]
    pub by: String,
    /// How it reached the environment. Serialised as `way`, the name of an earlier version.
    #[serde(rename = "way")]
    pub origin: ReleaseOrigin,
}

/// How a release reached its environment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReleaseOrigin {
    /// A run deployed it.
    #[default]
    Deploy,
    /// `stagewright rollback` restored it.
    Rollback,
    /// A compensation restored it after a later stage failed.
    Undo,
}

impl ReleaseOrigin {
    /// The name used in JSON, in the terminal and in the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            ReleaseOrigin::Deploy => "deploy",
            ReleaseOrigin::Rollback => "rollback",
            ReleaseOrigin::Undo => "undo",
        }
    }
}
