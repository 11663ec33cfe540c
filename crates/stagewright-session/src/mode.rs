//! The mode of a run: real, or a rehearsal.

use stagewright_engine::{EffectClass, RunSource};
use stagewright_model::{RehearsalTerms, Stage};
use stagewright_plugin_host::{Description, Pulls};

/// The mode of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunMode {
    /// A real run, with all effects.
    Real,
    /// A rehearsal: nothing leaves the machine, because every effect has a stand-in, is refused, or has an explicit
    /// grant.
    Rehearsal {
        /// Whether it has no network at all.
        offline: bool,
    },
    /// A rehearsal on a copy of the workspace in which stages have more than their grants, to learn what they use.
    Learning,
}

impl RunMode {
    /// Whether it is a rehearsal, which learning runs are, too.
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
            RunMode::Learning => Some(RehearsalTerms::of(stage, false)),
        }
    }

    /// The effect class of a stage with the grants that it has in this mode.
    pub fn effect_class(self, stage: &Stage, description: &Description) -> EffectClass {
        match self.terms(stage) {
            None => stage.effect_class(description.code()),
            Some(terms) => terms.effect_class(stage, description.code()),
        }
    }

    pub(crate) fn pulls(self) -> Pulls {
        match self {
            RunMode::Real => Pulls::WithCredentials,
            RunMode::Rehearsal { offline: false } | RunMode::Learning => Pulls::Anonymous,
            RunMode::Rehearsal { offline: true } => Pulls::Never,
        }
    }
}

/// The mode of a recorded run.
pub(crate) fn mode_of(rehearsal: bool, source: &RunSource) -> RunMode {
    match rehearsal {
        true if source.learning => RunMode::Learning,
        true => RunMode::Rehearsal { offline: source.offline },
        false => RunMode::Real,
    }
}
