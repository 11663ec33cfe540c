//! A stranger's stage: it does the deeds that it is told to, swallows every refusal, and keeps what it got as outputs.
//!
//! The output `answers` holds, deed by deed, what the host gave, or the code of the error. What a test of the granted
//! counterpart wants to see is thus in the same place as what an attack must not bring.

mod action;
mod flood;
mod spelling;

use serde::Deserialize;
use stagewright_sdk::{JsonSchema, Manifest, Outcome, Result, Stage, outputs};

use action::Action;

/// What to try.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(crate = "stagewright_sdk::schemars")]
pub struct Config {
    /// One after the other, whatever becomes of them.
    deeds: Vec<Action>,
}

/// The stage.
pub struct Stranger;

impl Stage for Stranger {
    type Config = Config;

    fn manifest() -> Manifest {
        Manifest::new("stranger", env!("CARGO_PKG_VERSION")).description("Tries what it was not granted")
    }

    fn run(config: Config) -> Result<Outcome> {
        let mut answers = Vec::new();
        let mut end = Ok(Outcome::Succeeded);
        for deed in config.deeds {
            match deed.perform(&mut end) {
                Ok(answer) => answers.push(answer),
                Err(error) => answers.push(format!("{:?}", error.code)),
            }
        }
        outputs::set("answers", &answers)?;
        end
    }
}

stagewright_sdk::export_stage!(Stranger);
