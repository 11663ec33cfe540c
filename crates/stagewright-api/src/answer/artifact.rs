//! `artifacts --json`: a list of [`RunArtifactEntry`]; `artifacts get --json`: one of them.

use serde::{Deserialize, Serialize};

/// An artifact that a stage published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RunArtifactEntry {
    /// Id of the run.
    pub run: String,
    /// Its name.
    pub name: String,
    /// Unique name of the stage that published it.
    pub stage: String,
    /// `sha256:…` of the content; of a folder, of the archive of its files.
    pub digest: String,
    /// Its media type.
    pub media_type: String,
    /// In bytes.
    pub size: u64,
    /// Whether it is a folder.
    pub folder: bool,
    /// Where it was saved. Left out in a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}
