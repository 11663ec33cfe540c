//! Gates: how they open, and the effect of answers, expiry and rejection on their stage.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use stagewright_model::{EffectClass, PersonName, PersonNameError, StageIndex, lock_of, same_person};

use super::{Action, Scheduler, failure};
use crate::event::{Decision, EventKind, FailureKind, Gate, GateKind, Outcome, Release, Timestamp};
use crate::state::{IllegalTransition, StageStatus};

/// How often the clock is read while a gate waits for a time.
const CLOCK_INTERVAL: Duration = Duration::from_secs(60);

impl Scheduler {
    /// Opens the gate that an attempt requested.
    pub(super) fn open_own_gate(
        &mut self,
        stage: StageIndex,
        attempt: u32,
        mut gate: Gate,
    ) -> Result<(), IllegalTransition> {
        gate.environments = self.plan.stage(stage).approves().map(str::to_owned).collect();
        if gate.approvers.is_empty() {
            gate.approvers = self.environment_approvers(stage);
            let of_others = gate.environments.iter().filter_map(|name| self.plan.environments.get(name));
            gate.approvers.extend(of_others.flat_map(|environment| environment.approvers.iter().cloned()));
            let mut seen = BTreeSet::new();
            gate.approvers.retain(|approver| seen.insert(approver.clone()));
        }
        if let Some((name, reason)) = gate.approvers.iter().find_map(|approver| invalid_name(approver)) {
            let mut failure = failure(FailureKind::Configuration, format!("{name:?} can't be an approver: {reason}"));
            failure.help = Some(PersonNameError::HELP.to_owned());
            self.end_attempt(stage, attempt, Outcome::Errored, Some(failure), BTreeMap::new())?;
            return self.end_stage(stage, Outcome::Errored, self.conclusion_of(stage, Outcome::Errored), None);
        }
        if let Some(team) = gate.approvers.iter().find_map(|approver| self.unknown_team(approver)) {
            let mut failure = failure(FailureKind::Configuration, format!("unknown team `{team}`"));
            failure.help = Some(format!("define its members: [teams] {team} = [\"ada\", \"grace\"]"));
            self.end_attempt(stage, attempt, Outcome::Errored, Some(failure), BTreeMap::new())?;
            return self.end_stage(stage, Outcome::Errored, self.conclusion_of(stage, Outcome::Errored), None);
        }
        gate.members = self.plan.members_of(&gate.approvers);
        gate.kind = GateKind::Approval;
        self.open_gate(stage, attempt, gate)
    }

    /// Opens a gate before an attempt, or one that asks for the outcome of an attempt.
    pub(super) fn open_engine_gate(
        &mut self,
        stage: StageIndex,
        attempt: u32,
        kind: GateKind,
        message: String,
        until: Option<Timestamp>,
    ) -> Result<(), IllegalTransition> {
        self.awaited.remove(&stage);
        let approvers = self.environment_approvers(stage);
        let opening = self.state.next_seq;
        let gate = Gate {
            token: format!("{}-{opening}", self.plan.stage(stage).id),
            kind,
            message,
            members: self.plan.members_of(&approvers),
            approvers,
            approvals: 1,
            environments: self.lock_of(stage).map(str::to_owned).into_iter().collect(),
            fields: Vec::new(),
            expires: None,
            until,
            binding: None,
            capture: None,
            releases: None,
        };
        self.open_gate(stage, attempt, gate)
    }

    /// Opens the gate, after capturing the files for the stages behind it if the kind requires that.
    fn open_gate(&mut self, stage: StageIndex, attempt: u32, mut gate: Gate) -> Result<(), IllegalTransition> {
        if !self.captures_for(gate.kind) {
            gate.binding.clone_from(&self.values.binding);
            return self.open_captured(stage, attempt, gate);
        }
        self.request_capture(stage, attempt, gate)
    }

    /// Opens a gate whose files are captured, after looking up what runs in its environments.
    pub(super) fn open_captured(
        &mut self,
        stage: StageIndex,
        attempt: u32,
        gate: Gate,
    ) -> Result<(), IllegalTransition> {
        let acted_on = self.plan.stages.iter().filter_map(|stage| stage.environment.as_ref());
        let environments: BTreeSet<String> = acted_on
            .filter(|environment| gate.environments.iter().any(|name| name == lock_of(&environment.name)))
            .map(|environment| environment.name.clone())
            .collect();
        if environments.is_empty() {
            return self.open_prepared(stage, attempt, gate);
        }
        self.opening.insert(stage, (attempt, gate));
        self.response.actions.push(Action::ReadReleases { stage, environments });
        Ok(())
    }

