//! `gc --json`.

use serde::{Deserialize, Serialize};

/// What was removed; with `--dry-run`, what would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct GcAnswer {
    /// Ids of runs.
    pub removed: Vec<String>,
    /// Names of run folders that belong to no run.
    pub orphans: Vec<String>,
    /// Number of results of the cache.
    pub results: u64,
    /// Number of download caches of stages.
    pub download_caches: u64,
    /// Number of captures of files.
    pub captures: u64,
    /// Bytes in all.
    pub bytes: u64,
    /// Whether nothing was removed, because of `--dry-run`.
    pub dry_run: bool,
}
