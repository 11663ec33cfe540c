//! The JSON Schema for editors.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use stagewright_model::{RetryCause, file_reference, json_schema};

#[test]
#[expect(clippy::disallowed_methods, reason = "it is a file of this repository")]
fn committed_reference_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/pipeline-file.md");
    let committed = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    assert!(committed == file_reference(), "docs/pipeline-file.md is out of date: run `cargo xtask schema`");
}

#[test]
fn every_key_is_described() {
    fn check(schema: &Json, path: &str) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            assert!(property["description"].as_str().is_some_and(|text| text.ends_with('.')), "{path}");
            check(property, &path);
        }
        for next in [&schema["additionalProperties"], &schema["items"]].into_iter().filter(|next| next.is_object()) {
            check(next, path);
        }
        for next in schema["anyOf"].as_array().into_iter().flatten() {
            check(next, path);
        }
    }
    let schema = json_schema(&BTreeMap::new());
    check(&schema, "");
    let stage = &schema["properties"]["stages"]["additionalProperties"]["properties"];
    assert_eq!(stage["trust"]["default"], "component");
    let causes = RetryCause::ALL.map(RetryCause::as_str);
    assert_eq!(stage["retry"]["anyOf"][1]["properties"]["on"]["default"], serde_json::json!(causes));
}
