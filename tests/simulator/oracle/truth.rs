//! The model of a run: where each of its stages stands, as far as the engine may know.

use std::sync::Arc;

use stagewright_engine::{Decision, FailureKind, Gate, GateKind, Interrupt, Outcome, UndoState};
use stagewright_model::StageIndex;

/// Where a stage stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing of it is under way or decided.
    #[default]
    Free,
    Running(u32),
    /// An attempt has ended, and what follows from that comes next.
    Over(Over),
    /// A gate is open.
    Waiting(u32),
    /// The gate lets the attempt begin, or go on.
    Passed(u32),
    Refused(u32),
    /// It is to be tried again as this attempt.
    Backoff(u32),
    /// Its plugin observes the outcome of the attempt.
    Observing(u32),
    /// A person has settled the attempt.
    Answered(u32),
    Done {
        outcome: Outcome,
        conclusion: Outcome,
    },
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Over {
    pub(crate) attempt: u32,
    pub(crate) outcome: Outcome,
    pub(crate) kind: Option<FailureKind>,
    /// Whether `continue-on-error` can pass over it: it can when the plugin itself failed.
    pub(crate) is_own: bool,
    /// Whether another try is a question at all.
    pub(crate) may_retry: bool,
}

/// A stage.
#[derive(Clone, Debug, Default)]
pub(crate) struct StageTruth {
    pub(crate) phase: Phase,
    /// The highest number of an attempt that began.
    pub(crate) attempts: u32,
    /// Those before the last resume that ran it again.
    pub(crate) before: u32,
    /// The highest number that an attempt may have.
    pub(crate) granted: u32,
    /// The gate that is open or was last, and the answers to it.
    pub(crate) gate: Option<Arc<Gate>>,
    pub(crate) votes: Vec<Decision>,
    /// Votes with which the attempt of that number goes on.
    pub(crate) goes_on_with: Option<(u32, Vec<Decision>)>,
    /// Who let it pass at the gates that the engine put before it, and what for.
    pub(crate) admitted: Vec<(GateKind, String, Option<String>)>,
    /// The attempt that may have had an effect, and of whose end nothing certain is known.
    pub(crate) doubt: Option<u32>,
    pub(crate) acted: bool,
    /// Whether an attempt began on its environment.
    pub(crate) has_acted_on_environment: bool,
    /// Whether it was asked about since the run was resumed.
    pub(crate) was_in_doubt: bool,
    /// The place of its end among those of all stages.
    pub(crate) ended: Option<u64>,
    pub(crate) undo: UndoState,
    pub(crate) release: bool,
    pub(crate) confirmed: bool,
    /// Artifacts that were recorded of the last call of its plugin.
    pub(crate) artifacts: usize,
}

impl StageTruth {
    pub(crate) fn conclusion(&self) -> Option<Outcome> {
        match self.phase {
            Phase::Done { conclusion, .. } => Some(conclusion),
            _ => None,
        }
    }

    pub(crate) fn has_succeeded(&self) -> bool {
        self.conclusion() == Some(Outcome::Succeeded)
    }

    /// The kind of the gate at which it stands, stood last or came past.
    pub(crate) fn gate_kind(&self) -> Option<GateKind> {
        self.gate.as_ref().map(|gate| gate.kind)
    }

    /// Whether it stands at, or came past, a gate that its own attempt opened.
    pub(crate) fn is_at_own_gate(&self) -> bool {
        let stands = matches!(self.phase, Phase::Waiting(_) | Phase::Passed(_) | Phase::Refused(_));
        stands && self.gate_kind() != Some(GateKind::Unresolved) && self.phase.attempt() == Some(self.attempts)
    }
}

impl Phase {
    pub(crate) fn attempt(self) -> Option<u32> {
        match self {
            Phase::Running(attempt)
            | Phase::Waiting(attempt)
            | Phase::Passed(attempt)
            | Phase::Refused(attempt)
            | Phase::Backoff(attempt)
            | Phase::Observing(attempt)
            | Phase::Answered(attempt) => Some(attempt),
            Phase::Over(over) => Some(over.attempt),
            Phase::Free | Phase::Done { .. } => None,
        }
    }
}

/// A run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Truth {
    pub(crate) stages: Vec<StageTruth>,
    pub(crate) started: bool,
    pub(crate) cancelled: Option<Interrupt>,
    pub(crate) ended: Option<Outcome>,
    pub(crate) in_group: bool,
    /// Stages to be compensated, next first, each with the stage whose failure requires it.
    pub(crate) undo: Vec<(StageIndex, StageIndex)>,
    /// Ends of stages so far.
    pub(crate) ends: u64,
}

impl Truth {
    pub(crate) fn new(stages: usize) -> Truth {
        let stages = vec![StageTruth { granted: 1, ..StageTruth::default() }; stages];
        Truth { stages, ..Truth::default() }
    }

    pub(crate) fn stage(&self, index: StageIndex) -> &StageTruth {
        &self.stages[index.get()]
    }

    pub(crate) fn stage_mut(&mut self, index: StageIndex) -> &mut StageTruth {
        &mut self.stages[index.get()]
    }

    pub(crate) fn conclusion(&self, index: StageIndex) -> Option<Outcome> {
        self.stage(index).conclusion()
    }
}
