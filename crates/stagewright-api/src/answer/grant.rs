//! `grant --json`.

use serde::{Deserialize, Serialize};

use super::plan::{LackedGrantEntry, LockChangeEntry};

/// The permissions that a pipeline's stages lack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct GrantAnswer {
    /// The pipeline file, relative to the repository.
    pub file: String,
    /// The entries to add, by table.
    pub grants: Vec<LackedGrantEntry>,
    /// What the file with them permits and the lock file doesn't; empty when the pipeline isn't locked.
    pub beyond_lock: Vec<LockChangeEntry>,
    /// Whether they were written to the file.
    pub written: bool,
}
