//! A run's state as the fold of its events.
//!
//! Live scheduling and recovery both use [`RunState::apply`], and with it the same [`next_status`] table. A journal can
//! therefore not contain a transition that the scheduler can't make.

mod resumption;
mod transition;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;
use stagewright_model::StageIndex;

pub use self::resumption::{Resumption, WakeCause};
use self::transition::{next_status, next_undo};
use crate::event::{
    Decision, EventKind, FailedTest, Failure, Finding, Gate, GateKind, Interrupt, Made, Outcome, Release, Rollout,
    RunId, Signal,
};

/// The status of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StageStatus {
    /// Some of its needs haven't ended, or all slots are in use.
    Pending,
    /// This attempt is running.
    Running(u32),
    /// This attempt is unresolved: its plugin or a person determines its outcome.
    Recovering(u32),
    /// A gate is open: one that this attempt opened, one that it must pass before it starts, or one that asks for its
    /// outcome.
    Waiting(u32),
    /// The gate has enough approvals or has ended by itself: this attempt continues or starts.
    Approved(u32),
    /// The gate was rejected.
    Refused(u32),
    /// This attempt has ended; a retry or the end of the stage follows.
    AttemptEnded(u32),
    /// This attempt starts after the retry delay.
    Backoff(u32),
    /// The stage has ended.
    Ended {
        /// Raw result.
        outcome: Outcome,
        /// Result after `continue-on-error`.
        conclusion: Outcome,
    },
}

impl StageStatus {
    /// The result after `continue-on-error`; none until the stage has ended.
    pub fn conclusion(self) -> Option<Outcome> {
        match self {
            StageStatus::Ended { conclusion, .. } => Some(conclusion),
            _ => None,
        }
    }

    /// Whether it has ended in such a way that stages that need it may run.
    pub(crate) fn has_succeeded(self) -> bool {
        self.conclusion().is_some_and(Outcome::lets_dependents_run)
    }
}

/// An event that isn't valid in the current state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{event} can't happen to {subject}, which is {status}")]
pub struct IllegalTransition {
    /// A stage's id, or `the run`.
    pub subject: String,
    /// The status of the subject.
    pub status: String,
    /// The event's serialised type.
    pub event: String,
}

/// The state of one stage.
#[derive(Clone, Debug, PartialEq)]
pub struct StageState {
    /// Its status.
    pub status: StageStatus,
    /// Attempts started in total, including those before a resume.
    pub attempts: u32,
    /// Attempts started before the last resume, which don't count against `retry.max`.
    pub attempts_before: u32,
    /// The outputs of the last attempt that ended.
    pub outputs: BTreeMap<String, Json>,
    /// The only tests that the stage runs; none if it runs all of them.
    pub failed_tests: Option<Vec<FailedTest>>,
    /// The files that the last attempt that ended left where it may write.
    pub made: Option<Made>,
    /// The open gate, or the last one that was open. A wait isn't among them: no approval, and no files, follow from it,
    /// so those of the last gate must remain.
    pub gate: Option<Box<Gate>>,
    /// The answers to that gate.
    pub decisions: Vec<Decision>,
    /// The gate of the kind [`GateKind::Wait`] at which the attempt waits, or that it has passed and not continued after
    /// yet.
    pub wait: Option<Box<Gate>>,
    /// With what the attempt continues after a gate that it opened itself.
    pub resumption: Option<Resumption>,
    /// The result of the last attempt.
    pub last_outcome: Option<Outcome>,
    /// The approved gates of the stage, oldest first. A later gate, for example for a freeze, replaces
    /// [`gate`](StageState::gate), but the approvals given at the earlier ones remain valid.
    pub approved_gates: Vec<ApprovedGate>,
    /// The unresolved attempt: its effect or its compensation was about to happen, and its outcome isn't known.
    pub unresolved_attempt: Option<u32>,
    /// Whether an attempt recorded the intent to have an effect.
    pub acted: bool,
    /// The environment's fence that the stage last acted under, with an attempt or its compensation.
    pub fence: Option<u64>,
    /// The environment's fence of the last attempt. A later compensation has a newer one.
    pub attempt_fence: Option<u64>,
    /// All fences of the environment that the stage has acted under in this run.
    pub fences: BTreeSet<u64>,
    /// The release that is in place: that of the last attempt, or the one that its compensation restored.
    pub release: Option<Box<Release>>,
    /// How far its deploy was when its plugin last recorded that.
    pub rollout: Option<Box<Rollout>>,
    /// Whether the release is known good.
    pub confirmed: bool,
    /// The state of its compensation.
    pub undo: UndoState,
    /// The `seq` of the event that ended it.
    pub ended: Option<u64>,
}

