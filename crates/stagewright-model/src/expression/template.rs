//! Text with `${{ }}` in it.

use std::sync::Arc;

use serde_json::Value as Json;

use super::{EvaluationError, Expression, Scope, scan};

/// What opens an expression. `$${{` stands for the marker itself.
pub(crate) const MARKER: &str = "${{";

/// Text with `${{ }}` in it. Cheap to clone, and cheap altogether where there is no expression.
#[derive(Clone, Debug)]
pub struct Template {
    source: Arc<str>,
    /// None for plain text.
    parts: Option<Arc<[Part]>>,
}

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    /// With the byte offset in the template's source at which the expression's text starts.
    Expression(Expression, usize),
}

impl Template {
    /// Parses every `${{ }}` in `source`; the error says why and, as a byte offset into `source`, where. `$${{` stands
    /// for a literal `${{`. What looks like `}}` inside a string or map literal of the expression doesn't end it.
    pub fn parse(source: &str) -> Result<Template, (String, usize)> {
        let parts = if source.contains(MARKER) { Some(parse_parts(source)?.into()) } else { None };
        Ok(Template { source: source.into(), parts })
    }

    /// The text as written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Its expressions.
    pub fn expressions(&self) -> impl Iterator<Item = &Expression> {
        self.located_expressions().map(|(expression, _)| expression)
    }

    /// Its expressions, each with the byte offset in the source at which it starts.
    pub(crate) fn located_expressions(&self) -> impl Iterator<Item = (&Expression, usize)> {
        self.parts.iter().flat_map(|parts| parts.iter()).filter_map(|part| match part {
            Part::Expression(expression, offset) => Some((expression, *offset)),
            Part::Text(_) => None,
        })
    }

    /// The value: typed when the text is one expression and nothing else, a string otherwise.
    pub fn evaluate(&self, scope: &dyn Scope) -> Result<Json, EvaluationError> {
        match self.parts.as_deref() {
            None => Ok(Json::String(self.source.as_ref().to_owned())),
            Some([Part::Expression(expression, _)]) => expression.evaluate(scope),
            Some(parts) => parts
                .iter()
                .map(|part| match part {
                    Part::Text(text) => Ok(text.clone()),
                    Part::Expression(expression, _) => expression.evaluate(scope).map(into_text),
                })
                .collect::<Result<String, _>>()
                .map(Json::String),
        }
    }

    /// The value as text: a string as it is, null as nothing, and anything else as JSON.
    pub fn render(&self, scope: &dyn Scope) -> Result<String, EvaluationError> {
        self.evaluate(scope).map(into_text)
    }
}

fn into_text(value: Json) -> String {
    match value {
        Json::String(text) => text,
        Json::Null => String::new(),
        other => other.to_string(),
    }
}

fn parse_parts(source: &str) -> Result<Vec<Part>, (String, usize)> {
    let mut parts = Vec::new();
    let mut text = String::new();
    let mut at = 0;
    while let Some(marker) = source[at..].find(MARKER).map(|found| at + found) {
        if source[at..marker].ends_with('$') {
            text.push_str(&source[at..marker]);
            text.push_str(&MARKER[1..]);
            at = marker + MARKER.len();
            continue;
        }
        text.push_str(&source[at..marker]);
        if !text.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut text)));
        }
        let start = marker + MARKER.len();
        let end = scan::end_of_expression(source, start)
            .ok_or_else(|| ("`${{` is never closed by `}}`; write `$${{` to mean it literally".to_owned(), marker))?;
        let inner = source[start..end].trim();
        let offset = start + (source[start..end].len() - source[start..end].trim_start().len());
        let expression = Expression::parse(inner).map_err(|(reason, at)| (reason, offset + at))?;
        parts.push(Part::Expression(expression, offset));
        at = end + "}}".len();
    }
    text.push_str(&source[at..]);
    if !text.is_empty() {
        parts.push(Part::Text(text));
    }
    Ok(parts)
}
