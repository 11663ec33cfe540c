//! Where the stage stands: its run, its configuration, and what came before it.

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

/// 1 for the first try.
pub fn attempt() -> u32 {
    host::attempt()
}

/// Whether effects act on local stand-ins.
pub fn rehearsal() -> bool {
    host::rehearsal()
}

/// Whether the stage was asked to stop. Long loops of the guest's own should look now and then.
pub fn cancelled() -> bool {
    host::cancelled()
}

/// Until the stage's timeout; none when it has none.
pub fn remaining() -> Option<Duration> {
    host::remaining_ms().map(|millis| Duration::from_millis(millis.into()))
}

/// The W3C trace context to hand on.
pub fn trace_parent() -> Option<String> {
    host::trace_parent()
}

/// The environment that the stage names, as in `environment = "staging"`.
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
/// When they don't fit `T`.
pub fn input<T: DeserializeOwned>(stage: &str) -> Result<Option<T>> {
    let Some(json) = host::input(stage) else { return Ok(None) };
    match serde_json::from_str(&json) {
        Ok(value) => Ok(Some(value)),
        Err(error) => Err(crate::Error::from(error).context(format!("can't use the outputs of stage `{stage}`"))),
    }
}

/// The `with` table as JSON, expressions evaluated.
pub fn config_json() -> String {
    host::config()
}

/// The `with` table. [`crate::Stage::run`] is handed it.
///
/// # Errors
/// When it doesn't fit `T`: names the key.
pub fn config<T: DeserializeOwned>() -> Result<T> {
    config::parse(&host::config()).map_err(config::as_error)
}
