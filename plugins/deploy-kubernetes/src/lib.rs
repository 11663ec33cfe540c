//! Deploys to the target `kubernetes`: applies the objects of a release to a cluster, waits until they are ready, and deletes
//! what the earlier release had and this one hasn't.
//!
//! Input: files with objects, or a folder or chart that a program renders, and images by digest. Output: the release's name,
//! and what it was deployed from. The API is reached with a credential that the host signs with.
//!
//! Objects are applied on the server's side under an owner of their own, so that only fields are touched that the release
//! sets. Everything is checked first, by the rules here and by the server. Each object carries the fencing token that it was
//! applied under, and a deploy with an older one is refused. The cluster keeps the releases, from which `undo` restores the
//! last known-good one.
//!
//! It creates no namespace of its own accord, and never deletes one, a claim of a volume, or a definition of a kind.

mod apply;
mod beside;
mod checks;
mod cluster;
mod config;
mod configuration;
mod desired;
mod digest;
mod images;
mod object;
mod pods;
mod record;
mod render;
mod target;
mod workload;
mod yaml;

use stagewright_sdk::{Manifest, Observation, Outcome, Problem, Reconcile, Requirement, Result, Stage};

use crate::config::Config;
use crate::target::Application;

/// The plugin.
#[derive(Debug)]
pub struct DeployKubernetes;

impl Stage for DeployKubernetes {
    type Config = Config;

    fn manifest() -> Manifest {
        rollout::with_outputs(stagewright_sdk::manifest!())
    }

    fn validate(config: &Config) -> Vec<Problem> {
        config::problems(config)
    }

    fn requirements(config: &Config) -> Vec<Requirement> {
        let credential = Requirement::credential(&config.credential).because("applies the release to the cluster");
        let mut found = vec![credential];
        let read = |path: &str, reason: &str| Requirement::read(path).because(reason);
        let secrets =
            config.secrets.iter().flat_map(|(name, keys)| keys.iter().map(move |(key, secret)| (name, key, secret)));
        found.extend(secrets.map(|(name, key, secret)| {
            Requirement::secret_header(secret).because(format!("the release gets it as {key} of secret/{name}"))
        }));
        found.extend(config.manifests.iter().map(|pattern| read(pattern, "reads the release's objects")));
        if let Some(folder) = &config.kustomize {
            found.push(Requirement::process("kubectl").because("renders the kustomization"));
            found.push(read(&format!("{folder}/**"), "contains the kustomization"));
        }
        if let Some(helm) = &config.helm {
            found.push(Requirement::process("helm").because("renders the chart"));
            found.push(read(&format!("{}/**", helm.chart), "contains the chart"));
            found.extend(helm.values.iter().map(|file| read(file, "contains values of the chart")));
        }
        found
    }

    fn run(config: Config) -> Result<Outcome> {
        rollout::run::<Application>(&config)
    }
}

impl Reconcile for DeployKubernetes {
    fn observe(config: Config) -> Result<Observation> {
        rollout::observe::<Application>(&config)
    }

    fn undo(config: Config) -> Result<()> {
        rollout::undo::<Application>(&config)
    }
}

stagewright_sdk::export_effectful_stage!(DeployKubernetes);
