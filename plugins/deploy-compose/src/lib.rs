//! Deploys to the target `compose`: a project of Docker Compose on one machine.
//!
//! Input: a release that the stage `compose-release` has made of a Compose file. Output: the release's name, and what it
//! replaced. `docker compose` gets the release on its standard input, with images by digest, which were pulled before, so that
//! what it applies is what was checked. Everything else goes over the engine's socket, by the methods and paths that a deploy
//! takes and nothing else.
//!
//! The project's releases are kept as volumes without content, whose labels say which deploy they come from: Compose would
//! start all containers of a project again if the labels were theirs. A deploy with an older token is refused.
//!
//! Values of secrets go from the host to the program. The plugin doesn't see them.

mod compose;
mod config;
mod containers;
mod records;
mod target;
#[cfg(test)]
mod tests;

use docker_engine::Engine;
use stagewright_sdk::{Manifest, Observation, Outcome, Problem, Reconcile, Requirement, Result, Stage};

use crate::compose::Compose;
use crate::config::Config;
use crate::target::Project;

/// The plugin.
#[derive(Debug)]
pub struct DeployCompose;

/// The requests to the engine that a deploy takes.
const REQUESTS: [(&str, &str, &str); 8] = [
    ("GET", "/containers/json", "finds the project's containers"),
    ("GET", "/containers/*/json", "observes the containers"),
    ("GET", "/containers/*/logs", "shows why a release failed"),
    ("GET", "/images/json", "looks whether the engine has the images"),
    ("POST", "/images/create", "pulls the images"),
    ("GET", "/volumes", "finds the releases"),
    ("POST", "/volumes/create", "keeps the release"),
    ("DELETE", "/volumes/*", "removes what earlier releases kept"),
];

impl Stage for DeployCompose {
    type Config = Config;

    fn manifest() -> Manifest {
        rollout::with_outputs(stagewright_sdk::manifest!())
    }

    fn validate(config: &Config) -> Vec<Problem> {
        config::problems(config)
    }

    fn requirements(config: &Config) -> Vec<Requirement> {
        let engine = Engine::at(&config.socket);
        let requests = REQUESTS.iter().map(|(method, path, reason)| engine.requirement(method, path).because(*reason));
        let checks = config.url.as_deref().and_then(Requirement::url).map(|net| net.because("checks the release"));
        let secrets = config.secrets.iter();
        let secrets =
            secrets.map(|(name, secret)| Requirement::secret_env(secret).because(format!("is the variable {name}")));
        Compose::of(config).requirements().into_iter().chain(requests).chain(checks).chain(secrets).collect()
    }

    fn run(config: Config) -> Result<Outcome> {
        rollout::run::<Project>(&config)
    }
}

impl Reconcile for DeployCompose {
    fn observe(config: Config) -> Result<Observation> {
        rollout::observe::<Project>(&config)
    }

    fn undo(config: Config) -> Result<()> {
        rollout::undo::<Project>(&config)
    }
}

stagewright_sdk::export_effectful_stage!(DeployCompose);
