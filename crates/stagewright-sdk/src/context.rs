//! The stage's place in its run, its configuration, and the results of the stages that it needs.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use crate::{Error, Result, config, host::context as host};

pub use crate::need::{Need, NeedOutcome};

/// The pipeline's name.
pub fn pipeline() -> String {
    host::pipeline()
}

/// The name of the stage's table.
pub fn stage() -> String {
    host::stage()
}

/// The stage's unique name, with its matrix values.
pub fn stage_id() -> String {
    host::stage_id()
}

/// The run's id.
pub fn run_id() -> String {
    host::run_id()
}

/// The number of the attempt, from 1.
pub fn attempt() -> u32 {
    host::attempt()
}

/// Whether this is a rehearsal, in which effects are redirected to local stand-ins.
pub fn rehearsal() -> bool {
    host::rehearsal()
}

/// Whether the stage is being cancelled. Poll it in long loops that don't call the host otherwise.
pub fn cancelled() -> bool {
    host::cancelled()
}

/// The time until the stage's timeout; none without a timeout.
pub fn remaining() -> Option<Duration> {
    host::remaining_ms().map(Duration::from_millis)
}

/// The attempt's W3C `traceparent`, to pass on in requests. All attempts of a run belong to one trace.
pub fn trace_parent() -> String {
    host::trace_parent()
}

/// The stage's environment, as in `environment = "staging"`; none without one.
pub fn environment() -> Option<String> {
    host::environment()
}

/// A variable of the stage's `env` table.
pub fn variable(name: &str) -> Option<String> {
    host::variable(name)
}

/// The stages that this one needs, in the order of the plan; for a stage in `finally`, all stages before it.
///
/// # Errors
/// When the host's record of their outputs can't be parsed.
pub fn needs() -> Result<Vec<Need>> {
    host::needs().into_iter().map(Need::try_from).collect()
}

/// The outputs of another stage; none when it isn't among this stage's needs. Those of a matrix are merged: of several
/// values for a name, the one of the last cell counts.
///
/// # Errors
/// When they can't be deserialized into `T`.
pub fn input<T: DeserializeOwned>(stage: &str) -> Result<Option<T>> {
    let cells = needs()?.into_iter().filter(|need| need.stage == stage).map(|need| need.outputs);
    let merge = |mut merged: Json, cell| {
        match (&mut merged, cell) {
            (Json::Object(merged), Json::Object(cell)) => merged.extend(cell),
            (merged, cell) => *merged = cell,
        }
        merged
    };
    let Some(outputs) = cells.reduce(merge) else { return Ok(None) };
    let failed = |error| Error::from(error).context(format!("can't use the outputs of stage `{stage}`"));
    serde_json::from_value(outputs).map(Some).map_err(failed)
}

/// The `with` table as JSON, with its expressions evaluated.
pub fn config_json() -> String {
    host::config()
}

/// The `with` table. [`crate::Stage::run`] gets it as its argument.
///
/// # Errors
/// When it can't be deserialized into `T`. The message names the key.
pub fn config<T: DeserializeOwned>() -> Result<T> {
    config::parse(&host::config()).map_err(Error::from)
}
