//! Collects the expressions of a file while it is read; they are checked when all names are known.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::fields::{At, Fields, json, text};
use crate::diagnostic::{Problem, Report};
use crate::expression::{Expression, MARKER, Template};
use crate::span::SourceSpan;

/// Which variables an expression can read, depending on its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Visibility {
    /// In a table of the pipeline: neither `stages`, `matrix`, `region` nor `env`.
    Pipeline,
    /// In a stage's `env`: everything but `env`.
    StageEnv,
    /// Elsewhere in a stage: everything.
    Stage,
}

/// An expression and the string that contains it.
pub(super) struct Use {
    pub(super) expression: Expression,
    /// The place of the TOML literal, including its quotes.
    pub(super) string: SourceSpan,
    /// The byte offset of the expression in the string's value.
    pub(super) offset: usize,
    pub(super) visibility: Visibility,
}

/// Parses expressions and collects them.
pub(super) struct Uses<'t> {
    file: &'t str,
    found: Vec<Use>,
}

impl<'t> Uses<'t> {
    pub(super) fn new(file: &'t str) -> Uses<'t> {
        Uses { file, found: Vec::new() }
    }

    /// Removes and returns the collected expressions.
    pub(super) fn drain(&mut self) -> Vec<Use> {
        std::mem::take(&mut self.found)
    }

    /// Parses a template. None if it is invalid, which is reported.
    pub(super) fn template(&mut self, text: At<&str>, visibility: Visibility, report: &mut Report) -> Option<Template> {
        match Template::parse(text.value) {
            Ok(template) => {
                self.found.extend(template.located_expressions().map(|(expression, offset)| Use {
                    expression: expression.clone(),
                    string: text.span,
                    offset,
                    visibility,
                }));
                Some(template)
            }
            Err((reason, offset)) => {
                report.error(|| self.bad_expression(&reason, text, offset));
                None
            }
        }
    }

    /// Parses the value of `if`. None if it is invalid, which is reported.
    pub(super) fn condition(&mut self, text: At<&str>, report: &mut Report) -> Option<Expression> {
        let inner = text.value.trim().strip_prefix(MARKER).map(|rest| rest.strip_suffix("}}").unwrap_or(rest).trim());
        if let Some(inner) = inner {
            report.error(|| {
                Problem::new("stagewright::bad-expression", text.span, "`if` is always an expression")
                    .help(format!("write it without `${{{{ }}}}`: `if = \"{}\"`", inner.replace('"', "'")))
            });
            return None;
        }
        match Expression::parse(text.value) {
            Ok(expression) => {
                let kept = expression.clone();
                let visibility = Visibility::Stage;
                self.found.push(Use { expression: kept, string: text.span, offset: 0, visibility });
                Some(expression)
            }
            Err((reason, offset)) => {
                report.error(|| self.bad_expression(&reason, text, offset));
                None
            }
        }
    }

    fn bad_expression(&self, reason: &str, text: At<&str>, offset: usize) -> Problem {
        let start = super::place::locate(self.file, text.span, offset);
        Problem::new("stagewright::bad-expression", SourceSpan { start, end: start }, "invalid expression")
            .label(reason)
            .help("write CEL, as in `inputs.version == 'dev' && stages.build.result == 'succeeded'`")
    }
}

/// Reads an `env` table. Numbers and booleans become text.
pub(super) fn env<'t>(
    table: Fields<'t>,
    visibility: Visibility,
    uses: &mut Uses<'t>,
    report: &mut Report,
) -> BTreeMap<String, Template> {
    let mut variables = BTreeMap::new();
    for (name, value) in table.entries() {
        let template = match text(value) {
            Some(text) => uses.template(text, visibility, report),
            None => match json(value, report) {
                Json::Array(_) | Json::Object(_) | Json::Null => None,
                scalar => Template::parse(&scalar.to_string()).ok(),
            },
        };
        variables.extend(template.map(|template| (name.value.to_owned(), template)));
    }
    variables
}
