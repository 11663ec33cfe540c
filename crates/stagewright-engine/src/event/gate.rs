//! Gates and the answers to them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::{Capture, Timestamp};

/// The outcome of an unresolved attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "found", content = "detail")]
pub enum Finding {
    /// Its effect didn't happen, so it can run again.
    NotStarted,
    /// Its effect happened; describes what is in place.
    Applied(String),
    /// Its effect happened and failed; describes how.
    Failed(String),
}

/// A durable wait for a decision of people, for a time, or for a signal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Gate {
    /// Identifies this opening of the gate. For [`GateKind::Wait`], the token of the plugin, which can be the same each
    /// time.
    pub token: String,
    /// Why the stage waits.
    #[serde(default)]
    pub kind: GateKind,
    /// The question; for [`GateKind::Wait`], the plugin's reason.
    pub message: String,
    /// Users, and teams as `team:NAME`. If empty, anyone may answer.
    #[serde(default)]
    pub approvers: Vec<String>,
    /// The users among the approvers, and the members of the teams.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<String>,
    /// The number of approvals that it requires.
    pub approvals: u32,
    /// The environments that stages may act on once it is approved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environments: Vec<String>,
    /// The form that an approval fills in.
    #[serde(default)]
    pub fields: Vec<Field>,
    /// When it expires, which ends its stage as timed out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// When it lets the stage pass without an answer or a signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Digest of what an approval is given for: plugins, grants and inputs. Answers are void once it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<String>,
    /// The files that the stages behind it work on. None in journals of versions that captured none, for
    /// [`GateKind::Unresolved`] and [`GateKind::Wait`], and in rehearsals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture: Option<Capture>,
    /// The fences of the releases that were current in its environments, regions included, when it opened; an environment
    /// without a release isn't among them. An approval lapses where another run has deployed since. None for
    /// [`GateKind::Wait`], for gates that name no environment, and in journals of versions that didn't record it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub releases: Option<BTreeMap<String, u64>>,
}

/// Why a stage waits at a gate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GateKind {
    /// The plugin asks for an approval, and continues with the answer.
    #[default]
    Approval,
    /// The environment has approvers, and none of them has approved this run yet.
    Environment,
    /// The environment is frozen. The gate ends with the freeze; an approval overrides the freeze.
    Freeze,
    /// An attempt was interrupted and its plugin can't determine the outcome: `stagewright settle` records it.
    /// Journals have it as `doubt`.
    #[serde(rename = "doubt")]
    Unresolved,
    /// The plugin waits for something other than a person, between two calls of its `run`. It ends at [`Gate::until`] or
    /// with a signal, and can't be approved or rejected.
    Wait,
}

/// A field of a gate's form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Field {
    /// The key in [`Decision::fields`].
    pub name: String,
    /// The type of its value.
    pub kind: FieldKind,
    /// Shown next to it.
    pub description: String,
    /// Whether an approval must fill it in.
    pub required: bool,
    /// The texts of which its value must be one; empty if it may be any of its type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
}

/// The type of a gate's field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FieldKind {
    /// Any text.
    Text,
    /// A JSON number.
    Number,
    /// A JSON boolean.
    Boolean,
}

/// A person's answer to a gate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Decision {
    /// The gate's token.
    pub token: String,
    /// Whether the person approved.
    pub approved: bool,
    /// The person's name.
    pub by: String,
    /// When the answer was given, if the run received it later. The gate's expiry is checked against this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// The person's reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The values of the form, by field name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, Json>,
    /// Digest of the [`Capture`] that the person was shown and decided on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture: Option<String>,
    /// Whether a rehearsal gave the answer automatically.
    #[serde(default)]
    pub rehearsed: bool,
    /// For a gate of the kind [`GateKind::Unresolved`], the outcome of the attempt. Such an answer counts as an
    /// approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finding: Option<Finding>,
}
