//! JSON with `${{ }}` in its strings.

use serde_json::Value as Json;

use super::{EvaluationError, MARKER, Scope, Template};
use crate::value_path::{Step, ValuePath};

/// A JSON value whose strings may hold `${{ }}`, as `with` is: parsed with the file, evaluated for each attempt.
#[derive(Clone, Debug, Default)]
pub struct JsonTemplate {
    source: Json,
    /// The strings that have to be evaluated, in the order of the file. Most values hold none.
    templates: Vec<(ValuePath, Template)>,
}

impl JsonTemplate {
    /// A value that was built from parsed strings: `templates` are those of its strings that hold the marker.
    pub(crate) fn new(source: Json, templates: Vec<(ValuePath, Template)>) -> JsonTemplate {
        JsonTemplate { source, templates }
    }

    /// Parses the strings of a value.
    ///
    /// # Errors
    /// The first string with an expression that doesn't parse.
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

    /// The value as it stands in the file.
    pub fn source(&self) -> &Json {
        &self.source
    }

    /// The value with every expression evaluated: typed where a string is one expression and nothing else.
    ///
    /// # Errors
    /// The first expression that has no value.
    pub fn evaluate(&self, scope: &dyn Scope) -> Result<Json, EvaluationError> {
        let mut value = self.source.clone();
        for (path, template) in &self.templates {
            if let Some(place) = at_mut(&mut value, path) {
                *place = template.evaluate(scope)?;
            }
        }
        Ok(value)
    }

    /// Whether the value at a path such as `checks[0].status` has no final value yet: it is an expression, holds one, or
    /// lies within one. The empty path stands for the table as a whole, which is never open: its keys are known.
    pub fn is_open_at(&self, shown: &str) -> bool {
        let asked = ValuePath::parse(shown);
        asked != ValuePath::default() && self.templates.iter().any(|(path, _)| path.overlaps(&asked))
    }

    /// The string at `path`, when it holds the marker.
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
        Step::Key(key) => value.get_mut(key),
        Step::Index(index) => value.get_mut(index),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_place_is_open_where_an_expression_may_still_change_it() {
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
