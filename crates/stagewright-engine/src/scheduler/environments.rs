//! Environments and concurrency groups: what a run has to have before a stage may start, and when it lets go of it.
//!
//! A run that waits for something keeps no environment in which nothing of it is running, so no two runs can wait for
//! each other.

use std::time::Duration;

use stagewright_model::{Environment, StageIndex};

use super::{Action, Scheduler, failure};
use crate::event::{EventKind, FailureKind, GateKind, Outcome, RunId, Timestamp};
use crate::port::{EnvironmentAnswer, EnvironmentRequest, EnvironmentView, GroupAnswer, GroupRequest};
use crate::state::{IllegalTransition, Status};

/// How often a run asks again for what another run has.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(1);

impl Scheduler {
    /// Whether a stage may start as far as the concurrency group goes. Asks for the group if that is what is missing.
    pub(super) fn has_group(&mut self) -> bool {
        let Some(concurrency) = &self.plan.concurrency else { return true };
        // What is left to do after a cancellation must not wait for others.
        if self.state.in_group || self.state.cancel.is_some() {
            return true;
        }
        if !self.asking_group {
            self.asking_group = true;
            self.response.actions.push(Action::EnterGroup(GroupRequest {
                run: self.run_id(),
                group: self.group.clone().unwrap_or_default(),
                cancel_in_progress: concurrency.cancel_in_progress,
                queue: concurrency.queue,
                at: self.now,
            }));
        }
        false
    }

    pub(super) fn on_joined(&mut self, joined: GroupAnswer) -> Result<(), IllegalTransition> {
        let group = self.group.clone().unwrap_or_default();
        match joined {
            GroupAnswer::Granted { replaced } => {
                self.asking_group = false;
                self.queued = false;
                self.group_holder = None;
                self.record(EventKind::GroupJoined { group, replaced })
            }
            GroupAnswer::Waiting { holder } => {
                self.queued = true;
                self.response.actions.push(Action::AskAgain(ASK_AGAIN));
                if self.group_holder.as_ref() != Some(&holder) {
                    self.group_holder = Some(holder.clone());
                    self.record(EventKind::GroupAwaited { group, holder })?;
                }
                Ok(())
            }
        }
    }

    /// Whether a stage acts on an environment that only one run may act on at a time. To name one is enough: approvers,
    /// freezes and turns hold for it however far the engine thinks that the stage's effects reach.
    pub(super) fn needs_environment(&self, stage: StageIndex) -> bool {
        self.plan.stage(stage).environment.is_some()
    }

    /// Whether another attempt of this run acts on the environment. The token that this one would get takes it away
    /// from that one.
    pub(super) fn is_environment_busy(&self, stage: StageIndex) -> bool {
        let acts_on_it = |other: &StageIndex| {
            *other != stage
                && self.environment_of(*other) == self.environment_of(stage)
                && self.needs_environment(*other)
                && !matches!(self.state.stage(*other).status, Status::Recovering(_))
        };
        let mut others = self.running.iter().chain(&self.claiming).chain(&self.undoing);
        self.needs_environment(stage) && others.any(acts_on_it)
    }

    /// Whether the run has acted on the environment of a stage. What was begun there before a freeze, or in spite of one,
    /// is better finished: a deploy without its tests, or with a failed one standing, is the worse end.
    pub(super) fn has_acted_on_environment(&self, stage: StageIndex) -> bool {
        let environment = self.environment_of(stage);
        let mut others = self.plan.indices().filter(|&other| self.environment_of(other) == environment);
        others.any(|other| {
            let state = self.state.stage(other);
            // What is to run again has yet to pass the freeze.
            state.attempt_fence.is_some() && state.status != Status::Pending
        })
    }

    /// The freeze of the pipeline's own that is in force.
    pub(super) fn freeze_of(&self, stage: StageIndex) -> Option<(Timestamp, String)> {
        let environment: &Environment = self.plan.environments.get(self.environment_of(stage)?)?;
        let frozen = environment.frozen(self.now.0)?;
        Some((Timestamp(frozen.until), frozen.reason))
    }

    /// Whether a person let the stage pass in spite of a freeze.
    pub(super) fn overrides_freeze(&self, stage: StageIndex) -> bool {
        let state = self.state.stage(stage);
        matches!(state.status, Status::Approved(_))
            && state.gate_kind() == Some(GateKind::Freeze)
            && state.decisions.iter().any(|decision| decision.approved)
    }

    pub(super) fn claim(&mut self, stage: StageIndex, override_freeze: bool) {
        let environment = self.environment_of(stage).unwrap_or_default().to_owned();
        let claim = EnvironmentRequest { run: self.run_id(), environment, override_freeze, at: self.now };
        self.claiming.insert(stage);
        self.response.actions.push(Action::AcquireEnvironment { stage, claim });
    }