/// An approved gate. Its approvals are valid only for what this gate asked.
#[derive(Clone, Debug, PartialEq)]
pub struct ApprovedGate {
    /// The gate.
    pub gate: Gate,
    /// The answers to it.
    pub answers: Vec<Decision>,
}

/// The state of a stage's compensation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UndoState {
    /// It hasn't started.
    #[default]
    NotStarted,
    /// It is in progress.
    Started,
    /// It has ended.
    Ended(Outcome),
}

impl StageState {
    const NEW: StageState = StageState {
        status: StageStatus::Pending,
        attempts: 0,
        attempts_before: 0,
        outputs: BTreeMap::new(),
        failed_tests: None,
        made: None,
        gate: None,
        decisions: Vec::new(),
        wait: None,
        resumption: None,
        last_outcome: None,
        approved_gates: Vec::new(),
        unresolved_attempt: None,
        acted: false,
        fence: None,
        attempt_fence: None,
        fences: BTreeSet::new(),
        release: None,
        rollout: None,
        confirmed: false,
        undo: UndoState::NotStarted,
        ended: None,
    };

    /// The gate that is open, has just been passed, or was open last.
    pub fn current_gate(&self) -> Option<&Gate> {
        self.wait.as_deref().or(self.gate.as_deref())
    }

    /// The kind of the current or last gate.
    pub fn gate_kind(&self) -> Option<GateKind> {
        self.current_gate().map(|gate| gate.kind)
    }

    /// Whether its attempt is between two calls of its plugin, and the next one comes by itself: it waits until a time,
    /// or has just done so. Such an attempt holds no slot, but keeps its environment like a running one.
    pub(crate) fn is_between_calls(&self) -> bool {
        self.wait.as_ref().is_some_and(|wait| wait.until.is_some())
    }

    /// Whether the attempt has started, as opposed to waiting at a gate before its start.
    pub(crate) fn has_begun(&self, attempt: u32) -> bool {
        self.attempts >= attempt && self.gate_kind() != Some(GateKind::Unresolved)
    }
}

/// The state of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct RunState {
    /// The run's id; none until it has started.
    pub run: Option<RunId>,
    /// The stages, by plan index.
    pub stages: Vec<StageState>,
    /// The most urgent cancellation requested.
    pub cancel: Option<Interrupt>,
    /// The result; none until the run has ended.
    pub conclusion: Option<Outcome>,
    /// Whether it holds its concurrency group.
    pub in_group: bool,
    /// Signals that no wait was open for, oldest first.
    pub signals: Vec<Signal>,
    /// The `seq` of the next event.
    pub next_seq: u64,
    ids: Vec<String>,
}

impl RunState {
    /// The state before the first event; `ids` are the stages' unique names, by plan index.
    pub fn new(ids: Vec<String>) -> RunState {
        let stages = vec![StageState::NEW; ids.len()];
        RunState {
            run: None,
            stages,
            cancel: None,
            conclusion: None,
            in_group: false,
            signals: Vec::new(),
            next_seq: 0,
            ids,
        }
    }

    /// The stage at `index`.
    pub fn stage(&self, index: StageIndex) -> &StageState {
        &self.stages[index.get()]
    }

