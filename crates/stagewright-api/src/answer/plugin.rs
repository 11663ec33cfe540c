//! `plugin list --json`: a list of [`PluginEntry`]; `plugin show NAME --json`: a [`PluginAnswer`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// A plugin that the repository's pipelines can use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PluginEntry {
    /// The value of `uses`.
    pub uses: String,
    /// Where its code is.
    pub origin: PluginOriginName,
    /// The component's file; none if it is embedded or not on this machine.
    pub file: Option<String>,
    /// The names of the pipeline files that use it.
    pub pipelines: Vec<String>,
    /// Its own version; empty if it gives none.
    pub version: String,
    /// What it does, in one sentence.
    pub description: String,
    /// `sha256:…` of its code; none if it can't be read.
    pub digest: Option<String>,
    /// Why it can't be described.
    pub error: Option<String>,
}

/// Where a plugin's code is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PluginOriginName {
    /// In the program.
    Embedded,
    /// In a folder of built-in plugins.
    Folder,
    /// In the repository.
    Repository,
    /// In an image registry.
    Registry,
}

/// All that is known about a plugin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PluginAnswer {
    /// As in a list.
    pub plugin: PluginEntry,
    /// The version of the contract that it was built for; none for a native library.
    pub contract: Option<String>,
    /// JSON Schema of the `with` table; null if it gives none.
    pub config: Json,
    /// JSON Schema of each output, by name.
    pub outputs: BTreeMap<String, Json>,
    /// Whether it may set other outputs as well.
    pub open_outputs: bool,
    /// The keys of `permissions` that it can use, by the host's interface.
    pub permissions: BTreeMap<String, Vec<String>>,
    /// A stage that uses it, as TOML.
    pub example: String,
}
