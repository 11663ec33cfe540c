//! A run's state as the fold of its events.
//!
//! Live scheduling and recovery both go through [`RunState::apply`], and so through one [`next_status`] table: what
//! the scheduler can't do, a journal can't claim.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use stagewright_model::StageIndex;

use crate::event::{Decision, EventKind, Gate, Interrupt, Outcome, RunId};

/// Where a stage stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Its needs haven't all ended, or there is no free slot.
    Pending,
    /// An attempt is under way.
    Running(u32),
    /// The attempt opened a gate.
    Waiting(u32),
    /// The gate was answered with enough approvals: the attempt goes on.
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
    /// The gate that is open, or that was last.
    pub gate: Option<Gate>,
    /// Answers to that gate.
    pub decisions: Vec<Decision>,
    /// Result of the last attempt.
    pub last_outcome: Option<Outcome>,
}

impl StageState {
    const NEW: StageState = StageState {
        status: Status::Pending,
        attempts: 0,
        attempts_before: 0,
        outputs: BTreeMap::new(),
        gate: None,
        decisions: Vec::new(),
        last_outcome: None,
    };
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
    /// `seq` of the next event.
    pub next_seq: u64,
    ids: Vec<String>,
}

impl RunState {
    /// A run of which nothing has happened; `ids` are its stages' unique names, by plan index.
    pub fn new(ids: Vec<String>) -> RunState {
        let stages = vec![StageState::NEW; ids.len()];
        RunState { run: None, stages, cancel: None, conclusion: None, next_seq: 0, ids }
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
            EventKind::RunSuspended { .. }
            | EventKind::Summary { .. }
            | EventKind::Problem { .. }
            | EventKind::Log { .. }
            | EventKind::Progress { .. } => {}
            EventKind::AttemptStarted { stage, attempt } => {
                self.step(*stage, event)?;
                self.stages[stage.get()].attempts = *attempt;
            }
            EventKind::GateOpened { stage, gate, .. } => {
                self.step(*stage, event)?;
                let state = &mut self.stages[stage.get()];
                state.gate = Some(gate.clone());
                state.decisions.clear();
            }
            EventKind::GateDecided { stage, decision } => {
                self.step(*stage, event)?;
                self.stages[stage.get()].decisions.push(decision.clone());
            }
            EventKind::AttemptEnded { stage, outcome, outputs, .. } => {
                self.step(*stage, event)?;
                let state = &mut self.stages[stage.get()];
                state.last_outcome = Some(*outcome);
                state.outputs.clone_from(outputs);
            }
            EventKind::RetryScheduled { stage, .. } | EventKind::StageEnded { stage, .. } => {
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
        for &index in again {
            let state = &mut self.stages[index.get()];
            let attempts = state.attempts;
            *state = StageState { attempts, attempts_before: attempts, ..StageState::NEW };
        }
        Ok(())
    }

    fn step(&mut self, index: StageIndex, event: &EventKind) -> Result<(), IllegalTransition> {
        let Some(state) = self.stages.get_mut(index.get()) else {
            return Err(IllegalTransition {
                subject: format!("stage {}", index.0),
                status: "not in the plan".to_owned(),
                event: name_of(event),
            });
        };
        match next_status(state, event) {
            Some(next) => {
                state.status = next;
                Ok(())
            }
            None => Err(IllegalTransition {
                subject: self.ids[index.get()].clone(),
                status: format!("{:?}", state.status),
                event: name_of(event),
            }),
        }
    }

    fn illegal_for_run(&self, status: &str, event: &EventKind) -> IllegalTransition {
        IllegalTransition { subject: "the run".to_owned(), status: status.to_owned(), event: name_of(event) }
    }
}

/// The one table of what may follow on what. None: it may not.
fn next_status(state: &StageState, event: &EventKind) -> Option<Status> {
    use EventKind as E;
    use Status as S;
    Some(match (state.status, event) {
        (S::Pending, E::AttemptStarted { attempt, .. }) if *attempt == state.attempts + 1 => S::Running(*attempt),
        (S::Backoff(due), E::AttemptStarted { attempt, .. }) if *attempt == due => S::Running(due),
        (S::Approved(same), E::AttemptStarted { attempt, .. }) if *attempt == same => S::Running(same),
        (S::Running(now), E::GateOpened { attempt, .. }) if *attempt == now => S::Waiting(now),
        (S::Waiting(now), E::GateDecided { decision, .. }) => {
            let gate = state.gate.as_ref()?;
            if decision.token != gate.token {
                return None;
            }
            let approvals = 1 + state.decisions.iter().filter(|earlier| earlier.approved).count();
            if !decision.approved {
                S::Refused(now)
            } else if approvals >= gate.approvals as usize {
                S::Approved(now)
            } else {
                S::Waiting(now)
            }
        }
        (S::Running(now) | S::Waiting(now) | S::Approved(now) | S::Refused(now), E::AttemptEnded { attempt, .. })
            if *attempt == now =>
        {
            S::Settled(now)
        }
        (S::Settled(now), E::RetryScheduled { attempt, .. }) if *attempt == now + 1 => S::Backoff(*attempt),
        (S::Pending | S::Settled(_) | S::Backoff(_), E::StageEnded { outcome, conclusion, .. }) => {
            S::Ended { outcome: *outcome, conclusion: *conclusion }
        }
        _ => return None,
    })
}

fn name_of(event: &EventKind) -> String {
    match serde_json::to_value(event) {
        Ok(Json::Object(fields)) => fields.get("type").and_then(Json::as_str).unwrap_or("an event").to_owned(),
        _ => "an event".to_owned(),
    }
}