    /// Applies one event. One that isn't valid in the current state changes nothing.
    pub fn apply(&mut self, event: &EventKind) -> Result<(), IllegalTransition> {
        match event {
            EventKind::RunStarted { run, .. } => {
                if self.run.is_some() {
                    return Err(self.illegal_for_run("started", event));
                }
                self.run = Some(run.clone());
            }
            EventKind::RunResumed { again, .. } => self.resume(again, event)?,
            EventKind::CancelRequested { how, .. } => self.cancel = self.cancel.max(Some(*how)),
            EventKind::RunEnded { conclusion } => {
                if self.conclusion.is_some() {
                    return Err(self.illegal_for_run("ended", event));
                }
                self.conclusion = Some(*conclusion);
            }
            EventKind::GroupJoined { .. } => self.in_group = true,
            EventKind::GroupLeft { .. } => self.in_group = false,
            EventKind::RunSuspended { .. }
            | EventKind::GroupAwaited { .. }
            | EventKind::EnvironmentAwaited { .. }
            | EventKind::Summary { .. }
            | EventKind::CacheLookedUp { .. }
            | EventKind::Problem { .. }
            | EventKind::TestsReported { .. }
            | EventKind::MetricsReported { .. }
            | EventKind::Log { .. }
            | EventKind::DecisionRefused { .. }
            | EventKind::SignalRefused { .. }
            | EventKind::Progress { .. } => {}
            EventKind::SignalKept { signal } => {
                if self.conclusion.is_some() {
                    return Err(self.illegal_for_run("ended", event));
                }
                self.signals.push(signal.clone());
            }
            EventKind::TestsSelected { stage, tests, .. } => {
                self.known(*stage, event)?.failed_tests = Some(tests.clone());
            }
            EventKind::OutputsInherited { stage, outputs, .. } => {
                self.known(*stage, event)?.outputs.clone_from(outputs);
            }
            EventKind::AttemptStarted { stage, attempt, fence } => {
                let state = self.step(*stage, event)?;
                state.attempts = *attempt;
                state.fence = *fence;
                state.attempt_fence = *fence;
                state.fences.extend(fence);
                state.wait = None;
                state.unresolved_attempt = state.unresolved_attempt.filter(|unresolved| unresolved == attempt);
            }
            EventKind::EffectIntended { stage, attempt, .. } => {
                if self.known(*stage, event)?.status != StageStatus::Running(*attempt) {
                    return Err(self.illegal_for_stage(*stage, event));
                }
                let state = &mut self.stages[stage.get()];
                state.unresolved_attempt = Some(*attempt);
                state.acted = true;
            }
            EventKind::ArtifactPublished { stage, attempt, .. } => {
                if !self.is_under_way(*stage, *attempt, event)? {
                    return Err(self.illegal_for_stage(*stage, event));
                }
            }
            EventKind::GateOpened { stage, gate, .. } if gate.kind == GateKind::Wait => {
                self.step(*stage, event)?.wait = Some(Box::new(gate.clone()));
            }
            EventKind::GateOpened { stage, gate, .. } => {
                let state = self.step(*stage, event)?;
                // The binding is the digest of the plugins, grants and inputs that the gate is about. Approvals with
                // another one were given for something else than what would run now. They must not let the stage act on
                // its environment, so each of them has to be given again.
                state.approved_gates.retain(|approved| approved.gate.binding == gate.binding);
                state.gate = Some(Box::new(gate.clone()));
                state.wait = None;
                state.decisions.clear();
            }
            EventKind::GateElapsed { stage } => {
                let state = self.step(*stage, event)?;
                if let Some(wait) = &state.wait {
                    state.resumption = Some(Resumption::after_poll(wait, state.resumption.take()));
                }
            }
            EventKind::GateSignalled { stage, signal } => {
                let state = self.step(*stage, event)?;
                state.resumption = Some(Resumption::after_signal(signal, state.resumption.take()));
                self.signals.retain(|kept| kept != signal);
            }
            EventKind::GateDecided { stage, decision } => {
                let state = self.step(*stage, event)?;
                state.decisions.push(decision.clone());
                if state.gate_kind() == Some(GateKind::Approval) {
                    state.resumption = Some(Resumption::Answers(state.decisions.clone()));
                }
                if matches!(state.status, StageStatus::Approved(_)) {
                    let answers = state.decisions.clone();
                    let gate = state.gate.as_deref().cloned();
                    state.approved_gates.extend(gate.map(|gate| ApprovedGate { gate, answers }));
                }
            }
            EventKind::AttemptEnded { stage, outcome, failure, outputs, made, .. } => {
                // An attempt that ends at a gate hasn't reported how the effect ended that it began before the gate.
                let has_reported = matches!(self.known(*stage, event)?.status, StageStatus::Running(_));
                let state = self.step(*stage, event)?;
                state.last_outcome = Some(*outcome);
                state.outputs.clone_from(outputs);
                state.made.clone_from(made);
                state.wait = None;
                state.resumption = None;
                if has_reported && is_certain(*outcome, failure.as_ref()) {
                    state.unresolved_attempt = None;
                }
            }
            EventKind::Recovered { stage, finding, outputs, .. } => {
                let state = self.step(*stage, event)?;
                state.unresolved_attempt = None;
                let (outcome, outputs) = match finding {
                    Finding::NotStarted => (None, BTreeMap::new()),
                    Finding::Applied(_) => (Some(Outcome::Succeeded), outputs.clone()),
                    Finding::Failed(_) => (Some(Outcome::Failed), outputs.clone()),
                };
                state.last_outcome = outcome.or(state.last_outcome);
                state.outputs = outputs;
            }
            EventKind::RolloutProgressed { stage, attempt, rollout, .. } => {
                if !self.is_under_way(*stage, *attempt, event)? {
                    return Err(self.illegal_for_stage(*stage, event));
                }
                self.stages[stage.get()].rollout = Some(rollout.clone());
            }
            EventKind::ReleaseRecorded { stage, release, .. } => {
                let state = self.known(*stage, event)?;
                state.release = Some(Box::new(release.clone()));
                state.confirmed = false;
            }
            EventKind::ReleaseConfirmed { stage } => self.known(*stage, event)?.confirmed = true,
            EventKind::UndoStarted { stage, .. } | EventKind::UndoEnded { stage, .. } => {
                let state = self.known(*stage, event)?;
                let Some(undo) = next_undo(state, event) else {
                    return Err(self.illegal_for_stage(*stage, event));
                };
                state.undo = undo;
                match (event, undo) {
                    (EventKind::UndoStarted { attempt, fence, .. }, _) => {
                        state.fences.extend(fence);
                        state.fence = fence.or(state.fence);
                        state.unresolved_attempt = Some(*attempt);
                    }
                    (_, UndoState::Ended(Outcome::Succeeded)) => {
                        state.release = None;
                        state.unresolved_attempt = None;
                    }
                    (_, UndoState::Ended(Outcome::Skipped | Outcome::Rehearsed)) => state.unresolved_attempt = None,
                    // A compensation that failed may have had its effect in part, so the attempt stays unresolved.
                    _ => {}
                }
            }
            EventKind::StageEnded { stage, .. } => {
                let seq = self.next_seq;
                self.step(*stage, event)?.ended = Some(seq);
            }
            EventKind::RecoveryStarted { stage, .. } => {
                // A resume in the status `Recovering` applies the last decision if it has a finding, in case the run
                // was interrupted between the answer and `Recovered`. A decision that settled an earlier attempt must
                // not be there any more, or it would be recorded as the outcome of this one without asking its plugin.
                self.step(*stage, event)?.decisions.clear();
            }
            EventKind::RetryScheduled { stage, .. } => {
                self.step(*stage, event)?;
            }
        }
        if event.is_recorded() {
            self.next_seq += 1;
        }
        Ok(())
    }

