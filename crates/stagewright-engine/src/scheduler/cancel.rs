//! Cancellation: of the whole run, or of the siblings of a failed cell in a fail-fast matrix.

use std::collections::BTreeMap;
use std::sync::Arc;

use stagewright_model::StageIndex;

use super::{Action, Scheduler, failure};
use crate::event::{EventKind, FailureKind, Interrupt, Outcome};
use crate::state::{IllegalTransition, StageStatus};

const CANCELLED: &str = "the run was cancelled";

impl Scheduler {
    pub(super) fn on_cancel(&mut self, how: Interrupt, reason: String) -> Result<(), IllegalTransition> {
        if self.state.cancel >= Some(how) || self.state.conclusion.is_some() {
            return Ok(());
        }
        self.record(EventKind::CancelRequested { how, reason })?;
        for &stage in &self.running {
            // A graceful cancellation lets a compensation finish: stopping it would leave a bad deploy in place. Only a
            // kill interrupts it.
            if how == Interrupt::Kill || self.undoing != Some(stage) {
                self.response.actions.push(Action::Interrupt { stage, how });
            }
        }
        for (stage, (attempt, _)) in std::mem::take(&mut self.opening) {
            self.cancel_at_gate(stage, attempt, CANCELLED)?;
        }
        let awaited: Vec<StageIndex> = std::mem::take(&mut self.awaited).into_keys().collect();
        for index in self.plan.indices() {
            match self.state.stage(index).status {
                StageStatus::Waiting(attempt) | StageStatus::Approved(attempt) => {
                    self.cancel_at_gate(index, attempt, CANCELLED)?;
                }
                StageStatus::Backoff(_) => self.cancel_stage(index, CANCELLED)?,
                StageStatus::Recovering(_) if !self.running.contains(&index) => self.cancel_stage(index, CANCELLED)?,
                _ => {}
            }
        }
        self.unblocked.extend(std::mem::take(&mut self.ready));
        self.unblocked.extend(awaited);
        if how == Interrupt::Kill && self.undoing.is_some_and(|stage| !self.running.contains(&stage)) {
            self.undoing = None;
        }
        Ok(())
    }

    pub(super) fn cancel_at_gate(
        &mut self,
        stage: StageIndex,
        attempt: u32,
        reason: &str,
    ) -> Result<(), IllegalTransition> {
        if self.state.stage(stage).has_begun(attempt) {
            let failure = failure(FailureKind::Cancelled, reason);
            self.end_attempt(stage, attempt, Outcome::Cancelled, Some(failure), BTreeMap::new())?;
        }
        self.cancel_stage(stage, reason)
    }

    pub(super) fn cancel_stage(&mut self, stage: StageIndex, reason: &str) -> Result<(), IllegalTransition> {
        self.end_stage(stage, Outcome::Cancelled, Outcome::Cancelled, Some(reason.to_owned()))
    }

    /// Why a stage must not start anything new: the run was cancelled, or a sibling in its fail-fast matrix failed.
    pub(super) fn reason_to_stop(&self, index: StageIndex) -> Option<String> {
        if self.state.cancel.is_some() {
            return Some(CANCELLED.to_owned());
        }
        let stage = self.plan.stage(index);
        stage.matrix.as_ref().filter(|cell| cell.fail_fast)?;
        let has_failed = |cell: &&StageIndex| {
            **cell != index && self.state.stage(**cell).status.conclusion().is_some_and(Outcome::is_failure)
        };
        let failed = self.cells[&stage.name].iter().find(has_failed)?;
        Some(format!("`{}` failed, and the matrix is fail-fast", self.plan.stage(*failed).id))
    }

    /// Cancels the siblings of a cell that failed in a fail-fast matrix.
    pub(super) fn stop_siblings(&mut self, index: StageIndex) -> Result<(), IllegalTransition> {
        let plan = Arc::clone(&self.plan);
        let siblings = self.cells[&plan.stage(index).name].clone();
        let reason = format!("`{}` failed, and the matrix is fail-fast", plan.stage(index).id);
        for sibling in siblings {
            match self.state.stage(sibling).status {
                StageStatus::Running(_) | StageStatus::Recovering(_) if self.running.contains(&sibling) => {
                    let how = Interrupt::Graceful;
                    self.response.actions.push(Action::Interrupt { stage: sibling, how });
                }
                StageStatus::Waiting(attempt) | StageStatus::Approved(attempt) => {
                    self.cancel_at_gate(sibling, attempt, &reason)?;
                }
                StageStatus::Pending | StageStatus::Backoff(_) | StageStatus::Recovering(_) => {
                    self.cancel_stage(sibling, &reason)?;
                }
                StageStatus::Running(_)
                | StageStatus::AttemptEnded(_)
                | StageStatus::Refused(_)
                | StageStatus::Ended { .. } => {}
            }
        }
        Ok(())
    }
}
