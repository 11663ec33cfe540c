//! The model of a run: the phase of each of its stages, as far as the engine can know it.

use std::sync::Arc;

use serde_json::Value as Json;
use stagewright_engine::{Decision, FailureKind, Gate, GateKind, Interrupt, Outcome, Signal, Timestamp, UndoState};
use stagewright_model::StageIndex;

/// The phase of a stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No attempt is running, and nothing is decided.
    #[default]
    Free,
    Running(u32),
    /// An attempt has ended; its consequence comes next.
    AttemptEnded(EndedAttempt),
    /// A gate is open.
    Waiting(u32),
    /// The gate was passed; the attempt can begin or continue.
    Passed(u32),
    Refused(u32),
    /// It is to be retried as this attempt.
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
pub(crate) struct EndedAttempt {
    pub(crate) attempt: u32,
    pub(crate) outcome: Outcome,
    pub(crate) kind: Option<FailureKind>,
    /// Whether `continue-on-error` applies: it does when the plugin itself failed.
    pub(crate) is_own: bool,
    /// Whether a retry is possible.
    pub(crate) may_retry: bool,
}

/// A stage.
#[derive(Clone, Debug, Default)]
pub(crate) struct StageTruth {
    pub(crate) phase: Phase,
    /// The highest number of an attempt that has begun.
    pub(crate) attempts: u32,
    /// The number of attempts before the last resume that ran it again.
    pub(crate) before: u32,
    /// The highest number that an attempt may have.
    pub(crate) granted: u32,
    /// The open or last gate, with the answers to it.
    pub(crate) gate: Option<Arc<Gate>>,
    pub(crate) votes: Vec<Decision>,
    /// The wait at which its attempt is, or that has ended and that it hasn't continued after.
    pub(crate) wait: Option<OpenWait>,
    /// The votes that the attempt of that number continues with.
    pub(crate) goes_on_with: Option<(u32, Vec<Decision>)>,
    /// What ended the last wait of its attempt: the token, and the payload of a signal.
    pub(crate) woken: Option<(String, Option<Json>)>,
    /// Who approved it at the engine's gates before it, and for which binding.
    pub(crate) admitted: Vec<(GateKind, String, Option<String>)>,
    /// An attempt that may have had an effect, and whose outcome is unknown.
    pub(crate) doubt: Option<u32>,
    pub(crate) acted: bool,
    /// Whether an attempt began on its environment.
    pub(crate) has_acted_on_environment: bool,
    /// Whether it was observed since the run was resumed.
    pub(crate) was_in_doubt: bool,
    /// The position of its end among the ends of all stages.
    pub(crate) ended: Option<u64>,
    pub(crate) undo: UndoState,
    pub(crate) release: bool,
    pub(crate) confirmed: bool,
    /// The number of recorded artifacts of its plugin's last call.
    pub(crate) artifacts: usize,
}

/// A wait of an attempt.
#[derive(Clone, Debug)]
pub(crate) struct OpenWait {
    pub(crate) token: String,
    /// When it is polled; none if it waits for a signal alone.
    pub(crate) until: Option<Timestamp>,
    /// When it ends its stage.
    pub(crate) expires: Option<Timestamp>,
}

impl OpenWait {
    /// Whether it ends its stage before it would be polled.
    pub(crate) fn expires_first(&self) -> bool {
        self.expires.is_some_and(|expires| self.until.is_none_or(|until| expires < until))
    }
}

impl StageTruth {
    /// Whether its attempt waits for a time or a signal.
    pub(crate) fn is_open_wait(&self) -> bool {
        matches!(self.phase, Phase::Waiting(_)) && self.wait.is_some()
    }

    /// Whether its attempt is between two calls, and the next one comes by itself.
    pub(crate) fn is_between_calls(&self) -> bool {
        self.wait.as_ref().is_some_and(|wait| wait.until.is_some())
    }

    pub(crate) fn conclusion(&self) -> Option<Outcome> {
        match self.phase {
            Phase::Done { conclusion, .. } => Some(conclusion),
            _ => None,
        }
    }

    pub(crate) fn has_succeeded(&self) -> bool {
        self.conclusion() == Some(Outcome::Succeeded)
    }

    /// The kind of the gate that is open, was open last, or was passed.
    pub(crate) fn gate_kind(&self) -> Option<GateKind> {
        self.wait.as_ref().map(|_| GateKind::Wait).or(self.gate.as_ref().map(|gate| gate.kind))
    }

    /// Whether it waits at, or has passed, a gate that its own attempt opened.
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
            Phase::AttemptEnded(over) => Some(over.attempt),
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
    /// The number of stages that have ended.
    pub(crate) ends: u64,
    /// Signals that no stage waited for, oldest first.
    pub(crate) kept: Vec<Signal>,
    /// The stage whose wait has just begun and must end with a kept signal at once.
    pub(crate) owed: Option<StageIndex>,
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
