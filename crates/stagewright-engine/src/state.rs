//! A run's state as the fold of its events.
//!
//! Live scheduling and recovery both go through [`RunState::apply`], and so through one [`next_status`] table: what
//! the scheduler can't do, a journal can't claim.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use stagewright_model::StageIndex;

use crate::event::{
    Decision, EventKind, Failure, FailureKind, Finding, Gate, GateKind, Interrupt, Made, Outcome, Release, RunId,
};

/// Where a stage stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Its needs haven't all ended, or there is no free slot.
    Pending,
    /// An attempt is under way.
    Running(u32),
    /// The attempt was left in doubt, and its plugin or a person is to say what became of it.
    Recovering(u32),
    /// A gate is open: the attempt's own, one that it has to pass before it begins, or the question what became of it.
    Waiting(u32),
    /// The gate was answered with enough approvals: the attempt goes on, or begins.
    Approved(u32),
    /// The gate was answered with a no.
    Refused(u32),
    /// The attempt is over; whether the stage is tried again comes next.
    Settled(u32),
    /// The attempt to come waits for its time.
    Backoff(u32),
    /// Nothing more will happen to it.
    Ended {
        /// Raw result.
        outcome: Outcome,
        /// Result after `continue-on-error`.
        conclusion: Outcome,
    },
}

impl Status {
    /// The result after `continue-on-error`, once there is one.
    pub fn conclusion(self) -> Option<Outcome> {
        match self {
            Status::Ended { conclusion, .. } => Some(conclusion),
            _ => None,
        }
    }

    /// Whether it ended so that what needs it may run.
    pub(crate) fn has_succeeded(self) -> bool {
        self.conclusion().is_some_and(Outcome::lets_dependents_run)
    }
}

/// An event that can't follow on what came before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{event} can't happen to {subject}, which is {status}")]
pub struct IllegalTransition {
    /// A stage's id, or `the run`.
    pub subject: String,
    /// Its status.
    pub status: String,
    /// The event's name.
    pub event: String,
}

/// What is known of one stage.
#[derive(Clone, Debug, PartialEq)]
pub struct StageState {
    /// Where it stands.
    pub status: Status,
    /// Attempts begun in all, those before a resume included.
    pub attempts: u32,
    /// Attempts begun before the last resume: they don't count against `retry.max`.
    pub attempts_before: u32,
    /// Of the last attempt that ended.
    pub outputs: BTreeMap<String, Json>,
    /// What the last attempt that ended left in the places that it may write.
    pub made: Option<Made>,
    /// The gate that is open, or that was last.
    pub gate: Option<Box<Gate>>,
    /// Answers to that gate.
    pub decisions: Vec<Decision>,
    /// Answers to the attempt's own gate, with which it goes on.
    pub resumption: Vec<Decision>,
    /// Result of the last attempt.
    pub last_outcome: Option<Outcome>,
    /// The gates at which people let the stage go on, oldest first. A later gate of the stage, as for a freeze, replaces
    /// [`gate`](StageState::gate), but the approvals given at the earlier ones remain valid.
    pub admitted: Vec<Admission>,
    /// The attempt whose effect was about to happen, or to be taken back, and of whose end nothing certain is known.
    pub doubt: Option<u32>,
    /// Whether an attempt announced an effect.
    pub acted: bool,
    /// The environment's token under which the stage acted last.
    pub fence: Option<u64>,
    /// The environment's token of the last attempt: what was taken back since has a newer one.
    pub attempt_fence: Option<u64>,
    /// What the last attempt deployed, if it still stands.
    pub release: Option<Box<Release>>,
    /// Whether the release proved good.
    pub confirmed: bool,
    /// How far taking its effect back has come.
    pub undo: Undo,
    /// `seq` of the event that ended it.
    pub ended: Option<u64>,
}

/// A gate that was approved. An approval counts for what its own gate asked and for nothing else.
#[derive(Clone, Debug, PartialEq)]
pub struct Admission {
    /// What was asked.
    pub gate: Gate,
    /// The answers that sufficed.
    pub answers: Vec<Decision>,
}

