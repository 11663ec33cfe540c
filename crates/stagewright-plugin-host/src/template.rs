//! Findings on a configuration whose expressions have no value yet.

use serde_json::Value as Json;
use stagewright_engine::Problem;

/// How an expression begins within a string.
const OPEN: &str = "${{";

/// Leaves out the findings on places that hold an expression.
pub(crate) fn spare_templates(found: Vec<Problem>, config: &Json) -> Vec<Problem> {
    found.into_iter().filter(|problem| !problem.path.as_deref().is_some_and(|path| is_open(path, config))).collect()
}

/// Whether the value at `path`, as in `checks[0].status`, is or holds an expression.
fn is_open(path: &str, config: &Json) -> bool {
    let mut value = config;
    for step in path.split(['.', '[']) {
        let step = step.trim_end_matches(']');
        let next = match value {
            Json::Object(entries) => entries.get(step),
            Json::Array(items) => step.parse().ok().and_then(|index: usize| items.get(index)),
            // Below an expression there may be anything.
            other => return holds_template(other),
        };
        match next {
            Some(next) => value = next,
            None => return false,
        }
    }
    holds_template(value)
}

fn holds_template(value: &Json) -> bool {
    match value {
        Json::String(text) => text.contains(OPEN),
        Json::Array(items) => items.iter().any(holds_template),
        Json::Object(entries) => entries.values().any(holds_template),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use stagewright_engine::Level;

    use super::*;

    #[test]
    fn only_what_an_expression_may_mend_is_left_out() {
        let config = serde_json::json!({
            "url": "${{ inputs.url }}", "count": "three", "checks": [{ "status": "${{ x }}" }, { "status": "no" }],
        });
        let found = [
            Some("url"),
            Some("count"),
            Some("checks[0].status"),
            Some("checks[1].status"),
            Some("checks[0]"),
            Some("checks[1]"),
            Some("url.deeper"),
            Some("unknown"),
            None,
        ]
        .map(|path| Problem {
            level: Level::Error,
            code: "config".into(),
            message: String::new(),
            path: path.map(ToOwned::to_owned),
            help: None,
        });
        let left: Vec<_> = spare_templates(found.into(), &config).into_iter().map(|problem| problem.path).collect();
        let expected = [Some("count"), Some("checks[1].status"), Some("checks[1]"), Some("unknown"), None];
        assert_eq!(left, expected.map(|path| path.map(ToOwned::to_owned)));
    }
}
