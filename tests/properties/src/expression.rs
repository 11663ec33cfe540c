//! Expressions and templates. The input is used as the text of a template and as that of an expression.

use serde_json::{Value as Json, json};
use stagewright_model::{Expression, JsonTemplate, NeedsStatus, Scope, Template};

/// A run with small values, so that a large result is due to the expression.
struct Run;

impl Scope for Run {
    fn root(&self, name: &str) -> Option<Json> {
        match name {
            "inputs" => Some(json!({ "version": "1.2.3", "replicas": 3, "dry-run": false })),
            "env" => Some(json!({ "HOME": "/home/é" })),
            "matrix" => Some(json!({ "os": "linux", "list": [1, 2.5, "x", null, { "a": [] }] })),
            "event" => Some(json!({ "name": "push", "ref": "refs/tags/v1", "changed": ["a/b.rs", "c"] })),
            "git" => Some(json!({ "sha": "0123456789abcdef", "dirty": true })),
            _ => None,
        }
    }

    fn stage(&self, name: &str) -> Option<Json> {
        (name != "absent")
            .then(|| json!({ "result": "success", "outcome": "failure", "outputs": { "digest": "sha256:0" } }))
    }

    fn status(&self) -> NeedsStatus {
        NeedsStatus { failed: true, cancelled: false }
    }
}

/// Either the text is invalid, with a position within it, or it evaluates to a value or an error, the same each time.
pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match Expression::parse(text) {
        Ok(expression) => {
            assert_eq!(expression.source(), text);
            assert_eq!(shown(&expression.evaluate(&Run)), shown(&expression.evaluate(&Run)), "two evaluations differ");
            let _ = expression.holds(&Run);
        }
        Err((reason, place)) => assert!(text.is_char_boundary(place), "{place} isn't a position in the text: {reason}"),
    }
    match Template::parse(text) {
        Ok(template) => {
            let value = template.evaluate(&Run);
            let json = JsonTemplate::parse(Json::from(text)).expect("it parsed as a template").evaluate(&Run);
            assert_eq!(shown(&value), shown(&json), "the template evaluates to another value as JSON");
            if !text.contains("${{") {
                assert_eq!(value, Ok(Json::from(text)), "plain text changed");
            }
        }
        Err((reason, place)) => assert!(text.is_char_boundary(place), "{place} isn't a position in the text: {reason}"),
    }
}

/// As text, since NaN isn't equal to itself.
fn shown<E: std::fmt::Display>(value: &Result<Json, E>) -> String {
    match value {
        Ok(value) => value.to_string(),
        Err(error) => format!("error: {error}"),
    }
}
