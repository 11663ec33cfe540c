//! The variables that a stage's expressions can use.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value as Json, json};
use stagewright_model::{
    EffectClass, EvaluationError, Fidelity, NeedsStatus, Plan, Scope, StageIndex, Template, environment_values,
};

use crate::event::{FailedTest, Outcome, ReleaseOrigin, RunId, RunSource};
use crate::state::{RunState, StageStatus};

/// The values of a run that stay the same while it runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunValues {
    /// Values of the pipeline's inputs, defaults included.
    pub inputs: BTreeMap<String, Json>,
    /// The commit that it runs on, and what started it.
    pub source: RunSource,
    /// The path of the pipeline file, as given.
    pub file: String,
    /// Whether effects act on local stand-ins.
    pub rehearsal: bool,
    /// Whether a rehearsal has no network at all: `--offline`.
    pub offline: bool,
    /// Stages that are left out, each with the reason. Stages that need them run as if they had succeeded.
    pub left_out: BTreeMap<StageIndex, String>,
    /// Outputs of stages that are left out, and the earlier run that produced them.
    pub inherited: BTreeMap<StageIndex, (RunId, BTreeMap<String, Json>)>,
    /// Stages that run only the tests which failed in an earlier run, with that run.
    pub failed_tests: BTreeMap<StageIndex, (RunId, Vec<FailedTest>)>,
    /// Facts about the stages' plugins, by plan index; empty if they weren't inspected.
    pub plugins: Vec<PluginFacts>,
    /// Digest of what approvals are given for: plugins, grants, inputs and the checkout. For gates without a capture.
    pub binding: Option<String>,
    /// The same digest for gates that capture the files, without the checkout. Gates capture files if and only if this
    /// is `Some`.
    pub captured_binding: Option<String>,
    /// How this run's releases reach their environment.
    pub origin: ReleaseOrigin,
}

/// Facts about a stage's plugin that are known before it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PluginFacts {
    /// The digest that the plugin must have when it runs, as `sha256:…`.
    pub digest: Option<Arc<str>>,
    /// How far the stage's effects can reach.
    pub effect: EffectClass,
    /// In a rehearsal, how much of the stage is real, as far as that is known before it runs.
    pub rehearsal: Option<Fidelity>,
    /// Whether the plugin asks for the run's commit and trigger, so that its result depends on them.
    pub reads_source: bool,
}

impl RunValues {
    pub(crate) fn plugin(&self, stage: StageIndex) -> PluginFacts {
        self.plugins.get(stage.get()).cloned().unwrap_or_default()
    }
}

pub(crate) struct StageScope<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) state: &'a RunState,
    pub(crate) values: &'a RunValues,
    pub(crate) stage: StageIndex,
    pub(crate) needs: NeedsStatus,
    pub(crate) env: &'a BTreeMap<String, String>,
    /// For finally stages, the conclusion of the main stages.
    pub(crate) conclusion: Option<Outcome>,
}

impl Scope for StageScope<'_> {
    fn root(&self, name: &str) -> Option<Json> {
        match name {
            "env" => Some(json!(self.env)),
            "matrix" => Some(match &self.plan.stage(self.stage).matrix {
                Some(cell) => json!(cell.values),
                None => json!({}),
            }),
            "region" => Some(match self.plan.region(self.stage) {
                Some(region) => {
                    let mut values = json!(region.values);
                    values["name"] = json!(region.name);
                    values
                }
                None => json!({}),
            }),
            _ => early_value(name, self.plan, self.values, self.state.run.as_ref(), self.conclusion),
        }
    }

    /// A stage with a matrix or with regions is one object: the merged outputs of its cells in order, the worst result, and
    /// all cells under `cells`. A stage that runs in a region only sees those in this region.
    fn stage(&self, name: &str) -> Option<Json> {
        let named = self.seen(name);
        let mut cells = named.iter().filter_map(|&index| self.stage_value(index)).collect::<Vec<_>>();
        let is_cell = |index: &StageIndex| self.plan.stage(*index).matrix.is_some();
        if !named.iter().any(is_cell) && self.is_alone(&named) {
            return cells.pop();
        }
        let mut outputs = serde_json::Map::new();
        for cell in &cells {
            if let Some(Json::Object(own)) = cell.get("outputs") {
                outputs.extend(own.clone());
            }
        }
        let ended = || named.iter().filter_map(|&index| self.ended(index));
        let worst = |outcomes: &mut dyn Iterator<Item = Outcome>| {
            outcomes.max_by_key(|outcome| outcome.gravity()).unwrap_or(Outcome::Skipped).as_str()
        };
        let result = worst(&mut ended().map(|(_, conclusion)| result_of(conclusion)));
        let outcome = worst(&mut ended().map(|(outcome, _)| outcome));
        Some(json!({ "result": result, "outcome": outcome, "outputs": outputs, "cells": cells }))
    }

    fn status(&self) -> NeedsStatus {
        self.needs
    }
}

/// Stages after a rehearsed one see it as succeeded, so that they are rehearsed, too.
fn result_of(conclusion: Outcome) -> Outcome {
    if conclusion == Outcome::Rehearsed { Outcome::Succeeded } else { conclusion }
}

