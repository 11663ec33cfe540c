//! `init --json`.

use serde::{Deserialize, Serialize};

use super::plan::PermissionsEntry;

/// A pipeline for a repository that had none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ProposedPipelineAnswer {
    /// The pipeline file, relative to the repository.
    pub file: String,
    /// Its text.
    pub text: String,
    /// What was found in the repository, as in "Rust (Cargo.toml)".
    pub found: Vec<String>,
    /// What was found and has no stage, and why.
    pub left_out: Vec<String>,
    /// The stages, in order.
    pub stages: Vec<ProposedStageEntry>,
    /// Whether the file was written.
    pub written: bool,
}

/// A stage of such a pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ProposedStageEntry {
    /// Its unique name.
    pub id: String,
    /// What it is granted, including the entries of the sets that it uses.
    pub permissions: PermissionsEntry,
}
