//! The interface through which a run learns which files differ from a commit. The host doesn't read repositories itself.

use std::collections::BTreeSet;

/// Compares the files of a run's workspace with commits.
pub trait ChangeSource: Send + Sync {
    /// The paths of the files that differ from the commit with this full id. For a submodule whose earlier commit is
    /// unknown, the path of its folder.
    ///
    /// May block: it is called on a thread that may.
    ///
    /// # Errors
    /// If the workspace isn't a repository, or has no such commit.
    fn changed_files(&self, commit: &str) -> Result<BTreeSet<String>, ChangesUnknown>;
}

/// Why it isn't known which files differ from a commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangesUnknown {
    /// The failure in one sentence.
    pub message: String,
    /// How to fix it.
    pub help: Option<String>,
}
