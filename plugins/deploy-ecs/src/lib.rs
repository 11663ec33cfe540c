//! Deploys to the target `ecs`: registers a task definition with an image by digest, updates a service to it, and waits until
//! ECS has replaced the tasks.
//!
//! Input: an image by digest; a template of the task definition, or the one that the service has. Output: the task
//! definition's name, and the image that it replaced. ECS replaces tasks by the service's own `deploymentConfiguration`.
//!
//! Tags of the task definition have the fencing token and the run, and a deploy with an older token than any that the service
//! runs is refused. `observe` looks whether the service runs the interrupted run's task definition. `undo` updates the service
//! to the one of the environment's last known-good release.
//!
//! It doesn't create services, and changes nothing of one but its task definition.

mod config;
mod definition;
mod ecs;
mod target;
#[cfg(test)]
mod tests;

use stagewright_sdk::{Manifest, Observation, Outcome, Problem, Reconcile, Requirement, Result, Stage};

use crate::config::Config;
use crate::target::Services;

/// The plugin.
#[derive(Debug)]
pub struct DeployEcs;

impl Stage for DeployEcs {
    type Config = Config;

    fn manifest() -> Manifest {
        rollout::with_outputs(stagewright_sdk::manifest!())
    }

    fn validate(config: &Config) -> Vec<Problem> {
        config::problems(config)
    }

    fn requirements(config: &Config) -> Vec<Requirement> {
        let signs = Requirement::credential(&config.credential).because("signs the requests to ECS");
        let template = config
            .task_definition
            .iter()
            .map(|path| Requirement::read(path.as_str()).because("is the template of the task definition"));
        std::iter::once(signs).chain(template).collect()
    }

    fn run(config: Config) -> Result<Outcome> {
        rollout::run::<Services>(&config)
    }
}

impl Reconcile for DeployEcs {
    fn observe(config: Config) -> Result<Observation> {
        rollout::observe::<Services>(&config)
    }

    fn undo(config: Config) -> Result<()> {
        rollout::undo::<Services>(&config)
    }
}

stagewright_sdk::export_effectful_stage!(DeployEcs);
