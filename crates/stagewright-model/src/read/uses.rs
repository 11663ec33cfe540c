//! The expressions of a file, gathered while it is read and checked once all names are known.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::fields::{At, Fields, json, text};
use crate::diagnostic::{Problem, Report};
use crate::expression::{Expression, MARKER, Template};
use crate::span::SourceSpan;

/// What an expression can see from where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    /// The pipeline's own tables: neither stages, nor a matrix, nor variables.
    Pipeline,
    /// A stage's `env`: entries don't see each other.
    StageEnv,
    /// The rest of a stage.
    Stage,
}

/// An expression and the string that it stands in.
pub(super) struct Use {
    pub(super) expression: Expression,
    /// The TOML literal, quotes included.
    pub(super) string: SourceSpan,
    /// Where in the string's value the expression starts.
    pub(super) offset: usize,
    pub(super) view: View,
}

/// Parses expressions and keeps them.
pub(super) struct Uses<'t> {
    file: &'t str,
    found: Vec<Use>,
}

impl<'t> Uses<'t> {
    pub(super) fn new(file: &'t str) -> Uses<'t> {
        Uses { file, found: Vec::new() }
    }

    /// What was gathered since the last time.
    pub(super) fn take(&mut self) -> Vec<Use> {
        std::mem::take(&mut self.found)
    }

    /// None when it can't be parsed, which is reported.
    pub(super) fn template(&mut self, text: At<&str>, view: View, report: &mut Report) -> Option<Template> {
        match Template::parse(text.value) {
            Ok(template) => {
                self.found.extend(template.located_expressions().map(|(expression, offset)| Use {
                    expression: expression.clone(),
                    string: text.span,
                    offset,
                    view,
                }));
                Some(template)
            }
            Err((reason, offset)) => {
                report.error(|| self.bad_expression(&reason, text, offset));
                None
            }
        }
    }

    /// The value of `if`.
    pub(super) fn condition(&mut self, text: At<&str>, report: &mut Report) -> Option<Expression> {
        let inner = text.value.trim().strip_prefix(MARKER).map(|rest| rest.strip_suffix("}}").unwrap_or(rest).trim());
        if let Some(inner) = inner {
            report.error(|| {
                Problem::new("stagewright::bad-expression", text.span, "`if` is an expression already")
                    .help(format!("write it without `${{{{ }}}}`: `if = \"{}\"`", inner.replace('"', "'")))
            });
            return None;
        }
        match Expression::parse(text.value) {
            Ok(expression) => {
                let kept = expression.clone();
                self.found.push(Use { expression: kept, string: text.span, offset: 0, view: View::Stage });
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
        Problem::new("stagewright::bad-expression", SourceSpan { start, end: start }, "this expression doesn't parse")
            .label(reason)
            .help("expressions are CEL: `inputs.version == 'dev' && stages.build.result == 'succeeded'`")
    }
}

/// An `env` table; numbers and booleans become text.
pub(super) fn env<'t>(
    table: Fields<'t>,
    view: View,
    uses: &mut Uses<'t>,
    report: &mut Report,
) -> BTreeMap<String, Template> {
    let mut variables = BTreeMap::new();
    for (name, value) in table.entries() {
        let template = match text(value) {
            Some(text) => uses.template(text, view, report),
            None => match json(value, report) {
                Json::Array(_) | Json::Object(_) | Json::Null => None,
                scalar => Template::parse(&scalar.to_string()).ok(),
            },
        };
        variables.extend(template.map(|template| (name.value.to_owned(), template)));
    }
    variables
}
