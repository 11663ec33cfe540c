//! The stage that deploys to a target.

use std::marker::PhantomData;

use stagewright_sdk::{LiveDifference, Manifest, Observation, Outcome, Problem, Reconcile, Requirement, Result, Stage};

use crate::target::{ReleaseConfig as _, Target};

/// The stage that deploys to a target. A plugin exports it with [`stagewright_sdk::export_effectful_stage!`].
#[derive(Debug)]
pub struct Deploy<T>(PhantomData<T>);

impl<T: Target> Stage for Deploy<T> {
    type Config = T::Config;

    fn manifest() -> Manifest {
        T::manifest()
            .output::<String>("url", "The release's address")
            .output::<String>("release", "The release's name")
            .output::<String>("image", "The deployed image, by digest")
            .output::<Option<String>>("previous", "The image that was replaced, by digest; null for a first deploy")
    }

    fn validate(config: &T::Config) -> Vec<Problem> {
        config.problems()
    }

    fn requirements(config: &T::Config) -> Vec<Requirement> {
        T::requirements(config)
    }

    fn run(config: T::Config) -> Result<Outcome> {
        crate::run::<T>(&config)
    }
}

impl<T: Target> Reconcile for Deploy<T> {
    fn observe(config: T::Config) -> Result<Observation> {
        crate::observe::<T>(&config)
    }

    fn undo(config: T::Config) -> Result<()> {
        crate::undo::<T>(&config)
    }

    fn compare(config: T::Config) -> Result<Vec<LiveDifference>> {
        crate::drift::compare::<T>(&config)
    }
}
