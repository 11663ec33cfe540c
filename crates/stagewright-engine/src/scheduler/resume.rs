//! Going on with a run that has a past: what was under way is lost, what didn't succeed runs again, and what stood at a
//! gate still stands there.

use std::collections::BTreeMap;
use std::time::Duration;

use petgraph::graph::NodeIndex;
use stagewright_model::{StageIndex, StageKind};

use super::{Action, Scheduler, failure};
use crate::event::{Change, EventKind, FailureKind, GateKind, Outcome};
use crate::state::{IllegalTransition, Status, Undo};

impl Scheduler {
    pub(super) fn on_resume(
        &mut self,
        reason: String,
        from: &[StageIndex],
        changed: Vec<Change>,
    ) -> Result<(), IllegalTransition> {
        for index in self.plan.indices() {
            if let Status::Running(attempt) = self.state.stage(index).status {
                let failure = failure(FailureKind::Killed, "the process that ran it went away");
                self.end_attempt(index, attempt, Outcome::Lost, Some(failure), BTreeMap::new())?;
            }
            if let Status::Settled(_) = self.state.stage(index).status {
                let state = self.state.stage(index);
                let outcome = state.last_outcome.unwrap_or(Outcome::Lost);
                // What broke off is no failure of the stage that could be passed over.
                let broke_off = outcome == Outcome::Lost || state.doubt.is_some();
                let conclusion = if broke_off { outcome } else { self.conclusion_of(index, outcome) };
                self.record_end(index, outcome, conclusion, None)?;
            }
        }
        let again = self.to_run_again(from);
        self.record(EventKind::RunResumed { reason, again, changed })?;
        self.derive();
        self.evaluate_group()?;
        for index in self.plan.indices() {
            self.confirm_release(index)?;
            match self.state.stage(index).status {
                Status::Approved(_) | Status::Backoff(_) => {
                    self.ready.insert(index);
                }
                Status::Refused(attempt) => self.reject(index, attempt)?,
                Status::Recovering(attempt) => self.resume_recovery(index, attempt)?,
                // The pipeline doesn't freeze it, so somebody did, and may have changed their mind.
                Status::Waiting(attempt)
                    if self.state.stage(index).gate_kind() == Some(GateKind::Freeze)
                        && self.freeze_of(index).is_none() =>
                {
                    // Answers that were given meanwhile come first.
                    self.thawing.insert(index);
                    self.response.actions.push(Action::Wake { stage: index, attempt, after: Duration::ZERO });
                }
                Status::Waiting(attempt) => self.watch_gate(index, attempt),
                _ => {}
            }
        }
        Ok(())
    }

    /// What a resume runs again: what didn't succeed; gates whose approval was given for something else, as long as
    /// something is left to do after them; and what was taken back or what somebody names, with all that came of it.
    ///
    /// What was left out from the start stays left out.
    pub(super) fn to_run_again(&self, from: &[StageIndex]) -> Vec<StageIndex> {
        let mut again = vec![false; self.plan.stages.len()];
        // Those among them that had succeeded.
        let mut undone = vec![false; self.plan.stages.len()];
        for index in self.plan.indices() {
            let state = self.state.stage(index);
            let conclusion = state.status.conclusion();
            let succeeded = conclusion.is_some_and(Outcome::lets_dependents_run);
            let left_out = succeeded && state.attempts == 0;
            let mut needs = self.plan.stage(index).needs.iter();
            let came_of_it = !left_out && needs.any(|need| undone[need.get()]);
            // What stands at a gate came there by how others had ended.
            let premature = conclusion.is_none() && self.comes_after(index).any(|other| again[other.get()]);
            let upstream = state.status != Status::Pending && (came_of_it || premature);
            let taken_back = match state.undo {
                Undo::No => false,
                Undo::Started => true,
                Undo::Ended(outcome) => outcome == Outcome::Succeeded || state.doubt.is_some(),
            };
            let anew = upstream || taken_back || from.contains(&index);
            again[index.get()] = anew || self.has_lapsed(index) || (conclusion.is_some() && !succeeded);
            undone[index.get()] = anew && succeeded;
        }
        self.plan.indices().filter(|index| again[index.get()]).collect()
    }

    /// The stages that have to end before this one may start.
    fn comes_after(&self, index: StageIndex) -> impl Iterator<Item = StageIndex> {
        let stage = self.plan.stage(index);
        let is_main = |index: &StageIndex| self.plan.stage(*index).kind == StageKind::Main;
        let main = self.plan.indices().filter(is_main).filter(|_| stage.kind == StageKind::Finally);
        stage.needs.iter().copied().chain(main)
    }

    /// Whether people answered the stage's gate for something else than what would run now. What has had its effect is
    /// not done again because of it.
    fn has_lapsed(&self, index: StageIndex) -> bool {
        let state = self.state.stage(index);
        let Some(gate) = state.gate.as_ref().filter(|gate| !self.binds(gate)) else { return false };
        let is_needed = || {
            let mut dependents = self.plan.graph.neighbors(NodeIndex::new(index.get()));
            dependents.any(|dependent| !self.state.stages[dependent.index()].status.has_succeeded())
        };
        match (gate.kind, state.status.conclusion()) {
            (GateKind::Unresolved, _) => false,
            (_, None) => true,
            (GateKind::Approval, Some(_)) => !state.acted && is_needed(),
            (GateKind::Environment | GateKind::Freeze, Some(_)) => false,
        }
    }
}
