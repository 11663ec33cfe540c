//! Deploys to the target `lambda`: publishes a version of a function, checks it, and gives it the requests to an alias as its
//! strategy says.
//!
//! Input: a zip archive that an earlier stage has published, or an image by digest. Output: the version's name, and the code
//! that it replaced. Callers use the alias; its weights make a canary, and moving it makes the version the one that serves.
//!
//! The alias's description has the fencing token and the run, and each change of the alias requires that nothing else has
//! changed it meanwhile (`RevisionId`), so that Lambda itself refuses a stale deploy. `observe` looks whether the alias was
//! moved by the interrupted run. `undo` moves it to the environment's last known-good version.
//!
//! It doesn't change the configuration of a function that exists; a version has the one that it finds.

mod config;
mod create;
mod function;
mod mark;
mod target;
#[cfg(test)]
mod tests;

use stagewright_sdk::{Manifest, Observation, Outcome, Problem, Reconcile, Requirement, Result, Stage};

use crate::config::Config;
use crate::target::Versions;

/// The plugin.
#[derive(Debug)]
pub struct DeployLambda;

impl Stage for DeployLambda {
    type Config = Config;

    fn manifest() -> Manifest {
        rollout::with_outputs(stagewright_sdk::manifest!())
    }

    fn validate(config: &Config) -> Vec<Problem> {
        config::problems(config)
    }

    fn requirements(config: &Config) -> Vec<Requirement> {
        let signs = Requirement::credential(&config.credential).because("signs the requests to Lambda");
        let scratch =
            config.zip.iter().map(|_| Requirement::write(&config.scratch).because("has the archive while it is sent"));
        let analyses = config.strategy.iter().flat_map(rollout::Strategy::requirements);
        std::iter::once(signs).chain(scratch).chain(analyses).collect()
    }

    fn run(config: Config) -> Result<Outcome> {
        rollout::run::<Versions>(&config)
    }
}

impl Reconcile for DeployLambda {
    fn observe(config: Config) -> Result<Observation> {
        rollout::observe::<Versions>(&config)
    }

    fn undo(config: Config) -> Result<()> {
        rollout::undo::<Versions>(&config)
    }
}

stagewright_sdk::export_effectful_stage!(DeployLambda);
