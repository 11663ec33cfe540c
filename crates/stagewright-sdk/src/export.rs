//! What a component exports, for a typed stage: parses its configuration, and converts its results to the types of the WIT.

use crate::{
    Error, LiveDifference, Observation, Outcome, Problem, Reconcile, Requirement, Result, Severity, Stage, config,
    context,
};

#[cfg(target_arch = "wasm32")]
pub use adapter::Adapter;

pub(crate) fn describe<S: Stage>() -> String {
    S::manifest().to_json(&schemars::schema_for!(S::Config))
}

pub(crate) fn validate<S: Stage>() -> Vec<Problem> {
    match config::parse(&context::config_json()) {
        Ok(config) => S::validate(&config),
        Err(problems) => problems,
    }
}

/// None for an invalid configuration, which `validate` reports.
pub(crate) fn requirements<S: Stage>() -> Vec<Requirement> {
    config::parse(&context::config_json()).map(|config| S::requirements(&config)).unwrap_or_default()
}

pub(crate) fn run<S: Stage>() -> Result<Outcome> {
    S::run(valid_config::<S>()?)
}

pub(crate) fn observe<S: Reconcile>() -> Result<Observation> {
    S::observe(valid_config::<S>()?)
}

pub(crate) fn compare<S: Reconcile>() -> Result<Vec<LiveDifference>> {
    S::compare(valid_config::<S>()?)
}

pub(crate) fn undo<S: Reconcile>() -> Result<()> {
    S::undo(valid_config::<S>()?)
}

/// The configuration, if it is valid. It was validated before the run, but with expressions whose values are known only
/// now, so it is validated again.
fn valid_config<S: Stage>() -> Result<S::Config> {
    let config = context::config()?;
    let problems = S::validate(&config).into_iter();
    let errors: Vec<Problem> = problems.filter(|problem| problem.severity == Severity::Error).collect();
    if errors.is_empty() { Ok(config) } else { Err(Error::from(errors)) }
}

#[cfg(target_arch = "wasm32")]
mod adapter {
    use std::marker::PhantomData;

    use crate::bindings::drift::exports::stagewright::stage::drift;
    use crate::bindings::imports::types;
    use crate::bindings::reconcile::exports::stagewright::stage::reconcile;
    use crate::bindings::stage::exports::stagewright::stage::{plugin, requirements};
    use crate::{Outcome, Reconcile, Stage};

    /// Implements the exports of the WIT for a [`Stage`].
    #[derive(Debug)]
    pub struct Adapter<S>(PhantomData<S>);

    impl<S: Stage> plugin::Guest for Adapter<S> {
        fn describe() -> String {
            super::describe::<S>()
        }

        fn validate() -> Vec<types::Problem> {
            super::validate::<S>().into_iter().map(types::Problem::from).collect()
        }

        fn run() -> Result<types::Outcome, types::Error> {
            log_panics();
            Ok(super::run::<S>()?.into())
        }
    }

    impl<S: Stage> requirements::Guest for Adapter<S> {
        fn requirements() -> Vec<types::Requirement> {
            super::requirements::<S>().into_iter().map(types::Requirement::from).collect()
        }
    }

    impl<S: Reconcile> reconcile::Guest for Adapter<S> {
        fn observe() -> Result<types::Observation, types::Error> {
            log_panics();
            Ok(super::observe::<S>()?.into())
        }

        fn undo() -> Result<types::Outcome, types::Error> {
            log_panics();
            super::undo::<S>()?;
            Ok(Outcome::Succeeded.into())
        }
    }

    impl<S: Reconcile> drift::Guest for Adapter<S> {
        fn compare() -> Result<String, types::Error> {
            log_panics();
            Ok(serde_json::to_string(&super::compare::<S>()?).map_err(crate::Error::from)?)
        }
    }

    /// Logs the messages of panics, because the host sees only a trap without a message.
    fn log_panics() {
        std::panic::set_hook(Box::new(|panic| crate::log::error(panic.to_string())));
    }
}
