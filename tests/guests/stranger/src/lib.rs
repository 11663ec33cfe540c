//! An untrusted stage: it performs the configured actions, ignores every refusal, and publishes the results as outputs.
//!
//! The output `answers` has for each action what the host returned, or the code of the error. So a test finds the result of
//! an attack and that of its granted counterpart in the same place.

mod action;
mod flood;
mod spelling;

use serde::Deserialize;
use stagewright_sdk::{JsonSchema, Manifest, Outcome, Result, Stage, outputs, schemars};

use action::Action;

/// The stage's `with` table.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The actions, performed in order, regardless of failures.
    actions: Vec<Action>,
}

/// The stage.
pub struct Stranger;

impl Stage for Stranger {
    type Config = Config;

    fn manifest() -> Manifest {
        Manifest::new("stranger", env!("CARGO_PKG_VERSION"))
            .description("Tries what it was not granted")
            .output::<Vec<String>>("answers", "The result of each action")
            .open_outputs()
    }

    fn run(config: Config) -> Result<Outcome> {
        let mut answers = Vec::new();
        let mut end = Ok(Outcome::Succeeded);
        for action in config.actions {
            match action.perform(&mut end) {
                Ok(answer) => answers.push(answer),
                Err(error) => answers.push(format!("{:?}", error.code)),
            }
        }
        outputs::set("answers", &answers)?;
        end
    }
}

stagewright_sdk::export_stage!(Stranger);
