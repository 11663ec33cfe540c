//! Deploys to the target `process`: starts a release as a supervised process of this machine, waits until it is healthy, and
//! makes it the current one.
//!
//! Input: an image by digest, and how to run it. Output: the address, the release's name, and the image that it replaced.
//! The old release keeps serving until the new one passes its health check; a new release that doesn't is removed.
//!
//! `observe` compares the fencing token under which the current release was started with the one of the interrupted
//! attempt. `undo` deploys the environment's last known-good release with its original configuration.
//!
//! It doesn't deploy by tag: what was tested and what is deployed must be the same bytes.

mod config;
mod target;
#[cfg(test)]
mod tests;

use stagewright_sdk::{Manifest, Observation, Outcome, Permission, Problem, Reconcile, Requirement, Result, Stage};

use crate::config::Config;
use crate::target::Processes;

/// The plugin.
#[derive(Debug)]
pub struct DeployProcess;

impl Stage for DeployProcess {
    type Config = Config;

    fn manifest() -> Manifest {
        rollout::with_outputs(stagewright_sdk::manifest!())
    }

    fn validate(config: &Config) -> Vec<Problem> {
        config::problems(config)
    }

    fn requirements(config: &Config) -> Vec<Requirement> {
        // The grant of the service includes pulling its image from a registry.
        let service = Requirement::service(&config.service).because("runs the image");
        let secrets = config.secret_env.iter().map(|(variable, secret)| {
            Requirement::secret_env(secret).because(format!("the release gets it as {variable}"))
        });
        let layout = Requirement::image(config.image.as_str());
        let layout = Some(layout).filter(|layout| layout.permission == Permission::Read);
        std::iter::once(service)
            .chain(layout.map(|layout| layout.because("contains the image")))
            .chain(secrets)
            .collect()
    }

    fn run(config: Config) -> Result<Outcome> {
        rollout::run::<Processes>(&config)
    }
}

impl Reconcile for DeployProcess {
    fn observe(config: Config) -> Result<Observation> {
        rollout::observe::<Processes>(&config)
    }

    fn undo(config: Config) -> Result<()> {
        rollout::undo::<Processes>(&config)
    }
}

stagewright_sdk::export_effectful_stage!(DeployProcess);
