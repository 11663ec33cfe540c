//! Digests of files: of those that people approve, and of those that stages produce.

use serde::{Deserialize, Serialize};

/// Everything that the stages behind a gate can read, captured when the gate opened. They work on these files and on
/// what the run's own stages produced, and never on anything newer in the workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Capture {
    /// `sha256:…` of all paths, modes and contents.
    pub digest: String,
    /// Number of files.
    pub files: u64,
    /// Their total size in bytes.
    pub bytes: u64,
    /// Unique in its run and greater than that of any earlier capture. Stages behind the same gate share one copy of
    /// the files, which is identified by this number.
    pub opening: u64,
}

/// The files that a stage left where it may write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Made {
    /// `sha256:…` of all paths, modes and contents.
    pub digest: String,
    /// The [`Capture::opening`] of the files that it worked on; none for the workspace itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opening: Option<u64>,
}