/// How far taking the effect of a stage back has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Undo {
    /// Nobody asked for it.
    #[default]
    No,
    /// It is under way.
    Started,
    /// It is over.
    Ended(Outcome),
}

impl StageState {
    const NEW: StageState = StageState {
        status: Status::Pending,
        attempts: 0,
        attempts_before: 0,
        outputs: BTreeMap::new(),
        made: None,
        gate: None,
        decisions: Vec::new(),
        resumption: Vec::new(),
        last_outcome: None,
        admitted: Vec::new(),
        doubt: None,
        acted: false,
        fence: None,
        attempt_fence: None,
        release: None,
        confirmed: false,
        undo: Undo::No,
        ended: None,
    };

    /// What the gate waits for, if there is or was one.
    pub fn gate_kind(&self) -> Option<GateKind> {
        self.gate.as_ref().map(|gate| gate.kind)
    }

    /// Whether the attempt at whose gate the stage stands has begun.
    pub(crate) fn has_begun(&self, attempt: u32) -> bool {
        self.attempts >= attempt && self.gate_kind() != Some(GateKind::Unresolved)
    }
}

/// What is known of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct RunState {
    /// None until it started.
    pub run: Option<RunId>,
    /// By plan index.
    pub stages: Vec<StageState>,
    /// The strongest wish to end it early.
    pub cancel: Option<Interrupt>,
    /// Set when it ended.
    pub conclusion: Option<Outcome>,
    /// Whether it has its concurrency group.
    pub in_group: bool,
    /// `seq` of the next event.
    pub next_seq: u64,
    ids: Vec<String>,
}

impl RunState {
    /// A run of which nothing has happened; `ids` are its stages' unique names, by plan index.
    pub fn new(ids: Vec<String>) -> RunState {
        let stages = vec![StageState::NEW; ids.len()];
        RunState { run: None, stages, cancel: None, conclusion: None, in_group: false, next_seq: 0, ids }
    }

    /// The stage at `index`.
    pub fn stage(&self, index: StageIndex) -> &StageState {
        &self.stages[index.get()]
    }

