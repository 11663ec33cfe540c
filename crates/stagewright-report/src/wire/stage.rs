//! The stages of a run.

use stagewright_api as api;
use stagewright_engine::{EffectClass, Fidelity, StageSummary};
use stagewright_model::StageKind;

use super::ToWire;

impl ToWire for StageSummary {
    type Wire = api::StageSummaryEntry;

    fn to_wire(&self) -> api::StageSummaryEntry {
        let StageSummary { id, name, kind, uses, needs, environment, plugin, effect, rehearsal } = self;
        api::StageSummaryEntry {
            id: id.clone(),
            name: name.clone(),
            kind: kind.to_wire(),
            uses: uses.clone(),
            needs: needs.to_wire(),
            environment: environment.clone(),
            plugin: plugin.as_deref().map(str::to_owned),
            effect: effect.to_wire(),
            rehearsal: rehearsal.to_wire(),
        }
    }
}

impl ToWire for StageKind {
    type Wire = api::StageKindName;

    fn to_wire(&self) -> api::StageKindName {
        match self {
            StageKind::Main => api::StageKindName::Main,
            StageKind::Finally => api::StageKindName::Finally,
        }
    }
}

impl ToWire for EffectClass {
    type Wire = api::EffectClassName;

    fn to_wire(&self) -> api::EffectClassName {
        match self {
            EffectClass::Pure => api::EffectClassName::Pure,
            EffectClass::Local => api::EffectClassName::Local,
            EffectClass::External => api::EffectClassName::External,
        }
    }
}

impl ToWire for Fidelity {
    type Wire = api::FidelityName;

    fn to_wire(&self) -> api::FidelityName {
        match self {
            Fidelity::Real => api::FidelityName::Real,
            Fidelity::StandIn => api::FidelityName::StandIn,
            Fidelity::Rehearsed => api::FidelityName::Rehearsed,
        }
    }
}
