//! A run's state as the fold of its events.
//!
//! Live scheduling and recovery both use [`RunState::apply`], and with it the same [`next_status`] table. A journal can
//! therefore not contain a transition that the scheduler can't make.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use stagewright_model::StageIndex;

use crate::event::{Decision, EventKind, Failure, Finding, Gate, GateKind, Interrupt, Made, Outcome, Release, RunId};

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
    /// The gate has enough approvals: this attempt continues or starts.
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
    /// The files that the last attempt that ended left where it may write.
    pub made: Option<Made>,
    /// The open gate, or the last one that was open.
    pub gate: Option<Box<Gate>>,
    /// The answers to that gate.
    pub decisions: Vec<Decision>,
    /// The answers to the gate that the attempt itself opened, with which it continues.
    pub resumption: Vec<Decision>,
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
    /// The release that is in place: that of the last attempt, or the one that its compensation restored.
    pub release: Option<Box<Release>>,
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
        made: None,
        gate: None,
        decisions: Vec::new(),
        resumption: Vec::new(),
        last_outcome: None,
        approved_gates: Vec::new(),
        unresolved_attempt: None,
        acted: false,
        fence: None,
        attempt_fence: None,
        release: None,
        confirmed: false,
        undo: UndoState::NotStarted,
        ended: None,
    };

    /// The kind of the current or last gate.
    pub fn gate_kind(&self) -> Option<GateKind> {
        self.gate.as_ref().map(|gate| gate.kind)
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
    /// The `seq` of the next event.
    pub next_seq: u64,
    ids: Vec<String>,
}

