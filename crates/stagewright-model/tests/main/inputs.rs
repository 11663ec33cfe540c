//! Values for a pipeline's inputs.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use crate::{file, plan};

const INPUTS: &str = r#"
    [inputs.version]
    default = "dev"
    [inputs.replicas]
    type = "number"
    default = 2
    [inputs.dry]
    type = "boolean"
    description = "change nothing"
    [inputs.to]
    type = "choice"
    options = ["staging", "production"]
    default = "staging"
    [stages.a]
    uses = "noop"
"#;

fn resolve(given: &[(&str, &str)]) -> Result<BTreeMap<String, Json>, Vec<String>> {
    let given = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let resolved = plan(&file(INPUTS)).resolve_inputs(&given);
    resolved.map_err(|errors| errors.iter().map(|error| format!("{error} | {}", error.help)).collect())
}

#[test]
fn text_becomes_the_declared_type() {
    let values = resolve(&[("dry", "true"), ("replicas", "0.5"), ("version", "1")]).expect("they fit");
    assert_eq!(json!(values), json!({ "dry": true, "replicas": 0.5, "to": "staging", "version": "1" }));
}

#[test]
fn all_errors_are_reported() {
    let errors = resolve(&[("versoin", "1"), ("replicas", "many"), ("to", "prod"), ("other", "x")]);
    assert_eq!(
        errors.expect_err("four are wrong and one is missing"),
        [
            "the pipeline `test` has no input `other` | use one of `dry`, `replicas`, `to`, `version`",
            "the input `replicas` takes a number, but `many` isn't one | write a number, as in `3` or `0.5`",
            "the input `to` takes a value among its options, but `prod` isn't one | choose one of `staging`, `production`",
            "the pipeline `test` has no input `versoin` | did you mean `version`?",
            "the input `dry` (change nothing) is missing and has no default | add a value: `dry=…`; write `true` or `false`",
        ]
    );
}
