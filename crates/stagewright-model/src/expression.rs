//! CEL expressions in `if` and inside `${{ }}`.
//!
//! An expression can read `inputs`, `env`, `matrix`, `region`, `environments`, `event`, `git`, `run`, `pipeline` and
//! `stages.NAME.{result, outcome, outputs}`. It can call `success()`, `failure()`, `always()` and `cancelled()`, which report the state of
//! the stage's needs.
//!
//! Available functions are CEL's standard functions, those of its strings extension (`join`, `split`, `replace`,
//! `trim`, `lowerAscii`, …), `to_json(value)` and `from_json(text)`.
//!
//! Names of stages, inputs, matrix axes and outputs may contain hyphens, which CEL parses as subtractions. In a chain
//! that starts with `stages`, `inputs` or `matrix`, a hyphen without spaces is part of the name:
//! `stages.deploy-staging.outputs.url` reads an output, and `inputs.replicas - 1` subtracts.

mod budget;
mod flow;
mod json_template;
mod names;
mod parse;
mod scan;
mod template;
mod value;

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value as Json;

pub(crate) use flow::ValueSource;
pub use json_template::JsonTemplate;
pub(crate) use parse::{ReferenceStep, VariableReference};
pub(crate) use template::MARKER;
pub use template::Template;

/// The top-level variables.
pub(crate) const ROOTS: [&str; 10] =
    ["inputs", "env", "matrix", "region", "environments", "event", "git", "run", "pipeline", "stages"];

/// The fields of a top-level variable, or none if they depend on the pipeline or the run.
pub fn fields_of(root: &str) -> Option<&'static [&'static str]> {
    match root {
        "git" => Some(&["commit", "short", "branch", "tag", "dirty", "changes"]),
        "event" => Some(&["name", "ref", "commit", "actor"]),
        "run" => Some(&["id", "rehearsal", "result"]),
        "pipeline" => Some(&["name"]),
        _ => None,
    }
}

/// The fields of `environments.NAME`.
pub(crate) const ENVIRONMENT_FIELDS: [&str; 4] = ["target", "url", "config", "protected"];
/// The fields of `stages.NAME`.
pub(crate) const STAGE_FIELDS: [&str; 5] = ["result", "outcome", "outputs", "attempts", "matrix"];
/// The fields of `stages.NAME` if the stage has a matrix, or several regions.
pub(crate) const MATRIX_STAGE_FIELDS: [&str; 4] = ["result", "outcome", "outputs", "cells"];

/// Provides the values of variables. An evaluation only requests the variables that the expression names.
pub trait Scope {
    /// The value of a top-level variable other than `stages`.
    fn root(&self, name: &str) -> Option<Json>;
    /// `stages.NAME`: an object with `result`, `outcome` and `outputs`; none if the stage hasn't ended.
    fn stage(&self, name: &str) -> Option<Json>;
    /// What `success()`, `failure()` and `cancelled()` are computed from.
    fn status(&self) -> NeedsStatus;
}

/// The state of a stage's needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NeedsStatus {
    /// A need failed, or was skipped because one of its own needs failed.
    pub failed: bool,
    /// The run is being cancelled.
    pub cancelled: bool,
}

/// A parsed CEL expression. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Expression {
    parsed: Arc<parse::ParsedExpression>,
}

/// Why an expression couldn't be evaluated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{expression}`: {reason}")]
pub struct EvaluationError {
    /// The expression's text.
    pub expression: String,
    /// Why not.
    pub reason: String,
}

impl Expression {
    /// Parses an expression. The error is a reason and a byte offset into `source`.
    ///
    /// Stages have to be named literally, as in `stages.build` or `stages["build"]`: which stages an expression waits
    /// for has to be known before anything runs.
    pub fn parse(source: &str) -> Result<Expression, (String, usize)> {
        Ok(Expression { parsed: Arc::new(parse::parse(source)?) })
    }

    /// The text that was parsed.
    pub fn source(&self) -> &str {
        &self.parsed.source
    }

    /// The names of the stages that the expression reads.
    pub fn stages(&self) -> &BTreeSet<String> {
        &self.parsed.stages
    }

    /// The top-level variables that the expression reads.
    pub fn roots(&self) -> &BTreeSet<String> {
        &self.parsed.roots
    }

    /// Every use of a top-level variable, with its place in the text.
    pub(crate) fn references(&self) -> &[VariableReference] {
        &self.parsed.references
    }

    /// The values that can become text of the result.
    pub(crate) fn sources(&self) -> &[ValueSource] {
        &self.parsed.sources
    }

    /// Whether the expression calls `success()`, `failure()`, `always()` or `cancelled()`. A condition that calls none
    /// of them also requires that every need succeeded.
    pub fn calls_status(&self) -> bool {
        self.parsed.calls_status
    }

    /// Computes the value.
    pub fn evaluate(&self, scope: &dyn Scope) -> Result<Json, EvaluationError> {
        parse::evaluate(&self.parsed, scope)
            .map_err(|reason| EvaluationError { expression: self.source().to_owned(), reason })
    }

    /// Evaluates a condition. A value that isn't a boolean is an error.
    pub fn holds(&self, scope: &dyn Scope) -> Result<bool, EvaluationError> {
        match self.evaluate(scope)? {
            Json::Bool(value) => Ok(value),
            other => Err(EvaluationError {
                expression: self.source().to_owned(),
                reason: format!("a condition must be true or false, but this is {other}"),
            }),
        }
    }
}
