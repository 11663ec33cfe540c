//! `grant --json`.

use serde::{Deserialize, Serialize};

use super::plan::LockChangeEntry;

/// The permissions that a pipeline's stages lack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct GrantAnswer {
    /// The pipeline file, relative to the repository.
    pub file: String,
    /// The entries to add, by table.
    pub grants: Vec<ProposedGrantEntry>,
    /// What the stages may do with them, and may not do without.
    pub changes: Vec<LockChangeEntry>,
    /// Whether the lock file permits less than the file with them.
    pub exceeds_lock: bool,
    /// Whether they were written to the file.
    pub written: bool,
}

/// An entry to add to a table of permissions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ProposedGrantEntry {
    /// The table, as in `stages.test.permissions`.
    pub table: String,
    /// Its key in the table, as in `read`.
    pub permission: String,
    /// An entry of that key, as in `Cargo.toml`.
    pub entry: String,
    /// What the stage uses it for, or which run it was denied in; empty when the plugin doesn't say.
    pub reason: String,
    /// Whether the stage also works without it.
    pub optional: bool,
}
