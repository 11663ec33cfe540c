//! Environments and concurrency groups: when a run acquires them, and when it releases them.
//!
//! A run that waits for another one releases every environment in which none of its attempts is running. Two runs can
//! therefore never wait for each other.

use std::time::Duration;

use stagewright_model::{Environment, StageIndex};

use super::{Action, Scheduler, failure};
use crate::event::{EventKind, FailureKind, GateKind, Outcome, Release, ReleaseOrigin, RunId, Timestamp};
use crate::port::{EnvironmentAnswer, EnvironmentRequest, EnvironmentView, GroupAnswer, GroupRequest};
use crate::state::{IllegalTransition, StageStatus};

/// How often a run requests an environment or group again that another run holds.
pub(super) const POLL_INTERVAL: Duration = Duration::from_secs(1);

impl Scheduler {
    /// Whether the run holds its concurrency group, or needs none. Requests the group otherwise.
    pub(super) fn has_group(&mut self) -> bool {
        let Some(concurrency) = &self.plan.concurrency else { return true };
        // The finally stages and compensations after a cancellation must not wait for other runs.
        if self.state.in_group || self.state.cancel.is_some() {
            return true;
        }
        if !self.group_requested {
            self.group_requested = true;
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

    pub(super) fn on_group_answer(&mut self, answer: GroupAnswer) -> Result<(), IllegalTransition> {
        let group = self.group.clone().unwrap_or_default();
        match answer {
            GroupAnswer::Granted { replaced } => {
                self.group_requested = false;
                self.in_group_queue = false;
                self.group_holder = None;
                self.record(EventKind::GroupJoined { group, replaced })
            }
            GroupAnswer::Waiting { holder } => {
                self.in_group_queue = true;
                self.response.actions.push(Action::RetryGroup(POLL_INTERVAL));
                if self.group_holder.as_ref() != Some(&holder) {
                    self.group_holder = Some(holder.clone());
                    self.record(EventKind::GroupAwaited { group, holder })?;
                }
                Ok(())
            }
        }
    }

    /// Whether a stage must acquire an environment before it starts. Every stage that names one does: approvers,
    /// freezes and mutual exclusion apply to it whatever its effect class.
    pub(super) fn needs_environment(&self, stage: StageIndex) -> bool {
        self.plan.stage(stage).environment.is_some()
    }

    /// Whether another attempt of this run is acting on the environment of the stage, or is between two calls in which it
    /// acts. Acquiring the environment for the stage would issue a new fence, which invalidates the one of that attempt.
    pub(super) fn is_environment_busy(&self, stage: StageIndex) -> bool {
        let acts_on_it = |other: &StageIndex| {
            *other != stage
                && self.environment_of(*other) == self.environment_of(stage)
                && self.needs_environment(*other)
                && !matches!(self.state.stage(*other).status, StageStatus::Recovering(_))
        };
        let mut others = self.running.iter().chain(&self.acquiring).chain(&self.undoing);
        let mut between_calls = self.between_calls();
        self.needs_environment(stage) && (others.any(acts_on_it) || between_calls.any(|other| acts_on_it(&other)))
    }

    /// The stages whose attempts are between two calls of their plugins.
    fn between_calls(&self) -> impl Iterator<Item = StageIndex> {
        self.plan.indices().filter(|&index| self.state.stage(index).is_between_calls())
    }

    /// After a resume, requests the group and then the environments that attempts between two calls held before. An attempt
    /// whose next call is due may have to wait for a slot, and another run must not act on its environment meanwhile.
    pub(super) fn reacquire(&mut self) {
        if self.reacquiring.is_empty() || !self.has_group() {
            return;
        }
        for stage in std::mem::take(&mut self.reacquiring) {
            let is_open = matches!(self.state.stage(stage).status, StageStatus::Waiting(_) | StageStatus::Approved(_));
            if is_open && self.needs_environment(stage) && !self.acquiring.contains(&stage) {
                self.keeping.insert(stage);
                self.acquire_environment(stage, true);
            }
        }
    }

    /// Whether the run has acted on the environment of a stage. A freeze doesn't apply to the rest of such a run:
    /// stopping it halfway would leave a deploy that was never tested, or a failed one that was never compensated for.
    pub(super) fn has_acted_on_environment(&self, stage: StageIndex) -> bool {
        let environment = self.environment_of(stage);
        let mut others = self.plan.indices().filter(|&other| self.environment_of(other) == environment);
        others.any(|other| {
            let state = self.state.stage(other);
            // A stage that was reset to run again keeps its fence, but has to pass the freeze like a new one.
            state.attempt_fence.is_some() && state.status != StageStatus::Pending
        })
    }

    /// The end and the reason of the freeze in the pipeline file that is in force for the stage's environment.
    pub(super) fn freeze_of(&self, stage: StageIndex) -> Option<(Timestamp, String)> {
        let environment: &Environment = self.plan.environments.get(self.environment_of(stage)?)?;
        let frozen = environment.frozen(self.now.0)?;
        Some((Timestamp(frozen.until), frozen.reason))
    }

    /// Whether a person approved the stage's freeze gate.
    pub(super) fn overrides_freeze(&self, stage: StageIndex) -> bool {
        let state = self.state.stage(stage);
        matches!(state.status, StageStatus::Approved(_))
            && state.gate_kind() == Some(GateKind::Freeze)
            && state.decisions.iter().any(|decision| decision.approved)
    }

    /// The environment's settings in the pipeline file.
    pub(super) fn environment_view(&self, name: &str) -> EnvironmentView {
        let name = name.to_owned();
        match self.plan.environments.get(&name) {
            Some(Environment { target, url, config, protected, .. }) => EnvironmentView {
                name,
                target: target.clone().unwrap_or_default(),
                url: url.clone(),
                config: config.clone(),
                protected: *protected,
                ..EnvironmentView::default()
            },
            None => EnvironmentView { name, ..EnvironmentView::default() },
        }
    }

    pub(super) fn acquire_environment(&mut self, stage: StageIndex, override_freeze: bool) {
        let environment = self.environment_of(stage).unwrap_or_default().to_owned();
        let request = EnvironmentRequest {
            run: self.run_id(),
            environment,
            override_freeze,
            take_over: self.values.origin == ReleaseOrigin::Rollback,
            at: self.now,
        };
        self.acquiring.insert(stage);
        self.response.actions.push(Action::AcquireEnvironment { stage, request });
    }

    pub(super) fn on_environment_answer(
        &mut self,
        stage: StageIndex,
        answer: EnvironmentAnswer,
    ) -> Result<(), IllegalTransition> {
        self.acquiring.remove(&stage);
        let name = self.environment_of(stage).unwrap_or_default().to_owned();
        let lock = self.lock_of(stage).unwrap_or_default().to_owned();
        if !matches!(answer, EnvironmentAnswer::Held { .. }) {
            self.awaited.remove(&stage);
        }
        let startable = !self.keeping.remove(&stage)
            && matches!(
                self.state.stage(stage).status,
                StageStatus::Pending | StageStatus::Backoff(_) | StageStatus::Approved(_)
            );
        // Several requests can be answered in one turn, and the answer for one stage may have ended this one, as a
        // fail-fast matrix does. Or the stage is between two calls and starts nothing yet. The environment is granted
        // nevertheless: note it, so that it gets released.
        if !startable && self.undoing != Some(stage) {
            if let EnvironmentAnswer::Granted { .. } = answer {
                self.held_environments.insert(lock);
            }
            return Ok(());
        }
        match answer {
            EnvironmentAnswer::Granted { current, .. }
                if self.undoing != Some(stage) && self.approval_lapsed(stage, current.as_ref()) =>
            {
                if !self.held_environments.contains(&lock) {
                    self.response.actions.push(Action::ReleaseEnvironment(lock));
                }
                self.ask_again(stage, current.as_ref())
            }
            EnvironmentAnswer::Granted { fence, current, standing, last_known_good, restored } => {
                self.held_environments.insert(lock);
                let settings = self.environment_view(&name);
                let view =
                    EnvironmentView { fence: Some(fence), current, standing, last_known_good, restored, ..settings };
                if self.undoing == Some(stage) { self.begin_undo(stage, view) } else { self.begin(stage, Some(view)) }
            }
            EnvironmentAnswer::Held { by } => {
                let attempt = self.state.stage(stage).attempts + 1;
                self.response.actions.push(Action::Wake { stage, attempt, after: POLL_INTERVAL });
                if self.awaited.insert(stage, by.clone()) != Some(by.clone()) {
                    self.record(EventKind::EnvironmentAwaited { stage, environment: name, holder: by })?;
                }
                Ok(())
            }
            EnvironmentAnswer::Superseded { by } => {
                let message = format!("run {by} is newer and has already acted on `{name}`");
                let mut failure = failure(FailureKind::Superseded, message);
                failure.help =
                    Some(format!("start a new run; to restore an earlier release, run: stagewright rollback {name}"));
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

    /// Asks the approvers again, because another release is current than when they were asked.
    fn ask_again(&mut self, stage: StageIndex, current: Option<&Release>) -> Result<(), IllegalTransition> {
        let environment = self.environment_of(stage).unwrap_or_default();
        let since = match current {
            Some(Release { artifact, by, .. }) if !by.is_empty() => format!("{by} deployed {artifact}"),
            Some(Release { artifact, .. }) => format!("{artifact} was deployed"),
            None => "the release there was removed".to_owned(),
        };
        let message = format!("Since `{environment}` was approved for this run, {since}. {}", self.question(stage));
        let attempt = self.next_attempt(stage);
        self.open_engine_gate(stage, attempt, GateKind::Environment, message, None)
    }

    pub(super) fn open_freeze(
        &mut self,
        stage: StageIndex,
        until: Option<Timestamp>,
        reason: &str,
    ) -> Result<(), IllegalTransition> {
        let environment = self.environment_of(stage).unwrap_or_default();
        let message = format!("`{environment}` is frozen ({reason}). Deploy anyway?");
        let attempt = self.next_attempt(stage);
        self.open_engine_gate(stage, attempt, GateKind::Freeze, message, until)
    }

    /// The number of the attempt that starts next, or that continues after its gate.
    pub(super) fn next_attempt(&self, stage: StageIndex) -> u32 {
        let state = self.state.stage(stage);
        match state.status {
            StageStatus::Approved(attempt) | StageStatus::Backoff(attempt) => attempt,
            _ => state.attempts + 1,
        }
    }

    /// Releases the environments and the group that the run doesn't need at the moment.
    ///
    /// An environment is kept between two stages of the run that use it, so that no other run deploys in between. It is
    /// released anyway while the run waits for people, for another environment or for its group: it could otherwise
    /// wait for a run that in turn waits for this environment. An attempt between two calls keeps it like a running one,
    /// except while the run waits for its group: without the group, the next call can't start.
    pub(super) fn release_unused(&mut self) -> Result<(), IllegalTransition> {
        let ended = self.state.conclusion.is_some();
        let idle = ended || self.is_idle();
        let lacks_group = self.group_requested && !self.state.in_group;
        let waiting = idle || !self.awaited.is_empty() || lacks_group;
        let in_use = |name: &str| {
            let of_it = |stage: &StageIndex| self.lock_of(*stage) == Some(name);
            let busy = self.running.iter().chain(&self.acquiring).chain(&self.undoing).any(of_it)
                || (!lacks_group && self.between_calls().any(|stage| of_it(&stage)));
            let mut to_come = self.plan.indices().filter(of_it).filter(|&stage| self.needs_environment(stage));
            let more = to_come.any(|stage| self.state.stage(stage).status.conclusion().is_none())
                || self.undo_queue.iter().any(|(stage, _)| of_it(stage));
            busy || (more && !waiting)
        };
        let unused: Vec<String> = self.held_environments.iter().filter(|name| !in_use(name)).cloned().collect();
        for name in unused {
            self.held_environments.remove(&name);
            self.response.actions.push(Action::ReleaseEnvironment(name));
        }
        let hold = self.plan.concurrency.as_ref().is_some_and(|concurrency| concurrency.hold_at_gates);
        if idle && (ended || !hold) {
            let group = self.group.clone().unwrap_or_default();
            if self.state.in_group {
                if !ended {
                    self.record(EventKind::GroupLeft { group: group.clone() })?;
                }
                self.response.actions.push(Action::LeaveGroup(group));
            } else if self.in_group_queue {
                // The stage that needed the group has ended, for example because a sibling failed. Once the run is idle it
                // sends no heartbeats, and in the queue it would be given the group without noticing.
                self.response.actions.push(Action::LeaveGroup(group));
            }
            self.group_requested = false;
            self.in_group_queue = false;
        }
        Ok(())
    }

    /// The environments that the run holds, and the group that it holds or is queued for.
    pub(crate) fn held_resources(&self) -> (impl Iterator<Item = &str>, Option<&str>) {
        let group = self.group.as_deref().filter(|_| self.state.in_group || self.in_group_queue);
        (self.held_environments.iter().map(String::as_str), group)
    }

    pub(super) fn run_id(&self) -> RunId {
        self.state.run.clone().unwrap_or_else(|| RunId(String::new()))
    }
}
