//! Files that stages hand on.

use serde::{Deserialize, Serialize};

/// A file that a stage published under a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Artifact {
    /// The name; one of a kind in its run.
    pub name: String,
    /// `sha256:…` of the content.
    pub digest: String,
    /// As in `text/plain`.
    pub media_type: String,
    /// Bytes.
    pub size: u64,
}
