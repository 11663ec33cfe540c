//! The end of an attempt, and of its stage.

use std::collections::BTreeMap;
use std::sync::Arc;

use petgraph::graph::NodeIndex;
use serde_json::Value as Json;
use stagewright_model::{StageIndex, StageKind};

use super::{Action, Scheduler, failure};
use crate::event::{EventKind, Failure, FailureKind, Made, Outcome};
use crate::port::{AttemptEnd, AttemptReport};
use crate::state::{IllegalTransition, StageStatus};

impl Scheduler {
    pub(super) fn on_attempt_end(
        &mut self,
        stage: StageIndex,
        attempt: u32,
        mut report: AttemptReport,
    ) -> Result<(), IllegalTransition> {
        self.running.remove(&stage);
        for artifact in std::mem::take(&mut report.artifacts) {
            self.record(EventKind::ArtifactPublished { stage, attempt, artifact })?;
        }
        if self.undoing == Some(stage) {
            return self.on_undo_ended(stage, report);
        }
        if let StageStatus::Recovering(attempt) = self.state.stage(stage).status {
            return self.on_observed(stage, attempt, report);
        }
        // Also before a gate: what an attempt has deployed is in place while it waits, and its next call doesn't know of it.
        if let Some(note) = report.release {
            self.record_release(stage, attempt, note)?;
        }
        let (outcome, failure) = match report.end {
            AttemptEnd::Succeeded => (Outcome::Succeeded, None),
            AttemptEnd::Skipped(reason) => (Outcome::Skipped, Some(failure(FailureKind::Reported, reason))),
            AttemptEnd::Rehearsed(what) => (Outcome::Rehearsed, Some(failure(FailureKind::Rehearsed, what))),
            AttemptEnd::Unsuccessful(outcome, failure) => (outcome, Some(failure)),
            AttemptEnd::Suspended(gate) => return self.open_own_gate(stage, attempt, gate),
            AttemptEnd::Waiting(wait) => match wait.check() {
                Ok(()) => return self.open_wait(stage, attempt, wait),
                // It hasn't done its work, and what it has begun goes on without it.
                Err(error) => (Outcome::Inconclusive, Some(failure(FailureKind::BadPlugin, error.to_string()))),
            },
            AttemptEnd::Observed(_) | AttemptEnd::Compared(_) => {
                let failure = failure(FailureKind::Internal, "`run` returned the answer to another call");
                (Outcome::Errored, Some(failure))
            }
        };
        let (outcome, failure, outputs) = self.with_rehearsed_outputs(stage, outcome, failure, report.outputs);
        let has_reason = matches!(outcome, Outcome::Skipped | Outcome::Rehearsed);
        let reason = failure.as_ref().filter(|_| has_reason).map(|failure| failure.message.clone());
        let retry = self.retry_after(stage, attempt, outcome, failure.as_ref());
        self.end_attempt_with(stage, attempt, outcome, failure, outputs, report.made)?;
        if let Some(after) = retry {
            let millis = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
            self.record(EventKind::RetryScheduled { stage, attempt: attempt + 1, after: millis })?;
            self.response.actions.push(Action::Wake { stage, attempt: attempt + 1, after });
            return Ok(());
        }
        self.end_stage(stage, outcome, self.conclusion_of(stage, outcome), reason)
    }

    /// The result after `continue-on-error`. A stage that found nothing to do counts as succeeded.
    pub(super) fn conclusion_of(&self, stage: StageIndex, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Skipped => Outcome::Succeeded,
            _ if outcome.is_failure() && self.plan.stage(stage).continue_on_error => Outcome::Succeeded,
            _ => outcome,
        }
    }

    pub(super) fn end_attempt(
        &mut self,
        stage: StageIndex,
        attempt: u32,
        outcome: Outcome,
        failure: Option<Failure>,
        outputs: BTreeMap<String, Json>,
    ) -> Result<(), IllegalTransition> {
        self.end_attempt_with(stage, attempt, outcome, failure, outputs, None)
    }

    fn end_attempt_with(
        &mut self,
        stage: StageIndex,
        attempt: u32,
        outcome: Outcome,
        failure: Option<Failure>,
        outputs: BTreeMap<String, Json>,
        made: Option<Made>,
    ) -> Result<(), IllegalTransition> {
        self.record(EventKind::AttemptEnded { stage, attempt, outcome, failure, outputs, made })
    }

    pub(super) fn end_stage(
        &mut self,
        index: StageIndex,
        outcome: Outcome,
        conclusion: Outcome,
        reason: Option<String>,
    ) -> Result<(), IllegalTransition> {
        self.record_end(index, outcome, conclusion, reason)?;
        self.ready.remove(&index);
        self.awaited.remove(&index);
        self.unfreezing.remove(&index);
        self.opening.remove(&index);
        self.confirm_releases(index)?;
        self.compensate(index, outcome);
        if outcome == Outcome::Succeeded && self.plan.stage(index).wave.is_some() {
            self.compensate_late(index);
        }
        self.open -= 1;
        self.open_main -= usize::from(self.plan.stage(index).kind == StageKind::Main);
        self.upstream_failed[index.get()] = self.has_failed_upstream(index);
        let plan = Arc::clone(&self.plan);
        for dependent in plan.graph.neighbors(NodeIndex::new(index.get())) {
            let open = &mut self.open_needs[dependent.index()];
            *open -= 1;
            let dependent = plan.graph[dependent];
            // A stage that is left out ends before the main stages have. It must not start finally stages that need it.
            let is_due = plan.stage(dependent).kind == StageKind::Main || self.finally_resolved;
            if *open == 0 && is_due {
                self.unblocked.push(dependent);
            }
        }
        if conclusion.is_failure() && plan.stage(index).matrix.as_ref().is_some_and(|cell| cell.fail_fast) {
            self.stop_siblings(index)?;
        }
        Ok(())
    }

    pub(super) fn record_end(
        &mut self,
        stage: StageIndex,
        outcome: Outcome,
        conclusion: Outcome,
        reason: Option<String>,
    ) -> Result<(), IllegalTransition> {
        self.record(EventKind::StageEnded { stage, outcome, conclusion, reason })
    }
}
