//! CEL expressions in `if`, and inside `${{ }}`.
//!
//! An expression sees `inputs`, `env`, `matrix`, `event`, `git`, `run`, `pipeline` and `stages.NAME.{result, outcome,
//! outputs}`, and may call `success()`, `failure()`, `always()` and `cancelled()`, which speak of the stage's needs.
//!
//! Beside CEL's standard functions there are those of its strings extension (`join`, `split`, `replace`, `trim`,
//! `lowerAscii`, …) and `to_json(value)` and `from_json(text)`.
//!
//! Names of stages, inputs, matrix axes and outputs may hold hyphens, which CEL would take for subtractions. In a chain
//! that starts with `stages`, `inputs` or `matrix` a hyphen without spaces belongs to the name:
//! `stages.deploy-staging.outputs.url` is what it looks like, and `inputs.replicas - 1` subtracts.

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

pub(crate) use flow::Source;
pub use json_template::JsonTemplate;
pub(crate) use parse::{Member, Reference};
pub(crate) use template::MARKER;
pub use template::Template;

/// The top-level variables that there are.
pub(crate) const ROOTS: [&str; 8] = ["inputs", "env", "matrix", "event", "git", "run", "pipeline", "stages"];

/// The fields of a top-level variable, where they are the same in every pipeline and at every time.
pub fn fields_of(root: &str) -> Option<&'static [&'static str]> {
    match root {
        "git" => Some(&["commit", "short", "branch", "tag", "dirty", "changes"]),
        "event" => Some(&["name", "ref", "commit", "actor"]),
        "run" => Some(&["id", "rehearsal", "result"]),
        "pipeline" => Some(&["name"]),
        _ => None,
    }
}

/// The fields of `stages.NAME`.
pub(crate) const STAGE_FIELDS: [&str; 5] = ["result", "outcome", "outputs", "attempts", "matrix"];
/// Those of a stage with a matrix.
pub(crate) const MATRIX_STAGE_FIELDS: [&str; 4] = ["result", "outcome", "outputs", "cells"];

/// The values that expressions see. Only what an expression names is asked for.
pub trait Scope {
    /// A top-level variable other than `stages`.
    fn root(&self, name: &str) -> Option<Json>;
    /// `stages.NAME`: an object with `result`, `outcome` and `outputs`; none when the stage hasn't ended.
    fn stage(&self, name: &str) -> Option<Json>;
    /// What `success()` and its kin answer from.
    fn status(&self) -> NeedsStatus;
}

/// How a stage's needs stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NeedsStatus {
    /// One of them failed, or was not run because one of its own did.
    pub failed: bool,
    /// The run is being cancelled.
    pub cancelled: bool,
}

/// A parsed CEL expression. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Expression {
    parsed: Arc<parse::Parsed>,
}

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{expression}`: {reason}")]
pub struct EvaluationError {
    /// The expression's text.
    pub expression: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Expression {
    /// Parses; the error says why and, as a byte offset into `source`, where.
    ///
    /// Stages have to be named outright, as in `stages.build` or `stages["build"]`, so that what an expression waits
    /// for is known before anything runs.
    pub fn parse(source: &str) -> Result<Expression, (String, usize)> {
        Ok(Expression { parsed: Arc::new(parse::parse(source)?) })
    }

    /// The text that was parsed.
    pub fn source(&self) -> &str {
        &self.parsed.source
    }

    /// The stages that it names.
    pub fn stages(&self) -> &BTreeSet<String> {
        &self.parsed.stages
    }

    /// The top-level variables that it names.
    pub fn roots(&self) -> &BTreeSet<String> {
        &self.parsed.roots
    }

    /// Every use of a top-level variable, with its place.
    pub(crate) fn references(&self) -> &[Reference] {
        &self.parsed.references
    }

    /// What may become text of its value.
    pub(crate) fn sources(&self) -> &[Source] {
        &self.parsed.sources
    }

    /// Whether it calls `success()`, `failure()`, `always()` or `cancelled()`; if not, a condition also asks that
    /// every need succeeded.
    pub fn calls_status(&self) -> bool {
        self.parsed.calls_status
    }

    /// Its value.
    pub fn evaluate(&self, scope: &dyn Scope) -> Result<Json, EvaluationError> {
        parse::evaluate(&self.parsed, scope)
            .map_err(|reason| EvaluationError { expression: self.source().to_owned(), reason })
    }

    /// Its value as a condition; anything but a boolean is an error.
    pub fn holds(&self, scope: &dyn Scope) -> Result<bool, EvaluationError> {
        match self.evaluate(scope)? {
            Json::Bool(value) => Ok(value),
            other => Err(EvaluationError {
                expression: self.source().to_owned(),
                reason: format!("a condition must be true or false, and this is {other}"),
            }),
        }
    }
}
