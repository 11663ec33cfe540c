//! Rehearsals: a stage can end as rehearsed, and its missing outputs make the stages that use them end as rehearsed.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use stagewright_model::{EvaluationError, Expression, NeedsStatus, RehearsalTerms, StageIndex};

use super::{Scheduler, failure};
use crate::event::{EventKind, Failure, FailureKind, Outcome};
use crate::state::{IllegalTransition, StageStatus};

impl Scheduler {
    /// What is real for an attempt of the stage in a rehearsal; none in a real run.
    pub(super) fn terms(&self, stage: StageIndex) -> Option<RehearsalTerms> {
        self.values.rehearsal.then(|| RehearsalTerms::of(self.plan.stage(stage), self.values.offline))
    }

    /// The rehearsed stage whose missing output is the reason for an evaluation error; none if the error has another
    /// reason.
    pub(super) fn rehearsed_source(&self, error: &EvaluationError) -> Option<String> {
        if !self.values.rehearsal {
            return None;
        }
        let expression = Expression::parse(&error.expression).ok()?;
        let is_rehearsed = |stage: &StageIndex| {
            matches!(self.state.stage(*stage).status, StageStatus::Ended { outcome: Outcome::Rehearsed, .. })
        };
        let found = expression.stages().iter().find_map(|name| self.plan.named(name).find(is_rehearsed));
        found.map(|stage| self.plan.stage(stage).id.clone())
    }

    /// Ends a stage that can't start because an expression has no value: as rehearsed if a rehearsed stage is the
    /// reason, as errored otherwise.
    pub(super) fn end_without_value(
        &mut self,
        index: StageIndex,
        error: &EvaluationError,
    ) -> Result<(), IllegalTransition> {
        let Some(source) = self.rehearsed_source(error) else {
            return self.fail_before_start(index, failure(FailureKind::Configuration, error.to_string()));
        };
        let attempt = self.next_attempt(index);
        let message = format!("needs an output of `{source}`, which was rehearsed: `{}`", error.expression);
        let failure = failure(FailureKind::Rehearsed, message.clone());
        let ended = self.with_rehearsed_outputs(index, Outcome::Rehearsed, Some(failure), BTreeMap::new());
        let (outcome, failure, outputs) = ended;
        self.record(EventKind::AttemptStarted { stage: index, attempt, fence: None })?;
        self.end_attempt(index, attempt, outcome, failure, outputs)?;
        self.end_stage(index, outcome, self.conclusion_of(index, outcome), Some(message))
    }

    /// The outcome and outputs of an attempt for later stages: in a rehearsal, `rehearse.outputs` override the outputs
    /// of one that didn't fail.
    pub(super) fn with_rehearsed_outputs(
        &self,
        index: StageIndex,
        outcome: Outcome,
        failure: Option<Failure>,
        mut outputs: BTreeMap<String, Json>,
    ) -> (Outcome, Option<Failure>, BTreeMap<String, Json>) {
        let declared = self.plan.stage(index).rehearse.as_ref().and_then(|rehearse| rehearse.outputs.clone());
        let ended_well = matches!(outcome, Outcome::Succeeded | Outcome::Rehearsed | Outcome::Skipped);
        let Some(declared) = declared.filter(|_| self.values.rehearsal && ended_well) else {
            return (outcome, failure, outputs);
        };
        let needs = NeedsStatus { failed: false, cancelled: self.state.cancel.is_some() };
        match self.render(index, needs, |scope, _| declared.evaluate(scope)) {
            Ok(Json::Object(declared)) => {
                outputs.extend(declared);
                (outcome, failure, outputs)
            }
            Ok(_) => (outcome, failure, outputs),
            // They need an output of another rehearsed stage. Stages that use them must be rehearsed, too.
            Err(error) if self.rehearsed_source(&error).is_some() => (Outcome::Rehearsed, failure, outputs),
            Err(error) => {
                let message = format!("`rehearse.outputs`: {error}");
                (Outcome::Errored, Some(super::failure(FailureKind::Configuration, message)), outputs)
            }
        }
    }
}
