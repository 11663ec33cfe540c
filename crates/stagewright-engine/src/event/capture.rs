//! Files by what they hold: those that people approve of, and those that stages make.

use serde::{Deserialize, Serialize};

/// All that the stages behind a gate can read, as it was when the gate opened. They are given this and nothing newer, but
/// for what the run's own stages make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Capture {
    /// `sha256:…` of all paths, modes and contents.
    pub digest: String,
    /// Number of files.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// One of a kind in its run, and larger than that of any earlier one; stages behind the same gate share what they
    /// make of the files by it.
    pub opening: u64,
}

/// What a stage left in the places that it may write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Made {
    /// `sha256:…` of all paths, modes and contents.
    pub digest: String,
    /// The [`Capture::opening`] of the files on which it worked; none for the workspace itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opening: Option<u64>,
}
