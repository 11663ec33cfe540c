//! Questions to people, and their answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::{Capture, Timestamp};

/// What became of an attempt that was left in doubt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "found", content = "detail")]
pub enum Finding {
    /// Its effect didn't happen: it can run again.
    NotStarted,
    /// Its effect happened, and this is what is there.
    Applied(String),
    /// Its effect happened, and didn't work.
    Failed(String),
}

/// A question to a person.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Gate {
    /// Names this opening of the gate.
    pub token: String,
    /// What it waits for.
    #[serde(default)]
    pub kind: GateKind,
    /// What is asked.
    pub message: String,
    /// Users, and teams as `team:NAME`; empty means anybody.
    #[serde(default)]
    pub approvers: Vec<String>,
    /// The users among the approvers, and those that are in one of the teams.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<String>,
    /// How many must approve.
    pub approvals: u32,
    /// The environments that may be acted on once it is approved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environments: Vec<String>,
    /// What an approval must or may say.
    #[serde(default)]
    pub fields: Vec<Field>,
    /// When it lapses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// When it opens by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Digest of what an approval is given for: plugins, grants and inputs. When it changes, answers no longer count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<String>,
    /// The files that the stages behind it are given. None in the journals of versions that didn't capture any, for
    /// questions what became of an attempt, and in rehearsals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture: Option<Capture>,
}

/// What a gate waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GateKind {
    /// The plugin asks for an approval; it goes on with the answer.
    #[default]
    Approval,
    /// The environment has approvers, and none of them has approved of the run yet.
    Environment,
    /// The environment is frozen. It opens by itself when the freeze ends; an approval overrides the freeze.
    Freeze,
    /// An attempt was interrupted and its plugin can't determine the outcome: `stagewright settle` records it.
    /// Journals have it as `doubt`.
    #[serde(rename = "doubt")]
    Unresolved,
}

/// A field of a gate's form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Field {
    /// Its key.
    pub name: String,
    /// Its type.
    pub kind: FieldKind,
    /// Shown beside it.
    pub description: String,
    /// Whether an approval must fill it in.
    pub required: bool,
}

/// The type of a gate's field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FieldKind {
    /// Any text.
    Text,
    /// A JSON number.
    Number,
    /// Yes or no.
    Boolean,
}

/// A person's answer to a gate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Decision {
    /// The gate's token.
    pub token: String,
    /// Yes or no.
    pub approved: bool,
    /// Who.
    pub by: String,
    /// When it was given, where that was before the run took it up: an answer that came in time stays one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The form, filled in.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, Json>,
    /// Digest of the [`Capture`] that it is about, as the person was shown it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture: Option<String>,
    /// Whether a rehearsal answered by itself.
    #[serde(default)]
    pub rehearsed: bool,
    /// To a gate of the kind [`GateKind::Unresolved`]: the outcome of the attempt. It counts as a yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finding: Option<Finding>,
}
