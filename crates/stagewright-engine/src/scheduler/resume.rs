//! Resuming a run: attempts that were running are lost, stages that didn't succeed run again, and open gates stay open.

use std::collections::BTreeMap;
use std::time::Duration;

use petgraph::graph::NodeIndex;
use stagewright_model::{StageIndex, StageKind};

use super::{Action, Scheduler, failure};
use crate::event::{Change, EventKind, FailureKind, GateKind, Outcome};
use crate::state::{IllegalTransition, StageStatus, UndoState};

impl Scheduler {
    pub(super) fn on_resume(
        &mut self,
        reason: String,
        from: &[StageIndex],
        changed: Vec<Change>,
        pipeline: Option<String>,
    ) -> Result<(), IllegalTransition> {
        for index in self.plan.indices() {
            if let StageStatus::Running(attempt) = self.state.stage(index).status {
                let failure = failure(FailureKind::Killed, "the process that ran it ended unexpectedly");
                self.end_attempt(index, attempt, Outcome::Lost, Some(failure), BTreeMap::new())?;
            }
            if let StageStatus::AttemptEnded(_) = self.state.stage(index).status {
                let state = self.state.stage(index);
                let outcome = state.last_outcome.unwrap_or(Outcome::Lost);
                // `continue-on-error` is for failures of the stage's own work. An attempt that was lost, or whose
                // outcome is unresolved, must not count as succeeded: the stages after it would run although it may
                // have done half of its work.
                let broke_off = outcome == Outcome::Lost || state.unresolved_attempt.is_some();
                let conclusion = if broke_off { outcome } else { self.conclusion_of(index, outcome) };
                self.record_end(index, outcome, conclusion, None)?;
            }
        }
        let again = self.to_run_again(from);
        self.record(EventKind::RunResumed { reason, again, changed, pipeline })?;
        self.derive();
        self.evaluate_group()?;
        for index in self.plan.indices() {
            self.confirm_release(index)?;
            match self.state.stage(index).status {
                StageStatus::Approved(_) | StageStatus::Backoff(_) => {
                    self.ready.insert(index);
                    if self.state.stage(index).is_between_calls() {
                        self.reacquiring.insert(index);
                    }
                }
                StageStatus::Refused(attempt) => self.reject(index, attempt)?,
                StageStatus::Recovering(attempt) => self.continue_recovery(index, attempt)?,
                // No freeze in the pipeline file applies, so a person froze it, and may have unfrozen it while the run
                // was suspended. The journal can't show that, so request the environment again: a freeze that is still
                // in force opens the gate again.
                StageStatus::Waiting(attempt)
                    if self.state.stage(index).gate_kind() == Some(GateKind::Freeze)
                        && self.freeze_of(index).is_none() =>
                {
                    // By a timer, so that answers that are already queued are handled before.
                    self.unfreezing.insert(index);
                    self.response.actions.push(Action::Wake { stage: index, attempt, after: Duration::ZERO });
                }
                StageStatus::Waiting(attempt) => {
                    self.set_gate_timer(index, attempt);
                    if self.state.stage(index).is_between_calls() {
                        self.reacquiring.insert(index);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The stages that a resume runs again:
    ///
    /// - those that didn't succeed,
    /// - gates whose approval is no longer valid, as long as a stage that needs them hasn't succeeded,
    /// - those that were compensated for or are in `from`, with all stages that build on them.
    ///
    /// Stages that were left out of the run stay left out.
    pub(super) fn to_run_again(&self, from: &[StageIndex]) -> Vec<StageIndex> {
        let mut again = vec![false; self.plan.stages.len()];
        // The stages in `again` that had succeeded: those that need them were built on a result that is replaced now.
        let mut undone = vec![false; self.plan.stages.len()];
        for index in self.plan.indices() {
            let state = self.state.stage(index);
            let conclusion = state.status.conclusion();
            let succeeded = conclusion.is_some_and(Outcome::lets_dependents_run);
            let left_out = succeeded && state.attempts == 0;
            let mut needs = self.plan.stage(index).own_needs();
            let builds_on_undone = !left_out && needs.any(|need| undone[need.get()]);
            // An open stage beyond `Pending`, for example at a gate, got there because of how the stages before it
            // ended. If one of these runs again, that is no longer certain, so the stage starts over.
            let premature = conclusion.is_none() && self.predecessors(index).any(|other| again[other.get()]);
            let upstream = state.status != StageStatus::Pending && (builds_on_undone || premature);
            let is_undone = match state.undo {
                UndoState::NotStarted => false,
                UndoState::Started => true,
                UndoState::Ended(outcome) => outcome == Outcome::Succeeded || state.unresolved_attempt.is_some(),
            };
            let must_repeat = upstream || is_undone || from.contains(&index);
            again[index.get()] = must_repeat || self.has_lapsed(index) || (conclusion.is_some() && !succeeded);
            undone[index.get()] = must_repeat && succeeded;
        }
        self.plan.indices().filter(|index| again[index.get()]).collect()
    }

    /// The stages that must end before this one may start: its needs and, for a finally stage, all main stages.
    fn predecessors(&self, index: StageIndex) -> impl Iterator<Item = StageIndex> {
        let stage = self.plan.stage(index);
        let is_main = |index: &StageIndex| self.plan.stage(*index).kind == StageKind::Main;
        let main = self.plan.indices().filter(is_main).filter(|_| stage.kind == StageKind::Finally);
        stage.needs.iter().copied().chain(main)
    }

    /// Whether the stage must run again because the answers to its gate aren't valid for what would run now.
    ///
    /// An open gate must always ask again. An approval stage that has ended asks again only if a stage that needs it is
    /// left to run, and never if it had an effect. A gate of an environment precedes the effect of its own stage: once
    /// that stage has ended, its effect must not be repeated because, say, an input changed. The outcome of an
    /// interrupted attempt stays true whatever would run now.
    ///
    /// An attempt at a wait goes on: what it has begun, such as a remote job, goes on as well, and a new attempt would
    /// begin it a second time. Only before it continues, an environment's approvers have to approve what has changed.
    fn has_lapsed(&self, index: StageIndex) -> bool {
        let state = self.state.stage(index);
        if state.wait.is_some() {
            return false;
        }
        let Some(gate) = state.gate.as_ref().filter(|gate| !self.binds(gate)) else { return false };
        let is_needed = || {
            let mut dependents = self.plan.graph.neighbors(NodeIndex::new(index.get()));
            dependents.any(|dependent| !self.state.stages[dependent.index()].status.has_succeeded())
        };
        match (gate.kind, state.status.conclusion()) {
            (GateKind::Unresolved | GateKind::Wait, _) => false,
            (_, None) => true,
            (GateKind::Approval, Some(_)) => !state.acted && is_needed(),
            (GateKind::Environment | GateKind::Freeze, Some(_)) => false,
        }
    }
}