impl StageScope<'_> {
    /// The stages of a table that this stage sees: if both act on regions of one environment, those in its own region.
    fn seen(&self, name: &str) -> Vec<StageIndex> {
        let own = self.plan.stage(self.stage).environment.as_ref().filter(|_| self.plan.region(self.stage).is_some());
        let is_beside = |index: &StageIndex| {
            let other = self.plan.stage(*index).environment.as_ref();
            own.is_some_and(|own| other.is_some_and(|other| other.name == own.name))
        };
        let (beside, others): (Vec<_>, Vec<_>) = self.plan.named(name).partition(is_beside);
        if beside.is_empty() { others } else { beside }
    }

    /// Whether the stages of a table that this stage sees are those of one region, or of none.
    fn is_alone(&self, seen: &[StageIndex]) -> bool {
        let own = self.plan.stage(self.stage).environment.as_ref();
        let environment = |index: &StageIndex| self.plan.stage(*index).environment.as_ref();
        seen.iter().all(|index| {
            self.plan.region(*index).is_none() || environment(index).map(|it| &it.name) == own.map(|it| &it.name)
        })
    }

    fn ended(&self, index: StageIndex) -> Option<(Outcome, Outcome)> {
        match self.state.stage(index).status {
            StageStatus::Ended { outcome, conclusion } => Some((outcome, conclusion)),
            _ => None,
        }
    }

    fn stage_value(&self, index: StageIndex) -> Option<Json> {
        let state = self.state.stage(index);
        let (outcome, conclusion) = self.ended(index)?;
        let matrix = self.plan.stage(index).matrix.as_ref().map(|cell| json!(cell.values));
        Some(json!({
            "result": result_of(conclusion).as_str(),
            "outcome": outcome.as_str(),
            "outputs": state.outputs,
            "attempts": state.attempts,
            "matrix": matrix.unwrap_or_else(|| json!({})),
        }))
    }
}

/// A variable that has its value before any stage runs.
fn early_value(
    name: &str,
    plan: &Plan,
    values: &RunValues,
    run: Option<&RunId>,
    conclusion: Option<Outcome>,
) -> Option<Json> {
    match name {
        "inputs" => Some(json!(values.inputs)),
        "git" => Some(json!(values.source.git)),
        "event" => Some(json!(values.source.trigger)),
        "pipeline" => Some(json!({ "name": plan.name })),
        "environments" => Some(environment_values(&plan.environments)),
        "run" => Some(json!({
            "id": run,
            "rehearsal": values.rehearsal,
            "result": conclusion.map(Outcome::as_str),
        })),
        _ => None,
    }
}

/// A run's `[concurrency] group`, evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConcurrencyGroup {
    /// The group's name.
    pub name: String,
    /// Expressions in it that evaluated to null or an empty string. Runs that differ only in these share the group.
    pub empty: Vec<String>,
}

/// Evaluates `[concurrency] group`; none if the pipeline has none.
pub fn concurrency_group(
    plan: &Plan,
    values: &RunValues,
    run: Option<&RunId>,
) -> Result<Option<ConcurrencyGroup>, EvaluationError> {
    struct Early<'a>(&'a Plan, &'a RunValues, Option<&'a RunId>);
    impl Scope for Early<'_> {
        fn root(&self, name: &str) -> Option<Json> {
            early_value(name, self.0, self.1, self.2, None)
        }
        fn stage(&self, _: &str) -> Option<Json> {
            None
        }
        fn status(&self) -> NeedsStatus {
            NeedsStatus::default()
        }
    }
    let Some(concurrency) = &plan.concurrency else { return Ok(None) };
    let early = Early(plan, values, run);
    let mut empty = Vec::new();
    for expression in concurrency.group.expressions() {
        let value = expression.evaluate(&early)?;
        if value.is_null() || value.as_str() == Some("") {
            empty.push(expression.source().to_owned());
        }
    }
    Ok(Some(ConcurrencyGroup { name: concurrency.group.render(&early)?, empty }))
}

/// Evaluates a stage's `env` table; its entries don't see each other.
pub(crate) fn render_env(
    templates: &BTreeMap<String, Template>,
    scope: &StageScope<'_>,
) -> Result<BTreeMap<String, String>, EvaluationError> {
    templates.iter().map(|(name, template)| Ok((name.clone(), template.render(scope)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_have_exactly_the_fields_known_to_validation() {
        let file = "schema = 1\npipeline.name = 'x'\n[stages.a]\nuses = 'noop'\n";
        let (plan, _) = Plan::parse("stagewright.toml", file, &["noop"].into_iter().collect()).unwrap();
        for root in ["run", "pipeline", "git", "event"] {
            let value = early_value(root, &plan, &RunValues::default(), None, None).unwrap();
            let mut fields: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
            let mut known = stagewright_model::fields_of(root).unwrap().to_vec();
            fields.sort_unstable();
            known.sort_unstable();
            assert_eq!(fields, known);
        }
    }
}