    pub(super) fn on_claimed(
        &mut self,
        stage: StageIndex,
        claimed: EnvironmentAnswer,
    ) -> Result<(), IllegalTransition> {
        self.claiming.remove(&stage);
        let name = self.environment_of(stage).unwrap_or_default().to_owned();
        if !matches!(claimed, EnvironmentAnswer::Held { .. }) {
            self.awaited.remove(&stage);
        }
        let startable =
            matches!(self.state.stage(stage).status, Status::Pending | Status::Backoff(_) | Status::Approved(_));
        // A sibling that was asked for at the same time may have ended it.
        if !startable && self.undoing != Some(stage) {
            if let EnvironmentAnswer::Granted { .. } = claimed {
                self.held.insert(name);
            }
            return Ok(());
        }
        match claimed {
            EnvironmentAnswer::Granted { fence, current, last_known_good } => {
                self.held.insert(name.clone());
                let view = EnvironmentView { name, fence: Some(fence), current, last_known_good };
                if self.undoing == Some(stage) { self.begin_undo(stage, view) } else { self.begin(stage, Some(view)) }
            }
            EnvironmentAnswer::Held { by } => {
                let attempt = self.state.stage(stage).attempts + 1;
                self.response.actions.push(Action::Wake { stage, attempt, after: ASK_AGAIN });
                if self.awaited.insert(stage, by.clone()) != Some(by.clone()) {
                    self.record(EventKind::EnvironmentAwaited { stage, environment: name, holder: by })?;
                }
                Ok(())
            }
            EnvironmentAnswer::Superseded { by } => {
                let message = format!("run {by} is newer and has been to `{name}`: this run may not overtake it");
                let mut failure = failure(FailureKind::Superseded, message);
                failure.help = Some(format!("start a new run; to go back on purpose: stagewright rollback {name}"));
                if self.undoing == Some(stage) {
                    return self.end_undo(stage, Outcome::Errored, Some(failure));
                }
                self.fail_before_start(stage, failure)
            }
            EnvironmentAnswer::Frozen { reason, .. } if self.undoing == Some(stage) => {
                let failure = failure(FailureKind::Internal, format!("`{name}` is frozen ({reason})"));
                self.end_undo(stage, Outcome::Errored, Some(failure))
            }
            EnvironmentAnswer::Frozen { until, reason } => self.open_freeze(stage, until, &reason),
        }
    }

    pub(super) fn open_freeze(
        &mut self,
        stage: StageIndex,
        until: Option<Timestamp>,
        reason: &str,
    ) -> Result<(), IllegalTransition> {
        let environment = self.environment_of(stage).unwrap_or_default();
        let message = format!("`{environment}` is frozen ({reason}). Deploy anyway?");
        let attempt = self.attempt_to_come(stage);
        self.open_engine_gate(stage, attempt, GateKind::Freeze, message, until)
    }

    /// The number of the attempt that starts next: a new one, or the one that goes on after its gate.
    pub(super) fn attempt_to_come(&self, stage: StageIndex) -> u32 {
        let state = self.state.stage(stage);
        match state.status {
            Status::Approved(attempt) | Status::Backoff(attempt) => attempt,
            _ => state.attempts + 1,
        }
    }

    /// Lets go of what the run has no use for at the moment.
    pub(super) fn release_unused(&mut self) -> Result<(), IllegalTransition> {
        let ended = self.state.conclusion.is_some();
        let idle = ended || self.is_idle();
        let waiting = idle || !self.awaited.is_empty() || (self.asking_group && !self.state.in_group);
        let in_use = |name: &str| {
            let of_it = |stage: &StageIndex| self.environment_of(*stage) == Some(name);
            let busy = self.running.iter().chain(&self.claiming).chain(&self.undoing).any(of_it);
            let mut to_come = self.plan.indices().filter(of_it).filter(|&stage| self.needs_environment(stage));
            let more = to_come.any(|stage| self.state.stage(stage).status.conclusion().is_none())
                || self.undo_queue.iter().any(|(stage, _)| of_it(stage));
            busy || (more && !waiting)
        };
        let unused: Vec<String> = self.held.iter().filter(|name| !in_use(name)).cloned().collect();
        for name in unused {
            self.held.remove(&name);
            self.response.actions.push(Action::Unclaim(name));
        }
        let hold = self.plan.concurrency.as_ref().is_some_and(|concurrency| concurrency.hold_at_gates);
        if idle && (ended || !hold) {
            let group = self.group.clone().unwrap_or_default();
            if self.state.in_group {
                if !ended {
                    self.record(EventKind::GroupLeft { group: group.clone() })?;
                }
                self.response.actions.push(Action::Leave(group));
            } else if ended && self.queued {
                self.response.actions.push(Action::Leave(group));
            }
            self.asking_group = false;
            self.queued = false;
        }
        Ok(())
    }

    /// Everything that others may have once nothing of the run is under way any more.
    pub(crate) fn turns_held(&self) -> (impl Iterator<Item = &str>, Option<&str>) {
        let group = self.group.as_deref().filter(|_| self.state.in_group || self.queued);
        (self.held.iter().map(String::as_str), group)
    }

    pub(super) fn run_id(&self) -> RunId {
        self.state.run.clone().unwrap_or_else(|| RunId(String::new()))
    }
}