    pub(super) fn on_releases(
        &mut self,
        stage: StageIndex,
        releases: BTreeMap<String, u64>,
    ) -> Result<(), IllegalTransition> {
        // The stage may have ended in the meantime.
        let Some((attempt, gate)) = self.opening.remove(&stage) else { return Ok(()) };
        self.open_prepared(stage, attempt, Gate { releases: Some(releases), ..gate })
    }

    /// Opens a gate that lacks nothing any more, or cancels it if the stage has to stop.
    pub(super) fn open_prepared(
        &mut self,
        stage: StageIndex,
        attempt: u32,
        gate: Gate,
    ) -> Result<(), IllegalTransition> {
        self.record(EventKind::GateOpened { stage, attempt, gate })?;
        if let Some(reason) = self.reason_to_stop(stage) {
            return self.cancel_at_gate(stage, attempt, &reason);
        }
        self.set_gate_timer(stage, attempt);
        Ok(())
    }

    /// Sets the timer for the gate's `until` or for its expiry. The time that counts is the clock's, and a timer doesn't
    /// notice that the clock was set forward or that the machine slept. So the clock is read again every so often.
    pub(super) fn set_gate_timer(&mut self, stage: StageIndex, attempt: u32) {
        let gate = self.state.stage(stage).current_gate();
        if let Some(at) = gate.and_then(|gate| gate.until.into_iter().chain(gate.expires).min()) {
            let after = Duration::from_millis(at.since(self.now)).min(CLOCK_INTERVAL);
            self.response.actions.push(Action::Wake { stage, attempt, after });
        }
    }

    /// Handles a timer at a gate: lets the stage pass, ends it as timed out, or sets the timer again.
    pub(super) fn on_gate_timer(&mut self, stage: StageIndex, attempt: u32) -> Result<(), IllegalTransition> {
        let gate = self.state.stage(stage).current_gate();
        let (until, expires) = gate.map_or((None, None), |gate| (gate.until, gate.expires));
        // After a longer stop both times can have passed. The earlier one decides.
        let until = until.filter(|until| expires.is_none_or(|expires| *until <= expires));
        if self.unfreezing.remove(&stage) || until.is_some_and(|until| until <= self.now) {
            self.record(EventKind::GateElapsed { stage })?;
            self.ready.insert(stage);
            return Ok(());
        }
        if expires.is_some_and(|expires| expires <= self.now) {
            let message = match self.state.stage(stage).gate_kind() {
                Some(GateKind::Wait) => "the wait expired before it was ended",
                _ => "the gate expired before it was answered",
            };
            let failure = failure(FailureKind::Timeout, message);
            self.end_attempt(stage, attempt, Outcome::TimedOut, Some(failure), BTreeMap::new())?;
            return self.end_stage(stage, Outcome::TimedOut, Outcome::TimedOut, None);
        }
        // The gate is open for longer than a timer runs, the clock was set back, or the timer belongs to an earlier gate
        // of the stage.
        self.set_gate_timer(stage, attempt);
        Ok(())
    }

    pub(super) fn on_decision(&mut self, stage: StageIndex, decision: Decision) -> Result<(), IllegalTransition> {
        if stage.get() >= self.plan.stages.len() {
            tracing::warn!(stage = stage.0, "decision refused: the plan has no such stage");
            return Ok(());
        }
        if let Err(reason) = self.check(stage, &decision) {
            let (by, reason) = (decision.by, reason.to_string());
            self.response.actions.push(Action::Notify(Box::new(EventKind::DecisionRefused { stage, by, reason })));
            return Ok(());
        }
        self.record(EventKind::GateDecided { stage, decision })?;
        self.unfreezing.remove(&stage);
        match self.state.stage(stage).status {
            StageStatus::Approved(_) => {
                self.ready.insert(stage);
                Ok(())
            }
            StageStatus::Refused(attempt) => self.reject(stage, attempt),
            StageStatus::Recovering(attempt) => self.apply_decided_finding(stage, attempt),
            _ => Ok(()),
        }
    }

    pub(super) fn reject(&mut self, stage: StageIndex, attempt: u32) -> Result<(), IllegalTransition> {
        let last = self.state.stage(stage).decisions.last();
        let message = last.map_or_else(
            || "rejected".to_owned(),
            |decision| match &decision.reason {
                Some(reason) => format!("rejected by {}: {reason}", decision.by),
                None => format!("rejected by {}", decision.by),
            },
        );
        if self.state.stage(stage).has_begun(attempt) {
            let failure = failure(FailureKind::Rejected, message.clone());
            self.end_attempt(stage, attempt, Outcome::Rejected, Some(failure), BTreeMap::new())?;
        }
        self.end_stage(stage, Outcome::Rejected, Outcome::Rejected, Some(message))
    }

