//! The stages of a run.

use stagewright_api as api;
use stagewright_engine::{EffectClass, Fidelity, StageSummary};
use stagewright_model::StageKind;

use super::ToWire;

impl ToWire for StageSummary {
    type Wire = api::StageSummary;

    fn to_wire(&self) -> api::StageSummary {
        let StageSummary { id, name, kind, uses, needs, environment, plugin, effect, rehearsal } = self;
        api::StageSummary {
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
    type Wire = api::StageKind;

    fn to_wire(&self) -> api::StageKind {
        match self {
            StageKind::Main => api::StageKind::Main,
            StageKind::Finally => api::StageKind::Finally,
        }
    }
}

impl ToWire for EffectClass {
    type Wire = api::EffectClass;

    fn to_wire(&self) -> api::EffectClass {
        match self {
            EffectClass::Pure => api::EffectClass::Pure,
            EffectClass::Local => api::EffectClass::Local,
            EffectClass::External => api::EffectClass::External,
        }
    }
}

impl ToWire for Fidelity {
    type Wire = api::Fidelity;

    fn to_wire(&self) -> api::Fidelity {
        match self {
            Fidelity::Real => api::Fidelity::Real,
            Fidelity::StandIn => api::Fidelity::StandIn,
            Fidelity::Rehearsed => api::Fidelity::Rehearsed,
        }
    }
}