impl RunState {
    /// The state before the first event; `ids` are the stages' unique names, by plan index.
    pub fn new(ids: Vec<String>) -> RunState {
        let stages = vec![StageState::NEW; ids.len()];
        RunState { run: None, stages, cancel: None, conclusion: None, in_group: false, next_seq: 0, ids }
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
            | EventKind::Progress { .. } => {}
            EventKind::OutputsInherited { stage, outputs, .. } => {
                self.known(*stage, event)?.outputs.clone_from(outputs);
            }
            EventKind::AttemptStarted { stage, attempt, fence } => {
                let state = self.step(*stage, event)?;
                state.attempts = *attempt;
                state.fence = *fence;
                state.attempt_fence = *fence;
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
                let state = self.known(*stage, event)?;
                let is_under_way = match state.status {
                    StageStatus::Running(now) | StageStatus::Recovering(now) => now == *attempt,
                    _ => state.undo == UndoState::Started,
                };
                if !is_under_way {
                    return Err(self.illegal_for_stage(*stage, event));
                }
            }
            EventKind::GateOpened { stage, gate, .. } => {
                let state = self.step(*stage, event)?;
                // The binding is the digest of the plugins, grants and inputs that the gate is about. If it differs
                // from that of the earlier gate, the approvals collected so far were given for something else than what
                // would run now. They must not let the stage act on its environment, so each of them has to be given
                // again.
                if state.gate.as_ref().is_some_and(|earlier| earlier.binding != gate.binding) {
                    state.approved_gates.clear();
                }
                state.gate = Some(Box::new(gate.clone()));
                state.decisions.clear();
            }
            EventKind::GateDecided { stage, decision } => {
                let state = self.step(*stage, event)?;
                state.decisions.push(decision.clone());
                if state.gate_kind() == Some(GateKind::Approval) {
                    state.resumption.clone_from(&state.decisions);
                }
                if matches!(state.status, StageStatus::Approved(_)) {
                    let answers = state.decisions.clone();
                    let gate = state.gate.as_deref().cloned();
                    state.approved_gates.extend(gate.map(|gate| ApprovedGate { gate, answers }));
                }
            }
            EventKind::AttemptEnded { stage, outcome, failure, outputs, made, .. } => {
                let state = self.step(*stage, event)?;
                state.last_outcome = Some(*outcome);
                state.outputs.clone_from(outputs);
                state.made.clone_from(made);
                state.resumption.clear();
                if is_certain(*outcome, failure.as_ref()) {
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
            EventKind::RetryScheduled { stage, .. } | EventKind::GateElapsed { stage } => {
                self.step(*stage, event)?;
            }
        }
        if event.is_recorded() {
            self.next_seq += 1;
        }
        Ok(())
    }

    /// Resets the stages that run again. An unresolved attempt and the fences survive the reset: the plugin must still
    /// be asked for the attempt's outcome, under the fence that it acted with, before the stage may start again.
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
            let attempts_before = attempts;
            *state =
                StageState { attempts, attempts_before, unresolved_attempt, fence, attempt_fence, ..StageState::NEW };
        }
        Ok(())
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

/// The status that an event leads to; none if the event isn't valid. The only definition of the transitions.
fn next_status(state: &StageState, event: &EventKind) -> Option<StageStatus> {
    use EventKind as E;
    use StageStatus as S;
    Some(match (state.status, event) {
        (S::Pending, E::AttemptStarted { attempt, .. }) if *attempt == state.attempts + 1 => S::Running(*attempt),
        (S::Backoff(due), E::AttemptStarted { attempt, .. }) if *attempt == due => S::Running(due),
        (S::Approved(same), E::AttemptStarted { attempt, .. }) if *attempt == same => S::Running(same),
        (now, E::GateOpened { attempt, gate, .. }) => match (now, gate.kind) {
            (S::Running(now), GateKind::Approval) if *attempt == now => S::Waiting(now),
            (S::Recovering(now), GateKind::Unresolved) if *attempt == now => S::Waiting(now),
            (S::Pending, GateKind::Environment | GateKind::Freeze) if *attempt == state.attempts + 1 => {
                S::Waiting(*attempt)
            }
            (S::Backoff(now) | S::Approved(now), GateKind::Environment | GateKind::Freeze) if *attempt == now => {
                S::Waiting(now)
            }
            _ => return None,
        },
        (S::Waiting(now), E::GateElapsed { .. }) if state.gate_kind() == Some(GateKind::Freeze) => S::Approved(now),
        (S::Waiting(now), E::GateDecided { decision, .. }) => {
            let gate = state.gate.as_ref()?;
            if decision.token != gate.token {
                return None;
            }
            let approvals = 1 + state.decisions.iter().filter(|earlier| earlier.approved).count();
            match (gate.kind, &decision.finding) {
                (GateKind::Unresolved, None) => return None,
                (GateKind::Unresolved, Some(_)) => S::Recovering(now),
                _ if !decision.approved => S::Refused(now),
                _ if approvals >= gate.approvals as usize => S::Approved(now),
                _ => S::Waiting(now),
            }
        }
        (S::Pending | S::Backoff(_), E::RecoveryStarted { attempt, .. })
            if state.unresolved_attempt == Some(*attempt) =>
        {
            S::Recovering(*attempt)
        }
        (S::Recovering(now), E::RecoveryStarted { attempt, .. }) if *attempt == now => S::Recovering(now),
        (S::Recovering(now), E::Recovered { attempt, finding, .. }) if *attempt == now => match finding {
            Finding::NotStarted => S::Pending,
            Finding::Applied(_) | Finding::Failed(_) => S::AttemptEnded(now),
        },
        (S::Running(now), E::AttemptEnded { attempt, .. }) if *attempt == now => S::AttemptEnded(now),
        (S::Waiting(now) | S::Approved(now) | S::Refused(now), E::AttemptEnded { attempt, .. })
            if *attempt == now && state.has_begun(now) =>
        {
            S::AttemptEnded(now)
        }
        (S::AttemptEnded(now), E::RetryScheduled { attempt, .. }) if *attempt == now + 1 => S::Backoff(*attempt),
        (
            S::Pending | S::AttemptEnded(_) | S::Backoff(_) | S::Recovering(_),
            E::StageEnded { outcome, conclusion, .. },
        ) => S::Ended { outcome: *outcome, conclusion: *conclusion },
        (S::Waiting(now) | S::Approved(now) | S::Refused(now), E::StageEnded { outcome, conclusion, .. })
            if !state.has_begun(now) =>
        {
            S::Ended { outcome: *outcome, conclusion: *conclusion }
        }
        _ => return None,
    })
}

/// Like [`next_status`], for the compensation.
fn next_undo(state: &StageState, event: &EventKind) -> Option<UndoState> {
    let StageStatus::Ended { .. } = state.status else { return None };
    match (state.undo, event) {
        (UndoState::NotStarted, EventKind::UndoStarted { .. }) => Some(UndoState::Started),
        // It ends without having started if the run was killed or the environment couldn't be acquired.
        (UndoState::NotStarted | UndoState::Started, EventKind::UndoEnded { outcome, .. }) => {
            Some(UndoState::Ended(*outcome))
        }
        _ => None,
    }
}

fn name_of(event: &EventKind) -> String {
    match serde_json::to_value(event) {
        Ok(Json::Object(fields)) => fields.get("type").and_then(Json::as_str).unwrap_or("an event").to_owned(),
        _ => "an event".to_owned(),
    }
}