    /// Whether a stage needs an approval before it may act on its environment. An approval is valid if it was given at
    /// a gate for this environment: one before the stage whose `approves` names the environment, or one that the engine
    /// opened for it. One for an environment is one for all of its regions. It must also be bound to what would run now, and
    /// to the files that the stage works on.
    pub(super) fn lacks_approval(&self, stage: StageIndex) -> bool {
        self.lacks_approval_that(stage, |_| true)
    }

    /// Whether the stage's approvals were given for another release than the current one of its environment, which this run
    /// has just acquired. One that the run itself has deployed since is no other release.
    pub(super) fn approval_lapsed(&self, stage: StageIndex, current: Option<&Release>) -> bool {
        let environment = self.environment_of(stage).unwrap_or_default();
        let current = current.map(|release| release.fence);
        let is_own = |fence: u64| {
            let mut of_it = self.plan.indices().filter(|&other| self.environment_of(other) == Some(environment));
            of_it.any(|other| self.state.stage(other).fences.contains(&fence))
        };
        self.lacks_approval_that(stage, |gate| match &gate.releases {
            Some(releases) => releases.get(environment).copied() == current || current.is_some_and(is_own),
            None => true,
        })
    }

    /// Whether the stage needs an approval and has none that meets the condition.
    fn lacks_approval_that(&self, stage: StageIndex, meets: impl Fn(&Gate) -> bool) -> bool {
        let Some(environment) = self.lock_of(stage) else { return false };
        let members = self.plan.members_of(&self.environment_approvers(stage));
        if members.is_empty() || self.only_asks(stage, environment) {
            return false;
        }
        let ancestors = self.ancestors(stage);
        let gates = self.gates_before(stage);
        let is_before = |other: StageIndex| other == stage || ancestors.contains(&other);
        let approves = |other: StageIndex| {
            let state = self.state.stage(other);
            let is_for_it = |gate: &Gate| match gate.kind {
                GateKind::Approval => {
                    is_before(other) && self.plan.stage(other).approves().any(|name| name == environment)
                }
                GateKind::Environment | GateKind::Freeze | GateKind::Unresolved => {
                    self.lock_of(other) == Some(environment)
                }
                GateKind::Wait => false,
            };
            // If the gate captured files, its approval is only valid for a stage that works on exactly these files.
            let capture = state.gate.as_ref().and_then(|gate| gate.capture.as_ref());
            let is_of_its_files = |gate: &Gate| match &gate.capture {
                Some(approved) => gates.contains(&other) && capture == Some(approved),
                None => true,
            };
            let counts = |gate: &Gate| self.binds(gate) && is_for_it(gate) && is_of_its_files(gate) && meets(gate);
            let is_approver = |by: &str| members.iter().any(|member| same_person(member, by));
            state.approved_gates.iter().any(|approved| {
                let mut answers = approved.answers.iter();
                counts(&approved.gate) && answers.any(|answer| answer.rehearsed || is_approver(&answer.by))
            })
        };
        !self.plan.indices().any(approves)
    }

    /// Whether a stage is itself the approval gate of an environment, and can't do anything else.
    fn only_asks(&self, stage: StageIndex, environment: &str) -> bool {
        self.values.plugin(stage).effect == EffectClass::Pure
            && self.plan.stage(stage).approves().any(|name| name == environment)
    }

    pub(super) fn ancestors(&self, stage: StageIndex) -> BTreeSet<StageIndex> {
        let mut found = BTreeSet::new();
        let mut open = self.plan.stage(stage).needs.clone();
        while let Some(next) = open.pop() {
            if found.insert(next) {
                open.extend(&self.plan.stage(next).needs);
            }
        }
        found
    }

    fn environment_approvers(&self, stage: StageIndex) -> Vec<String> {
        let environment = self.environment_of(stage).and_then(|name| self.plan.environments.get(name));
        environment.map(|environment| environment.approvers.clone()).unwrap_or_default()
    }

    pub(super) fn environment_of(&self, stage: StageIndex) -> Option<&str> {
        self.plan.stage(stage).environment.as_ref().map(|environment| environment.name.as_str())
    }

    /// The environment that is locked while the stage acts on its own.
    pub(super) fn lock_of(&self, stage: StageIndex) -> Option<&str> {
        self.environment_of(stage).map(stagewright_model::lock_of)
    }

    fn unknown_team<'a>(&self, approver: &'a str) -> Option<&'a str> {
        approver.strip_prefix("team:").filter(|team| !self.plan.teams.contains_key(*team))
    }
}

/// The name of an approver that isn't a valid name of a person, and the reason.
fn invalid_name(approver: &str) -> Option<(String, PersonNameError)> {
    let name = Some(approver).filter(|approver| !approver.starts_with("team:"))?;
    PersonName::parse(name).err().map(|reason| (name.to_owned(), reason))
}