    /// Resets the stages that run again. An unresolved attempt and the fences survive the reset: the plugin must still
    /// be asked for the attempt's outcome, under the fence that it acted with, before the stage may start again. So does
    /// the selection of its tests, which belongs to the run, and its rollout, which the next attempt continues.
    fn resume(&mut self, again: &[StageIndex], event: &EventKind) -> Result<(), IllegalTransition> {
        if self.run.is_none() {
            return Err(self.illegal_for_run("not started", event));
        }
        self.conclusion = None;
        self.cancel = None;
        self.in_group = false;
        for &index in again {
            let state = self.known(index, event)?;
            let StageState { attempts, unresolved_attempt, fence, attempt_fence, .. } = *state;
            let (rollout, fences) = (state.rollout.take(), std::mem::take(&mut state.fences));
            *state = StageState {
                attempts,
                attempts_before: attempts,
                failed_tests: state.failed_tests.take(),
                unresolved_attempt,
                fence,
                attempt_fence,
                fences,
                rollout,
                ..StageState::NEW
            };
        }
        Ok(())
    }

    /// Whether the plugin of an attempt is being called, for its `run`, `observe` or `undo`.
    fn is_under_way(&mut self, stage: StageIndex, attempt: u32, event: &EventKind) -> Result<bool, IllegalTransition> {
        let state = self.known(stage, event)?;
        Ok(match state.status {
            StageStatus::Running(now) | StageStatus::Recovering(now) => now == attempt,
            _ => state.undo == UndoState::Started,
        })
    }

    fn known(&mut self, index: StageIndex, event: &EventKind) -> Result<&mut StageState, IllegalTransition> {
        self.stages.get_mut(index.get()).ok_or_else(|| IllegalTransition {
            subject: format!("stage {}", index.0),
            status: "not in the plan".to_owned(),
            event: name_of(event),
        })
    }

    fn step(&mut self, index: StageIndex, event: &EventKind) -> Result<&mut StageState, IllegalTransition> {
        let next = next_status(self.known(index, event)?, event);
        match next {
            Some(next) => {
                let state = &mut self.stages[index.get()];
                state.status = next;
                Ok(state)
            }
            None => Err(self.illegal_for_stage(index, event)),
        }
    }

    fn illegal_for_stage(&self, index: StageIndex, event: &EventKind) -> IllegalTransition {
        IllegalTransition {
            subject: self.ids[index.get()].clone(),
            status: format!("{:?}", self.stages[index.get()].status),
            event: name_of(event),
        }
    }

    fn illegal_for_run(&self, status: &str, event: &EventKind) -> IllegalTransition {
        IllegalTransition { subject: "the run".to_owned(), status: status.to_owned(), event: name_of(event) }
    }
}

/// Whether the outcome of an attempt is also the outcome of its effects. A plugin that returned knows what it did. One
/// that was stopped, trapped or lost can have been interrupted at any point of an effect.
fn is_certain(outcome: Outcome, failure: Option<&Failure>) -> bool {
    outcome.is_certain() && !failure.is_some_and(|failure| failure.kind.is_interruption())
}

fn name_of(event: &EventKind) -> String {
    match serde_json::to_value(event) {
        Ok(Json::Object(fields)) => fields.get("type").and_then(Json::as_str).unwrap_or("an event").to_owned(),
        _ => "an event".to_owned(),
    }
}
