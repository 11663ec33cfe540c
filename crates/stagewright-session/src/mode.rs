//! Whether a run has its effects, or rehearses.

use stagewright_engine::{EffectClass, RunSource};
use stagewright_model::{RehearsalTerms, Stage};
use stagewright_plugin_host::{Description, Pulls};

/// Whether a run is for real.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunMode {
    /// It has its effects.
    Real,
    /// Nothing leaves the machine: every way out has a stand-in, a refusal, or a grant of its own.
    Rehearsal {
        /// Without any network.
        offline: bool,
    },
}

impl RunMode {
    /// Whether nothing leaves the machine.
    pub fn is_rehearsal(self) -> bool {
        self != RunMode::Real
    }

    /// Whether it is a rehearsal without any network.
    pub fn is_offline(self) -> bool {
        self == RunMode::Rehearsal { offline: true }
    }

    /// The terms of a stage in a rehearsal; none in a real run.
    pub fn terms(self, stage: &Stage) -> Option<RehearsalTerms> {
        match self {
            RunMode::Real => None,
            RunMode::Rehearsal { offline } => Some(RehearsalTerms::of(stage, offline)),
        }
    }

    /// How far the effects of a stage can reach, with all that it is granted in such a run.
    pub fn effect_class(self, stage: &Stage, description: &Description) -> EffectClass {
        match self.terms(stage) {
            None => stage.effect_class(description.code()),
            Some(terms) => terms.effect_class(stage, description.code()),
        }
    }

    pub(crate) fn pulls(self) -> Pulls {
        match self {
            RunMode::Real => Pulls::WithCredentials,
            RunMode::Rehearsal { offline: false } => Pulls::Anonymous,
            RunMode::Rehearsal { offline: true } => Pulls::Never,
        }
    }
}

/// How a recorded run was started.
pub(crate) fn mode_of(rehearsal: bool, source: &RunSource) -> RunMode {
    match rehearsal {
        true => RunMode::Rehearsal { offline: source.offline },
        false => RunMode::Real,
    }
}
