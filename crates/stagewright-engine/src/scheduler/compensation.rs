//! Compensation: when a stage fails, the effects of the stages that its `compensate` names are undone, one at a time,
//! in the reverse order in which they ended.

use std::sync::Arc;

use stagewright_model::StageIndex;

use super::{Action, Scheduler, failure};
use crate::event::{EventKind, Failure, FailureKind, Outcome, ReleaseOrigin};
use crate::port::{AttemptEnd, AttemptReport, Call, EnvironmentView};
use crate::state::{IllegalTransition, StageStatus, UndoState};

impl Scheduler {
    /// Queues the stages to compensate for after the failure of a stage.
    pub(super) fn compensate(&mut self, because: StageIndex, outcome: Outcome) {
        if !outcome.is_failure() {
            return;
        }
        let plan = Arc::clone(&self.plan);
        self.compensate_only(because, &plan.stage(because).compensate);
    }

    fn compensate_only(&mut self, because: StageIndex, stages: &[StageIndex]) {
        let mut targets: Vec<(u64, StageIndex)> = Vec::new();
        for &target in stages {
            let state = self.state.stage(target);
            let did_it = matches!(state.status, StageStatus::Ended { outcome: Outcome::Succeeded, .. });
            let queued = self.undo_queue.iter().any(|(stage, _)| *stage == target);
            if did_it && state.undo == UndoState::NotStarted && state.attempts > 0 && !queued {
                targets.push((state.ended.unwrap_or(0), target));
            }
        }
        targets.sort_unstable();
        self.undo_queue.extend(targets.into_iter().rev().map(|(_, target)| (target, because)));
    }

    /// Queues a stage that ended after one that compensates it had failed: in a wave, the regions don't wait for each other.
    pub(super) fn compensate_late(&mut self, ended: StageIndex) {
        let has_failed = |index: &StageIndex| {
            let stage = self.plan.stage(*index);
            let undoes_it = stage.wave.as_ref().is_some_and(|wave| wave.undo.contains(&ended));
            undoes_it
                && matches!(self.state.stage(*index).status, StageStatus::Ended { outcome, .. } if outcome.is_failure())
        };
        if let Some(failed) = self.plan.indices().find(has_failed) {
            self.compensate_only(failed, &[ended]);
        }
    }

    /// Whether a compensation is in progress or queued.
    pub(super) fn is_compensating(&self) -> bool {
        self.undoing.is_some() || !self.undo_queue.is_empty()
    }

    /// Starts the next compensation, unless one is in progress.
    pub(super) fn next_undo(&mut self) -> Result<(), IllegalTransition> {
        let Some(&(stage, _)) = self.undo_queue.front() else { return Ok(()) };
        let may_start = self.undoing.is_none() && self.has_slot() && !self.is_environment_busy(stage);
        if !may_start || !self.has_group() {
            return Ok(());
        }
        self.undoing = Some(stage);
        if self.needs_environment(stage) {
            self.acquire_environment(stage, true);
            return Ok(());
        }
        let name = self.environment_of(stage).unwrap_or_default().to_owned();
        self.begin_undo(stage, EnvironmentView { name, ..EnvironmentView::default() })
    }

    pub(super) fn begin_undo(&mut self, stage: StageIndex, view: EnvironmentView) -> Result<(), IllegalTransition> {
        let Some(&(_, because)) = self.undo_queue.front() else { return Ok(()) };
        let attempt = self.state.stage(stage).attempts;
        let mut request = match self.request(stage, attempt, Call::Undo) {
            Ok(request) => request,
            Err(error) => {
                let failure = failure(FailureKind::Configuration, error.to_string());
                return self.end_undo(stage, Outcome::Errored, Some(failure));
            }
        };
        let fence = view.fence;
        self.undo_target.clone_from(&view.last_known_good);
        request.environment = request.environment.map(|_| view);
        self.record(EventKind::UndoStarted { stage, attempt, because, fence })?;
        self.running.insert(stage);
        self.response.actions.push(Action::Launch(Box::new(request)));
        Ok(())
    }

    pub(super) fn on_undo_ended(&mut self, stage: StageIndex, report: AttemptReport) -> Result<(), IllegalTransition> {
        let (outcome, failure) = match report.end {
            AttemptEnd::Succeeded => (Outcome::Succeeded, None),
            AttemptEnd::Skipped(reason) => (Outcome::Skipped, Some(failure(FailureKind::Reported, reason))),
            AttemptEnd::Rehearsed(what) => (Outcome::Rehearsed, Some(failure(FailureKind::Rehearsed, what))),
            AttemptEnd::Unsuccessful(outcome, failure) => (outcome, Some(failure)),
            AttemptEnd::Suspended(_) | AttemptEnd::Waiting(_) | AttemptEnd::Observed(_) | AttemptEnd::Compared(_) => (
                Outcome::Errored,
                Some(failure(FailureKind::BadPlugin, "its `undo` returned a gate, a wait or an observation")),
            ),
        };
        self.end_undo(stage, outcome, failure)?;
        // A release that the undo restored is recorded after `UndoEnded`, which clears the release of the stage itself
        // and marks it as undone in the ledger. If the order were reversed, the restored release would be taken for the
        // undone one, and the environment would seem to have none.
        if let (Outcome::Succeeded, Some(note)) = (outcome, report.release) {
            let attempt = self.state.stage(stage).attempts;
            let back_to = self.undo_target.take().filter(|release| release.artifact == note.artifact);
            let config = back_to.as_ref().map(|release| release.config.clone());
            self.record_release_as(stage, attempt, note, ReleaseOrigin::Undo, config)?;
            if back_to.is_some() {
                self.record(EventKind::ReleaseConfirmed { stage })?;
            }
        }
        Ok(())
    }

    pub(super) fn end_undo(
        &mut self,
        stage: StageIndex,
        outcome: Outcome,
        failure: Option<Failure>,
    ) -> Result<(), IllegalTransition> {
        self.undoing = None;
        self.undo_queue.retain(|(queued, _)| *queued != stage);
        let attempt = self.state.stage(stage).attempts;
        self.record(EventKind::UndoEnded { stage, attempt, outcome, failure })
    }
}
