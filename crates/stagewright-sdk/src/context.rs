//! The stage's run, configuration and inputs.

use serde::de::DeserializeOwned;
use std::time::Duration;

use crate::{Result, config, host::context as host};

/// The pipeline's name.
pub fn pipeline() -> String {
    host::pipeline()
}

/// The stage's unique name, matrix values included.
pub fn stage() -> String {
    host::stage()
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
    host::remaining_ms().map(|millis| Duration::from_millis(millis.into()))
}

/// The W3C trace context, to pass on in requests.
pub fn trace_parent() -> Option<String> {
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

/// The outputs of another stage; none when it isn't among this stage's needs.
///
/// # Errors
/// When they can't be deserialized into `T`.
pub fn input<T: DeserializeOwned>(stage: &str) -> Result<Option<T>> {
    let Some(json) = host::input(stage) else { return Ok(None) };
    match serde_json::from_str(&json) {
        Ok(value) => Ok(Some(value)),
        Err(error) => Err(crate::Error::from(error).context(format!("can't use the outputs of stage `{stage}`"))),
    }
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
    config::parse(&host::config()).map_err(config::as_error)
}
