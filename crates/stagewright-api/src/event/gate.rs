//! Gates, and what people answer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// What holds a stage up: a question to people, or a time or a signal that it waits for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct GateEntry {
    /// Identifies this opening of the gate: an answer names it. For gates of kind `wait`, the token that the plugin chose
    /// and that a signal names.
    pub token: String,
    /// What it waits for.
    pub kind: GateKindName,
    /// The question; for gates of kind `wait`, the plugin's reason.
    pub message: String,
    /// Users, and teams as `team:NAME`, who may answer; empty when anyone may.
    pub approvers: Vec<String>,
    /// The users among the approvers, members of their teams included. Left out when there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<String>,
    /// How many people must approve; 0 for gates of kind `wait`.
    pub approvals: u32,
    /// The environments that the run may act on once it is approved. Left out when there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environments: Vec<String>,
    /// The form that an approval fills in.
    pub fields: Vec<FieldEntry>,
    /// When it expires, in milliseconds since the Unix epoch. Left out when it doesn't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
    /// When it opens by itself, in milliseconds since the Unix epoch. Left out when it doesn't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// Digest of the plugins, grants and inputs that an approval is given for. Left out for gates that are bound to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<String>,
    /// The files that the stages behind the gate will be given. Left out for gates that captured none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture: Option<CaptureEntry>,
    /// The tokens of the releases that were current in its environments when it opened, by environment. An approval lapses
    /// where another run has deployed since. Left out for gates that name no environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub releases: Option<BTreeMap<String, u64>>,
}

/// What a gate waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GateKindName {
    /// An approval that the stage's plugin asks for.
    Approval,
    /// An approval by the approvers of the stage's environment.
    Environment,
    /// The end of a freeze of the environment, or an approval that overrides it.
    Freeze,
    /// A person who determines the outcome of an attempt that was interrupted: `stagewright settle`.
    #[serde(rename = "doubt")]
    Unresolved,
    /// A time, `until`, or a signal: `stagewright signal`. The plugin is called again after it.
    Wait,
}

/// A signal, which ends a wait.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SignalEntry {
    /// The token of the wait.
    pub token: String,
    /// The stage that it is for. Left out when it is for any stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<u32>,
    /// What the plugin is given; null when nothing was.
    pub payload: Json,
    /// Name of the person who sent it.
    pub by: String,
    /// When it was sent, in milliseconds since the Unix epoch.
    pub at: u64,
}

/// A field of a gate's form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FieldEntry {
    /// Key of its value in an answer.
    pub name: String,
    /// Type of its value.
    pub kind: FieldKindName,
    /// Shown beside it.
    pub description: String,
    /// Whether an approval must fill it in.
    pub required: bool,
    /// What its value must be one of. Left out when it may be any of its type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
}

/// Type of the value of a gate's field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FieldKindName {
    /// A JSON string.
    Text,
    /// A JSON number.
    Number,
    /// A JSON boolean.
    Boolean,
}

/// A person's answer to a gate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DecisionEntry {
    /// The gate's token.
    pub token: String,
    /// Whether the person approved.
    pub approved: bool,
    /// Name of the person.
    pub by: String,
    /// When the answer was given, in milliseconds since the Unix epoch. Left out for an answer that reached the run at
    /// once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<u64>,
    /// Why. Left out when no reason was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The form, by name of the field. Left out when nothing was filled in.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, Json>,
    /// Digest of the [`CaptureEntry`] that the person was shown. Left out when there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture: Option<String>,
    /// Whether it is the answer that a rehearsal gives by itself.
    pub rehearsed: bool,
    /// The outcome that the person determined. Only present for gates of kind `doubt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finding: Option<FindingEntry>,
}

/// The outcome of an attempt that was interrupted: `{"found": "applied", "detail": "…"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "found", content = "detail")]
pub enum FindingEntry {
    /// Its effect didn't happen: it can run again. Without `detail`.
    NotStarted,
    /// Its effect happened; what is there.
    Applied(String),
    /// Its effect happened and failed; what is there.
    Failed(String),
}

/// The files that the stages behind a gate can read, as they were when the gate opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CaptureEntry {
    /// Digest of all paths, modes and contents.
    pub digest: String,
    /// Number of files.
    pub files: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// Identifies the capture within its run; larger than that of any earlier one.
    pub opening: u64,
}

/// The files that a stage left where it may write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MadeEntry {
    /// Digest of all paths, modes and contents.
    pub digest: String,
    /// `opening` of the capture that the stage worked on. Left out for a stage that worked on the workspace itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opening: Option<u64>,
}
