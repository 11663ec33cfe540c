//! Implements the generated traits for the typed ones: parses configuration, and converts types to those of the WIT.

use std::marker::PhantomData;

use crate::bindings::reconcile::exports::stagewright::stage::reconcile;
use crate::bindings::stage::exports::stagewright::stage::plugin;
use crate::bindings::stage::stagewright::stage::types;
use crate::{Diagnostic, Error, Observation, Outcome, Reconcile, Result, Severity, Stage, Suspension, config, context};

/// Implements the exports of the WIT for a [`Stage`].
#[derive(Debug)]
pub struct Adapter<S>(PhantomData<S>);

impl<S: Stage> plugin::Guest for Adapter<S> {
    fn describe() -> String {
        describe::<S>()
    }

    fn validate() -> Vec<Diagnostic> {
        validate::<S>()
    }

    fn run() -> std::result::Result<plugin::Outcome, types::Error> {
        log_panics();
        Ok(run::<S>()?.into())
    }
}

impl<S: Reconcile> reconcile::Guest for Adapter<S> {
    fn observe() -> std::result::Result<reconcile::Observation, types::Error> {
        log_panics();
        Ok(observe::<S>()?.into())
    }

    fn undo() -> std::result::Result<(), types::Error> {
        log_panics();
        Ok(undo::<S>()?)
    }
}

pub(crate) fn describe<S: Stage>() -> String {
    S::manifest().to_json(schemars::schema_for!(S::Config))
}

pub(crate) fn validate<S: Stage>() -> Vec<Diagnostic> {
    match config::parse(&context::config_json()) {
        Ok(config) => S::validate(&config),
        Err(diagnostics) => diagnostics,
    }
}

pub(crate) fn run<S: Stage>() -> Result<Outcome> {
    S::run(valid_config::<S>()?)
}

pub(crate) fn observe<S: Reconcile>() -> Result<Observation> {
    S::observe(valid_config::<S>()?)
}

pub(crate) fn undo<S: Reconcile>() -> Result<()> {
    S::undo(valid_config::<S>()?)
}

/// The configuration, if it is valid. It was validated before the run, but with expressions whose values are known only
/// now, so it is validated again.
fn valid_config<S: Stage>() -> Result<S::Config> {
    let config = context::config()?;
    let mut found = S::validate(&config).into_iter();
    match found.find(|diagnostic| diagnostic.severity == Severity::Error) {
        None => Ok(config),
        Some(Diagnostic { path, message, help, .. }) => {
            let place = path.map(|path| format!("`with.{path}`: ")).unwrap_or_default();
            Err(Error { help, ..Error::invalid(format!("{place}{message}")) })
        }
    }
}

/// Logs the messages of panics, because the host sees only a trap without a message.
fn log_panics() {
    #[cfg(target_arch = "wasm32")]
    std::panic::set_hook(Box::new(|panic| crate::log::error(panic.to_string())));
}

impl From<Outcome> for plugin::Outcome {
    fn from(outcome: Outcome) -> plugin::Outcome {
        match outcome {
            Outcome::Succeeded => plugin::Outcome::Succeeded,
            Outcome::Skipped(reason) => plugin::Outcome::Skipped(reason),
            Outcome::Suspended(Suspension { token, reason, poll_after }) => {
                let poll_after_ms = poll_after.map(crate::duration::millis);
                plugin::Outcome::Suspended(plugin::Suspension { token, reason, poll_after_ms })
            }
        }
    }
}

impl From<Observation> for reconcile::Observation {
    fn from(observation: Observation) -> reconcile::Observation {
        match observation {
            Observation::NotStarted => reconcile::Observation::NotStarted,
            Observation::InProgress => reconcile::Observation::InProgress,
            Observation::Applied(what) => reconcile::Observation::Applied(what),
            Observation::Failed(why) => reconcile::Observation::Failed(why),
            Observation::Unknown(why) => reconcile::Observation::Unknown(why),
        }
    }
}
