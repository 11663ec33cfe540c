//! The stages of a run.

use serde::{Deserialize, Serialize};

/// A stage of the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StageSummaryEntry {
    /// Its unique name, matrix values included.
    pub id: String,
    /// Name of its table.
    pub name: String,
    /// When it runs.
    pub kind: StageKindName,
    /// `uses`.
    pub uses: String,
    /// Positions of the stages that it needs.
    pub needs: Vec<u32>,
    /// The environment that it acts on.
    pub environment: Option<String>,
    /// Digest of its plugin. Left out when the plugin wasn't inspected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// How far its effects can reach.
    pub effect: EffectClassName,
    /// How much of it is real, as far as that is known before it runs. Left out but in rehearsals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rehearsal: Option<FidelityName>,
}

/// When a stage runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StageKindName {
    /// Once the stages that it needs have ended.
    Main,
    /// Once all main stages have ended, however they did.
    Finally,
}

/// How far the effects of a stage can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EffectClassName {
    /// Not beyond its outputs and artifacts.
    Pure,
    /// Not beyond this machine.
    Local,
    /// Beyond this machine.
    External,
}

/// How much of a stage is real in a rehearsal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FidelityName {
    /// All of it.
    Real,
    /// It acts on stand-ins on this machine.
    StandIn,
    /// It says what it would have done.
    Rehearsed,
}
