//! Which state it is, by its lineage and its number.

use std::fmt;

use serde::{Deserialize, Serialize};
use stagewright_sdk::{Error, Result};

/// A state, without what is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct State {
    /// The same for all states of an infrastructure; empty before the first one.
    #[serde(default)]
    lineage: String,
    /// Grows with each change.
    #[serde(default)]
    serial: u64,
}

/// The file beside the plan, in a folder.
pub(crate) fn path(folder: &str) -> String {
    format!("{folder}/state.json")
}

impl State {
    /// Reads what `state pull` prints: nothing before the first state.
    pub(crate) fn parse(text: &[u8]) -> Result<State> {
        match text.trim_ascii().is_empty() {
            true => Ok(State::default()),
            false => {
                serde_json::from_slice(text).map_err(|error| Error::failed(format!("can't read the state: {error}")))
            }
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.lineage.is_empty() {
            true => f.write_str("no state"),
            false => write!(f, "number {} of the state {}", self.serial, self.lineage),
        }
    }
}
