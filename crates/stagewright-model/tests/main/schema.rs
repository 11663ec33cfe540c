//! The JSON Schema for editors.

#![expect(clippy::disallowed_methods, reason = "tests read what they made themselves")]

use serde_json::Value as Json;
use stagewright_model::{RetryCause, file_reference, json_schema};

#[test]
fn committed_schema_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/stagewright.schema.json");
    let committed = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let committed: Json = serde_json::from_str(&committed).expect("the schema is JSON");
    assert!(committed == json_schema(), "docs/stagewright.schema.json is out of date: run `cargo xtask schema`");
}

#[test]
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
    let schema = json_schema();
    check(&schema, "");
    let stage = &schema["properties"]["stages"]["additionalProperties"]["properties"];
    assert_eq!(stage["trust"]["default"], "component");
    let causes = RetryCause::ALL.map(RetryCause::as_str);
    assert_eq!(stage["retry"]["anyOf"][1]["properties"]["on"]["default"], serde_json::json!(causes));
}
