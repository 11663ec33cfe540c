//! Text with `${{ }}` in it.

use std::sync::Arc;

use serde_json::Value as Json;

use super::{EvaluationError, Expression, Scope, scan};

/// Starts an expression. `$${{` stands for the marker itself.
pub(crate) const MARKER: &str = "${{";

/// Text with `${{ }}` in it. Cheap to clone; text without expressions takes no more than its string.
#[derive(Clone, Debug)]
pub struct Template {
    source: Arc<str>,
    /// None if there is no marker in the text.
    parts: Option<Arc<[TemplatePart]>>,
}

#[derive(Clone, Debug)]
enum TemplatePart {
    Text(String),
    /// The expression, and the byte offset of its text in the template's source.
    Expression(Expression, usize),
}

impl Template {
    /// Parses every `${{ }}` in `source`. The error is a reason and a byte offset into `source`. `$${{` stands for a
    /// literal `${{`. A `}}` inside a string or map literal doesn't end the expression.
    pub fn parse(source: &str) -> Result<Template, (String, usize)> {
        let parts = if source.contains(MARKER) { Some(parse_parts(source)?.into()) } else { None };
        Ok(Template { source: source.into(), parts })
    }

    /// The text as written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The expressions, in the order of the text.
    pub fn expressions(&self) -> impl Iterator<Item = &Expression> {
        self.located_expressions().map(|(expression, _)| expression)
    }

    /// The expressions with their byte offsets in the source.
    pub(crate) fn located_expressions(&self) -> impl Iterator<Item = (&Expression, usize)> {
        self.parts.iter().flat_map(|parts| parts.iter()).filter_map(|part| match part {
            TemplatePart::Expression(expression, offset) => Some((expression, *offset)),
            TemplatePart::Text(_) => None,
        })
    }

    /// Evaluates the template. The result has the expression's type if the text is a single expression, or else is a
    /// string.
    pub fn evaluate(&self, scope: &dyn Scope) -> Result<Json, EvaluationError> {
        match self.parts.as_deref() {
            None => Ok(Json::String(self.source.as_ref().to_owned())),
            Some([TemplatePart::Expression(expression, _)]) => expression.evaluate(scope),
            Some(parts) => parts
                .iter()
                .map(|part| match part {
                    TemplatePart::Text(text) => Ok(text.clone()),
                    TemplatePart::Expression(expression, _) => expression.evaluate(scope).map(into_text),
                })
                .collect::<Result<String, _>>()
                .map(Json::String),
        }
    }

    /// Evaluates the template to text: a string as it is, null as the empty string, and any other value as JSON.
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

fn parse_parts(source: &str) -> Result<Vec<TemplatePart>, (String, usize)> {
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
            parts.push(TemplatePart::Text(std::mem::take(&mut text)));
        }
        let start = marker + MARKER.len();
        let end = scan::end_of_expression(source, start)
            .ok_or_else(|| ("`${{` is never closed by `}}`; write `$${{` for a literal `${{`".to_owned(), marker))?;
        let inner = source[start..end].trim();
        let offset = start + (source[start..end].len() - source[start..end].trim_start().len());
        let expression = Expression::parse(inner).map_err(|(reason, at)| (reason, offset + at))?;
        parts.push(TemplatePart::Expression(expression, offset));
        at = end + "}}".len();
    }
    text.push_str(&source[at..]);
    if !text.is_empty() {
        parts.push(TemplatePart::Text(text));
    }
    Ok(parts)
}
