//! JSON with `${{ }}` in its strings.

use serde_json::Value as Json;

use super::{EvaluationError, Expression, MARKER, Scope, Template};
use crate::value_path::{PathStep, ValuePath};

/// A JSON value whose strings may hold `${{ }}`, such as a `with` table: parsed with the file, evaluated per attempt.
#[derive(Clone, Debug, Default)]
pub struct JsonTemplate {
    source: Json,
    /// The strings with expressions, in the order of the file. Most values have none.
    templates: Vec<(ValuePath, Template)>,
}

impl JsonTemplate {
    /// Makes a template of a value whose strings are parsed already: `templates` are those that hold the marker.
    pub(crate) fn new(source: Json, templates: Vec<(ValuePath, Template)>) -> JsonTemplate {
        JsonTemplate { source, templates }
    }

    /// Parses the strings of a value.
    ///
    /// # Errors
    /// If an expression doesn't parse: the first one.
    pub fn parse(source: Json) -> Result<JsonTemplate, EvaluationError> {
        let mut templates = Vec::new();
        for (path, text) in strings(&source, &ValuePath::default()) {
            if !text.contains(MARKER) {
                continue;
            }
            let parsed = Template::parse(text);
            let parsed = parsed.map_err(|(reason, _)| EvaluationError { expression: text.to_owned(), reason })?;
            templates.push((path, parsed));
        }
        Ok(JsonTemplate { source, templates })
    }

    /// The value as written in the file.
    pub fn source(&self) -> &Json {
        &self.source
    }

    /// Evaluates every expression. A string that consists of one expression becomes a value of the expression's type.
    ///
    /// # Errors
    /// If an expression can't be evaluated: the first one.
    pub fn evaluate(&self, scope: &dyn Scope) -> Result<Json, EvaluationError> {
        let mut value = self.source.clone();
        for (path, template) in &self.templates {
            if let Some(string) = at_mut(&mut value, path) {
                *string = template.evaluate(scope)?;
            }
        }
        Ok(value)
    }

    /// The template with the values of the strings whose expressions are fields of the variable `root` and nothing else, as in
    /// `${{ environments.production.config }}`; none if there are no such strings.
    pub(crate) fn filled_in(&self, root: &str, scope: &dyn Scope) -> Option<JsonTemplate> {
        let is_field = |expression: &Expression| {
            let path = expression.source().strip_prefix(root).filter(|path| path.starts_with('.'));
            path.is_some_and(|path| path.chars().all(|letter| letter.is_ascii_alphanumeric() || "_-.".contains(letter)))
        };
        let value_of =
            |template: &Template| template.expressions().all(is_field).then(|| template.evaluate(scope).ok())?;
        let mut filled = JsonTemplate { source: self.source.clone(), templates: Vec::new() };
        for (path, template) in &self.templates {
            match (value_of(template), at_mut(&mut filled.source, path)) {
                (Some(value), Some(string)) => *string = value,
                _ => filled.templates.push((path.clone(), template.clone())),
            }
        }
        (filled.templates.len() < self.templates.len()).then_some(filled)
    }

    /// Whether the value at a path such as `checks[0].status` is unknown before the evaluation: it is an expression,
    /// contains one, or lies within one. The empty path stands for the whole table, whose keys are always known.
    pub fn is_open_at(&self, path: &str) -> bool {
        let requested = ValuePath::parse(path);
        requested != ValuePath::default() && self.templates.iter().any(|(path, _)| path.overlaps(&requested))
    }

    /// The string at `path`, if it holds the marker.
    pub(crate) fn template_at(&self, path: &ValuePath) -> Option<&Template> {
        self.templates.iter().find(|(known, _)| known == path).map(|(_, template)| template)
    }

    /// The strings at `path` and below it that hold the marker.
    pub(crate) fn templates_below<'a>(
        &'a self,
        path: &'a ValuePath,
    ) -> impl Iterator<Item = (&'a ValuePath, &'a Template)> {
        self.templates.iter().filter(|(known, _)| known.0.starts_with(&path.0)).map(|(path, template)| (path, template))
    }
}

fn strings<'v>(value: &'v Json, path: &ValuePath) -> Vec<(ValuePath, &'v str)> {
    match value {
        Json::String(text) => vec![(path.clone(), text)],
        Json::Array(items) => {
            items.iter().enumerate().flat_map(|(index, item)| strings(item, &path.index(index))).collect()
        }
        Json::Object(entries) => entries.iter().flat_map(|(key, entry)| strings(entry, &path.key(key))).collect(),
        _ => Vec::new(),
    }
}

fn at_mut<'v>(value: &'v mut Json, path: &ValuePath) -> Option<&'v mut Json> {
    path.0.iter().try_fold(value, |value, step| match step {
        PathStep::Key(key) => value.get_mut(key),
        PathStep::Index(index) => value.get_mut(index),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn value_is_open_if_it_overlaps_an_expression() {
        let config = JsonTemplate::parse(json!({
            "url": "${{ inputs.url }}", "count": "three", "checks": [{ "status": "${{ inputs.x }}" }, { "status": "no" }],
        }));
        let config = config.unwrap();
        for open in ["url", "checks[0].status", "checks[0]", "checks", "url.deeper"] {
            assert!(config.is_open_at(open), "{open}");
        }
        for closed in ["count", "checks[1].status", "checks[1]", "unknown"] {
            assert!(!config.is_open_at(closed), "{closed}");
        }
    }
}
