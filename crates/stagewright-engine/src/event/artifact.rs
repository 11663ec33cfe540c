//! Files that stages publish for later stages and for people.

use serde::{Deserialize, Serialize};

/// A file that a stage published under a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Artifact {
    /// The name, unique in its run.
    pub name: String,
    /// `sha256:…` of the content.
    pub digest: String,
    /// As in `text/plain`.
    pub media_type: String,
    /// Size in bytes.
    pub size: u64,
}
