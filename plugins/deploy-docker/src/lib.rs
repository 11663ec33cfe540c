//! Deploys to the target `docker`: starts a release as a container of a Docker engine, waits until it is ready, and gives it
//! the requests as its strategy says.
//!
//! Input: an image by digest, and how to run it. Output: the address, the release's name, and the image that it replaced.
//! The engine is reached over its socket, by the methods and paths that a deploy takes and nothing else.
//!
//! Each container carries the fencing token that it was started under, and a deploy with an older one is refused. `observe`
//! looks whether the container that serves was started by the interrupted run. `undo` deploys the environment's last
//! known-good release with its original configuration.
//!
//! It doesn't mount folders of the machine, and starts no privileged containers.

mod config;
mod target;
#[cfg(test)]
mod tests;

use docker_engine::Engine;
use stagewright_sdk::{Manifest, Observation, Outcome, Problem, Reconcile, Requirement, Result, Stage};

use crate::config::Config;
use crate::target::Containers;

/// The plugin.
#[derive(Debug)]
pub struct DeployDocker;

/// The requests to the engine that a deploy takes.
const REQUESTS: [(&str, &str, &str); 10] = [
    ("GET", "/containers/json", "finds the releases"),
    ("GET", "/containers/*/json", "observes the release"),
    ("GET", "/containers/*/logs", "shows why a release failed"),
    ("GET", "/images/json", "looks whether the engine has the image"),
    ("POST", "/images/create", "pulls the image"),
    ("POST", "/containers/create", "creates the release"),
    ("POST", "/containers/*/start", "starts the release"),
    ("POST", "/containers/*/stop", "stops the old release"),
    ("POST", "/containers/*/rename", "makes the release the one that serves"),
    ("POST", "/containers/*/update", "restarts the release after a crash"),
];

impl Stage for DeployDocker {
    type Config = Config;

    fn manifest() -> Manifest {
        rollout::with_outputs(stagewright_sdk::manifest!())
    }

    fn validate(config: &Config) -> Vec<Problem> {
        config::problems(config)
    }

    fn requirements(config: &Config) -> Vec<Requirement> {
        let engine = Engine::at(&config.socket);
        let remove = engine.requirement("DELETE", "/containers/*").because("removes the old release");
        // The engine publishes a free port, and the checks go there.
        let checks = config.port.map(|_| Requirement::net("http://127.0.0.1:*").because("checks the release"));
        let secrets = config.secret_env.iter().map(|(variable, secret)| {
            Requirement::secret_header(secret).because(format!("the release gets it as {variable}"))
        });
        REQUESTS
            .iter()
            .map(|(method, path, reason)| engine.requirement(method, path).because(*reason))
            .chain([remove])
            .chain(secrets)
            .chain(checks)
            .chain(config.traffic.iter().flat_map(rollout::Traffic::requirements))
            .chain(config.strategy.iter().flat_map(rollout::Strategy::requirements))
            .collect()
    }

    fn run(config: Config) -> Result<Outcome> {
        rollout::run::<Containers>(&config)
    }
}

impl Reconcile for DeployDocker {
    fn observe(config: Config) -> Result<Observation> {
        rollout::observe::<Containers>(&config)
    }

    fn undo(config: Config) -> Result<()> {
        rollout::undo::<Containers>(&config)
    }
}

stagewright_sdk::export_effectful_stage!(DeployDocker);
