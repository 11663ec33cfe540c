//! What is different when the run is a rehearsal: a stage can end as rehearsed, and what it didn't make can't be asked for.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use stagewright_model::{EvaluationError, Expression, NeedsStatus, RehearsalTerms, StageIndex};

use super::{Scheduler, failure};
use crate::event::{EventKind, Failure, FailureKind, Outcome};
use crate::state::{IllegalTransition, Status};

impl Scheduler {
    /// What an attempt of the stage may reach for real; none in a real run.
    pub(super) fn terms(&self, stage: StageIndex) -> Option<RehearsalTerms> {
        self.values.rehearsal.then(|| RehearsalTerms::of(self.plan.stage(stage), self.values.offline))
    }

    /// Whether an expression has no value because it asks a stage for something that this stage would have made, had it
    /// not been rehearsed: which stage.
    pub(super) fn rehearsed_source(&self, error: &EvaluationError) -> Option<String> {
        if !self.values.rehearsal {
            return None;
        }
        let expression = Expression::parse(&error.expression).ok()?;
        let is_rehearsed = |stage: &StageIndex| {
            matches!(self.state.stage(*stage).status, Status::Ended { outcome: Outcome::Rehearsed, .. })
        };
        let found = expression.stages().iter().find_map(|name| self.plan.named(name).find(is_rehearsed));
        found.map(|stage| self.plan.stage(stage).id.clone())
    }

    /// Ends a stage that could not begin because of an expression: as rehearsed, if that is why.
    pub(super) fn end_without_value(
        &mut self,
        index: StageIndex,
        error: &EvaluationError,
    ) -> Result<(), IllegalTransition> {
        let Some(source) = self.rehearsed_source(error) else {
            return self.fail_before_start(index, failure(FailureKind::Configuration, error.to_string()));
        };
        let attempt = self.attempt_to_come(index);
        let message = format!("needs what `{source}` would have made, which was rehearsed: `{}`", error.expression);
        let failure = failure(FailureKind::Rehearsed, message.clone());
        let ended = self.with_rehearsed_outputs(index, Outcome::Rehearsed, Some(failure), BTreeMap::new());
        let (outcome, failure, outputs) = ended;
        self.record(EventKind::AttemptStarted { stage: index, attempt, fence: None })?;
        self.end_attempt(index, attempt, outcome, failure, outputs)?;
        self.end_stage(index, outcome, self.conclusion_of(index, outcome), Some(message))
    }

    /// What later stages see of an attempt that ended well: in a rehearsal, with `rehearse.outputs` over it.
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
            // Who asks for one of them is rehearsed as well.
            Err(error) if self.rehearsed_source(&error).is_some() => (Outcome::Rehearsed, failure, outputs),
            Err(error) => {
                let message = format!("`rehearse.outputs`: {error}");
                (Outcome::Errored, Some(super::failure(FailureKind::Configuration, message)), outputs)
            }
        }
    }
}
