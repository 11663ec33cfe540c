//! Deploys to the target `static`: puts the files of a site into a bucket of S3, and switches to them at once.
//!
//! Input: a folder that an earlier stage has published. Output: the release's name and the site's address. Only files that the
//! serving release doesn't have are sent.
//!
//! The bucket has everything that a later deploy has to know: each release with a list of its files, and a pointer to the one
//! that serves, with the fencing token and the run. The pointer is written only if nothing else has changed it, so that the
//! bucket refuses a stale deploy. `observe` looks whether the pointer is the interrupted run's. `undo` points to the
//! environment's last known-good release again, and sends nothing.
//!
//! It deletes only what releases have created.

mod bucket;
mod cleanup;
mod config;
mod content;
mod distribution;
mod pointer;
mod release;
mod target;
#[cfg(test)]
mod tests;

use stagewright_sdk::{Manifest, Observation, Outcome, Problem, Reconcile, Requirement, Result, Stage};

use crate::config::Config;
use crate::target::Site;

/// The plugin.
#[derive(Debug)]
pub struct DeployStatic;

impl Stage for DeployStatic {
    type Config = Config;

    fn manifest() -> Manifest {
        rollout::with_outputs(stagewright_sdk::manifest!())
    }

    fn validate(config: &Config) -> Vec<Problem> {
        config::problems(config)
    }

    fn requirements(config: &Config) -> Vec<Requirement> {
        let signs = Requirement::credential(&config.credential).because("signs the requests to the bucket");
        let scratch = Requirement::write(&config.scratch).because("has the files while they are sent");
        let invalidates = config.cloudfront.iter().map(|cloudfront| {
            Requirement::credential(&cloudfront.credential).because("signs the invalidation of the distribution")
        });
        let checks = config.preview.iter().filter_map(|url| Requirement::url(url));
        let checks = checks.map(|checks| checks.because("checks the release"));
        let analyses = config.strategy.iter().flat_map(rollout::Strategy::requirements);
        [signs, scratch].into_iter().chain(invalidates).chain(checks).chain(analyses).collect()
    }

    fn run(config: Config) -> Result<Outcome> {
        rollout::run::<Site>(&config)
    }
}

impl Reconcile for DeployStatic {
    fn observe(config: Config) -> Result<Observation> {
        rollout::observe::<Site>(&config)
    }

    fn undo(config: Config) -> Result<()> {
        rollout::undo::<Site>(&config)
    }
}

stagewright_sdk::export_effectful_stage!(DeployStatic);
