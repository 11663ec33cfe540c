//! Deploys to the target `swarm`: a stack of services, as `docker stack deploy` does, but by digest, in order, and to its end.
//!
//! Input: a release that the stage `compose-release` has made of a Compose file. Output: the release's name, and what it
//! replaced. The engine, a manager of the swarm, is reached over its socket, by the methods and paths that a deploy takes and
//! nothing else.
//!
//! Each service carries the fencing token of its last deploy. A change of a service is based on its version, and the swarm
//! refuses it if the service has changed since: an older deploy can't overtake a newer one, not even between its check and
//! its change. What was deployed is kept in the swarm, so that a failed deploy can be undone without Swarm's own rollback,
//! which knows the previous state alone.
//!
//! It doesn't create secrets, and never removes volumes.

mod config;
mod progress;
mod records;
mod spec;
mod target;
#[cfg(test)]
mod tests;

use docker_engine::Engine;
use stagewright_sdk::{Manifest, Observation, Outcome, Problem, Reconcile, Requirement, Result, Stage};

use crate::config::Config;
use crate::target::Stack;

/// The plugin.
#[derive(Debug)]
pub struct DeploySwarm;

/// The requests to the engine that a deploy takes.
const REQUESTS: [(&str, &str, &str); 17] = [
    ("GET", "/services", "finds the stack's services"),
    ("GET", "/services/*", "observes the services"),
    ("POST", "/services/create", "creates the services"),
    ("POST", "/services/*/update", "updates the services"),
    ("DELETE", "/services/*", "removes services that the release doesn't have"),
    ("GET", "/tasks", "observes the services"),
    ("GET", "/tasks/*/logs", "shows why a release failed"),
    ("GET", "/configs", "finds the releases"),
    ("GET", "/configs/*", "finds the release's configs"),
    ("POST", "/configs/create", "keeps the release and its configs"),
    ("POST", "/configs/*/update", "marks the release that serves"),
    ("DELETE", "/configs/*", "removes what earlier releases kept"),
    ("GET", "/secrets/*", "finds the release's secrets, without their values"),
    ("GET", "/networks", "finds the stack's networks"),
    ("POST", "/networks/create", "creates the stack's networks"),
    ("GET", "/images/json", "looks whether the manager has the images"),
    ("GET", "/distribution/**", "looks whether the registry has the images"),
];

impl Stage for DeploySwarm {
    type Config = Config;

    fn manifest() -> Manifest {
        rollout::with_outputs(stagewright_sdk::manifest!())
    }

    fn validate(config: &Config) -> Vec<Problem> {
        config::problems(config)
    }

    fn requirements(config: &Config) -> Vec<Requirement> {
        let engine = Engine::at(&config.socket);
        let checks = config.url.as_deref().and_then(Requirement::url).map(|net| net.because("checks the release"));
        REQUESTS
            .iter()
            .map(|(method, path, reason)| engine.requirement(method, path).because(*reason))
            .chain(checks)
            .collect()
    }

    fn run(config: Config) -> Result<Outcome> {
        rollout::run::<Stack>(&config)
    }
}

impl Reconcile for DeploySwarm {
    fn observe(config: Config) -> Result<Observation> {
        rollout::observe::<Stack>(&config)
    }

    fn undo(config: Config) -> Result<()> {
        rollout::undo::<Stack>(&config)
    }
}

stagewright_sdk::export_effectful_stage!(DeploySwarm);