    /// Takes one event in. An event that can't follow changes nothing.
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
                state.doubt = state.doubt.filter(|doubt| doubt == attempt);
            }
            EventKind::EffectIntended { stage, attempt, .. } => {
                if self.known(*stage, event)?.status != Status::Running(*attempt) {
                    return Err(self.illegal_for_stage(*stage, event));
                }
                let state = &mut self.stages[stage.get()];
                state.doubt = Some(*attempt);
                state.acted = true;
            }
            EventKind::ArtifactPublished { stage, attempt, .. } => {
                let state = self.known(*stage, event)?;
                let is_under_way = match state.status {
                    Status::Running(now) | Status::Recovering(now) => now == *attempt,
                    _ => state.undo == Undo::Started,
                };
                if !is_under_way {
                    return Err(self.illegal_for_stage(*stage, event));
                }
            }
            EventKind::GateOpened { stage, gate, .. } => {
                let state = self.step(*stage, event)?;
                // Who let the stage go on before did so for something else.
                if state.gate.as_ref().is_some_and(|earlier| earlier.binding != gate.binding) {
                    state.admitted.clear();
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
                if matches!(state.status, Status::Approved(_)) {
                    let answers = state.decisions.clone();
                    let gate = state.gate.as_deref().cloned();
                    state.admitted.extend(gate.map(|gate| Admission { gate, answers }));
                }
            }
            EventKind::AttemptEnded { stage, outcome, failure, outputs, made, .. } => {
                let state = self.step(*stage, event)?;
                state.last_outcome = Some(*outcome);
                state.outputs.clone_from(outputs);
                state.made.clone_from(made);
                state.resumption.clear();
                if is_certain(*outcome, failure.as_ref()) {
                    state.doubt = None;
                }
            }
            EventKind::Recovered { stage, finding, outputs, .. } => {
                let state = self.step(*stage, event)?;
                state.doubt = None;
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
                        state.doubt = Some(*attempt);
                    }
                    (_, Undo::Ended(Outcome::Succeeded)) => {
                        state.release = None;
                        state.doubt = None;
                    }
                    (_, Undo::Ended(Outcome::Skipped | Outcome::Rehearsed)) => state.doubt = None,
                    // What was being taken back may be there or not.
                    _ => {}
                }
            }
            EventKind::StageEnded { stage, .. } => {
                let seq = self.next_seq;
                self.step(*stage, event)?.ended = Some(seq);
            }
            EventKind::RecoveryStarted { stage, .. } => {
                // A finding about an earlier attempt must not settle this one when the run is interrupted here and resumed.
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

    fn resume(&mut self, again: &[StageIndex], event: &EventKind) -> Result<(), IllegalTransition> {
        if self.run.is_none() {
            return Err(self.illegal_for_run("not started", event));
        }
        self.conclusion = None;
        self.cancel = None;
        self.in_group = false;
        for &index in again {
            let state = self.known(index, event)?;
            let StageState { attempts, doubt, fence, attempt_fence, .. } = *state;
            let attempts_before = attempts;
            *state = StageState { attempts, attempts_before, doubt, fence, attempt_fence, ..StageState::NEW };
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

/// Whether the end of an attempt tells what became of its effects. A plugin that returned knows what it did; one that
/// was stopped or went away can't tell any more.
fn is_certain(outcome: Outcome, failure: Option<&Failure>) -> bool {
    let stopped = failure.is_some_and(|failure| {
        matches!(
            failure.kind,
            FailureKind::Timeout
                | FailureKind::Cancelled
                | FailureKind::Killed
                | FailureKind::Trapped
                | FailureKind::OutOfMemory
                | FailureKind::LogLimit
                | FailureKind::Superseded
                | FailureKind::Internal
        )
    });
    !stopped && !matches!(outcome, Outcome::Lost | Outcome::TimedOut | Outcome::Cancelled | Outcome::Inconclusive)
}

/// The one table of what may follow on what. None: it may not.
fn next_status(state: &StageState, event: &EventKind) -> Option<Status> {
    use EventKind as E;
    use Status as S;
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
        (S::Pending | S::Backoff(_), E::RecoveryStarted { attempt, .. }) if state.doubt == Some(*attempt) => {
            S::Recovering(*attempt)
        }
        (S::Recovering(now), E::RecoveryStarted { attempt, .. }) if *attempt == now => S::Recovering(now),
        (S::Recovering(now), E::Recovered { attempt, finding, .. }) if *attempt == now => match finding {
            Finding::NotStarted => S::Pending,
            Finding::Applied(_) | Finding::Failed(_) => S::Settled(now),
        },
        (S::Running(now), E::AttemptEnded { attempt, .. }) if *attempt == now => S::Settled(now),
        (S::Waiting(now) | S::Approved(now) | S::Refused(now), E::AttemptEnded { attempt, .. })
            if *attempt == now && state.has_begun(now) =>
        {
            S::Settled(now)
        }
        (S::Settled(now), E::RetryScheduled { attempt, .. }) if *attempt == now + 1 => S::Backoff(*attempt),
        (S::Pending | S::Settled(_) | S::Backoff(_) | S::Recovering(_), E::StageEnded { outcome, conclusion, .. }) => {
            S::Ended { outcome: *outcome, conclusion: *conclusion }
        }
        (S::Waiting(now) | S::Approved(now) | S::Refused(now), E::StageEnded { outcome, conclusion, .. })
            if !state.has_begun(now) =>
        {
            S::Ended { outcome: *outcome, conclusion: *conclusion }
        }
        _ => return None,
    })
}

/// As [`next_status`], for taking back.
fn next_undo(state: &StageState, event: &EventKind) -> Option<Undo> {
    let Status::Ended { .. } = state.status else { return None };
    match (state.undo, event) {
        (Undo::No, EventKind::UndoStarted { .. }) => Some(Undo::Started),
        // Without a beginning when nobody could begin.
        (Undo::No | Undo::Started, EventKind::UndoEnded { outcome, .. }) => Some(Undo::Ended(*outcome)),
        _ => None,
    }
}

fn name_of(event: &EventKind) -> String {
    match serde_json::to_value(event) {
        Ok(Json::Object(fields)) => fields.get("type").and_then(Json::as_str).unwrap_or("an event").to_owned(),
        _ => "an event".to_owned(),
    }
}
