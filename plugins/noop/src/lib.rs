//! A join point: sets the configured outputs, logs the configured message, and does nothing else.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value as Json;
use stagewright_sdk::{JsonSchema, Manifest, Outcome, Result, Stage, log, outputs, schemars};

/// The stage's `with` table.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(example = serde_json::json!({ "message": "all checks have passed" }))]
pub struct Config {
    /// The outputs to set.
    #[serde(default)]
    pub outputs: BTreeMap<String, Json>,
    /// A message to log.
    pub message: Option<String>,
}

/// The plugin.
#[derive(Debug)]
pub struct Noop;

impl Stage for Noop {
    type Config = Config;

    fn manifest() -> Manifest {
        stagewright_sdk::manifest!().open_outputs()
    }

    fn run(config: Config) -> Result<Outcome> {
        if let Some(message) = config.message {
            log::info(message);
        }
        for (name, value) in &config.outputs {
            outputs::set(name, value)?;
        }
        Ok(Outcome::Succeeded)
    }
}

stagewright_sdk::export_stage!(Noop);

#[cfg(test)]
mod tests {
    use serde_json::json;
    use stagewright_sdk::fake::FakeHost;

    use super::*;

    #[test]
    fn outputs_keep_their_types() {
        let with = json!({ "outputs": { "a": 1, "b": ["x"] }, "message": "here" });
        let report = FakeHost::new().config(with).run::<Noop>();
        assert_eq!(report.result, Ok(Outcome::Succeeded));
        assert_eq!(report.outputs, BTreeMap::from([("a".to_owned(), json!(1)), ("b".to_owned(), json!(["x"]))]));
        assert!(report.logged("here"));
    }

    #[test]
    fn an_empty_configuration_is_valid() {
        assert_eq!(FakeHost::new().run::<Noop>().result, Ok(Outcome::Succeeded));
    }
}
