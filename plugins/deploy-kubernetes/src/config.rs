//! The stage's `with` table.

use std::collections::BTreeMap;
use std::time::Duration;

use kubernetes::{Allowance, is_name, path_problems};
use rollout::{Image, Probe, ReleaseConfig, Rolling, Strategy};
use serde::Deserialize;
use stagewright_sdk::{DurationText, JsonSchema, Problem, schemars};

use crate::traffic::Traffic;

/// How long Kubernetes waits for progress, if nothing says otherwise, and how much longer the stage waits.
const PROGRESS_DEADLINE: u32 = 600;
const LONGER: u32 = 30;

/// The release to apply to a cluster.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(example = serde_json::json!({
    "service": "shop",
    "credential": "cluster",
    "manifests": ["k8s/*.yaml"],
    "images": { "web": "${{ stages.push.outputs.reference }}" },
}))]
pub(crate) struct Config {
    /// The name of what is deployed. It is the same for all releases of an environment, and unique in its namespace.
    pub(crate) service: String,
    /// The credential that reaches the cluster: a table of `[credentials]`.
    pub(crate) credential: String,
    /// The namespace of objects that name none, and of what is kept about the releases.
    #[serde(default = "default_namespace")]
    pub(crate) namespace: String,
    /// Patterns of the YAML files with the release's objects.
    #[serde(default)]
    pub(crate) manifests: Vec<String>,
    /// A folder with a `kustomization.yaml`, which `kubectl kustomize` renders.
    pub(crate) kustomize: Option<String>,
    /// A chart, which `helm template` renders.
    pub(crate) helm: Option<Chart>,
    /// Instead of objects: a workload of the cluster whose containers get other images, as in `deployment/backend`.
    pub(crate) workload: Option<String>,
    /// The images of containers by the container's name, each by digest.
    #[serde(default)]
    pub(crate) images: BTreeMap<String, Image>,
    /// A file with the cluster's description of its API, which `kubectl get --raw /openapi/v2` prints. The objects are checked
    /// against it, also in a rehearsal that may not ask the cluster.
    pub(crate) schema: Option<String>,
    /// Secrets of the cluster that belong to the release: by the Secret's name and key, the name of a secret in `[secrets]`.
    /// The host writes the values into the requests. Each secret needs the cluster's host in its `hosts`.
    #[serde(default)]
    pub(crate) secrets: BTreeMap<String, BTreeMap<String, String>>,
    /// How the release replaces the earlier one. Default: as each workload says.
    pub(crate) strategy: Option<Strategy>,
    /// What divides the requests of a `canary` by weight. Default: the numbers of replicas do.
    pub(crate) traffic: Option<Traffic>,
    /// How long to wait until the release is ready.
    #[serde(default)]
    pub(crate) readiness: Readiness,
    /// What the objects may have that reaches beyond their containers.
    #[serde(default)]
    pub(crate) allow: Vec<Allowance>,
    /// Whether to take over fields that others have set, such as a person with `kubectl edit`.
    #[serde(default)]
    pub(crate) force_conflicts: bool,
    /// How many releases the cluster keeps to be restored.
    #[serde(default = "default_history")]
    pub(crate) history: u32,
}

/// A chart of Helm in the workspace.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Chart {
    /// Its folder or archive.
    pub(crate) chart: String,
    /// Files with values, of which later ones override earlier ones.
    #[serde(default)]
    pub(crate) values: Vec<String>,
    /// Single values by their paths, which override those of files, as in `{ "web.replicas" = "3" }`.
    #[serde(default)]
    pub(crate) set: BTreeMap<String, String>,
}

/// How long to wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Readiness {
    /// How long the release may take until all of its workloads are ready. Default: 30 s longer than Kubernetes itself waits
    /// for progress, which is 10 min if nothing says otherwise.
    pub(crate) deadline: Option<DurationText>,
}

fn default_namespace() -> String {
    "default".to_owned()
}

fn default_history() -> u32 {
    10
}

impl ReleaseConfig for Config {
    fn problems(&self) -> Vec<Problem> {
        problems(self)
    }

    fn service(&self) -> &str {
        &self.service
    }

    fn probes(&self) -> Vec<(&'static str, Probe)> {
        vec![("readiness", Probe::of_target(self.deadline()))]
    }

    fn strategy(&self) -> Strategy {
        let strategy = self.strategy.clone().unwrap_or_else(|| Strategy::Rolling(Rolling::default()));
        if self.traffic.is_some() { strategy.routing_headers() } else { strategy }
    }
}

impl Config {
    /// How long the stage waits for the release.
    pub(crate) fn deadline(&self) -> Duration {
        let progress = match &self.strategy {
            Some(Strategy::Rolling(rolling)) => rolling.progress_deadline_seconds,
            _ => None,
        };
        let default = Duration::from_secs(u64::from(progress.unwrap_or(PROGRESS_DEADLINE).saturating_add(LONGER)));
        self.readiness.deadline.map_or(default, |deadline| deadline.0)
    }

    /// The kind and the name of the workload whose images change.
    pub(crate) fn workload(&self) -> Option<(&'static str, &str)> {
        let (kind, name) = self.workload.as_ref()?.split_once('/')?;
        let kinds = [("deployment", "Deployment"), ("statefulset", "StatefulSet"), ("daemonset", "DaemonSet")];
        let (_, kind) = kinds.into_iter().find(|(known, _)| *known == kind)?;
        is_name(name).then_some((kind, name))
    }
}

/// Mistakes that parsing doesn't catch.
fn problems(config: &Config) -> Vec<Problem> {
    let mut found = Vec::new();
    for (key, name, longest) in [("service", &config.service, 40), ("namespace", &config.namespace, 63)] {
        if !is_name(name) || name.len() > longest {
            let message = format!("invalid name `{name}`; use at most {longest} lowercase letters, digits and `-`");
            found.push(Problem::at(key, message));
        }
    }
    let sources = [
        ("manifests", !config.manifests.is_empty()),
        ("kustomize", config.kustomize.is_some()),
        ("helm", config.helm.is_some()),
        ("workload", config.workload.is_some()),
    ];
    let given: Vec<&str> = sources.iter().filter(|(_, is_given)| *is_given).map(|(key, _)| *key).collect();
    match given.as_slice() {
        [_] => {}
        [] => {
            found.push(Problem::error("nothing says what is deployed").help(
                "add `manifests`, `kustomize` or `helm`; or `workload` and `images` for a workload of the cluster",
            ));
        }
        [first, rest @ ..] => {
            let message = format!("`{first}` can't be combined with `{}`", rest.join("` and `"));
            found.push(Problem::at(*first, message));
        }
    }
    for (name, image) in &config.images {
        found.extend(image.problem(&format!("images.{name}")));
    }
    if let Some(workload) = &config.workload {
        if config.workload().is_none() {
            let message =
                format!("`{workload}` isn't a workload; use deployment/NAME, statefulset/NAME or daemonset/NAME");
            found.push(Problem::at("workload", message));
        }
        if config.images.is_empty() {
            let help = "add to the stage: with.images.CONTAINER = \"${{ stages.push.outputs.reference }}\"";
            found.push(Problem::at("workload", "no image of it changes").help(help));
        }
        if config.schema.is_some() {
            found.push(Problem::at(
                "schema",
                "a workload of which only images change isn't known, so it can't be checked",
            ));
        }
        if config.strategy.is_some() {
            found.push(Problem::at("strategy", "a workload of which only images change keeps its own strategy"));
        }
    }
    if config.workload.is_some() && !config.secrets.is_empty() {
        found.push(Problem::at("secrets", "a workload of which only images change keeps its own secrets"));
    }
    for name in config.secrets.keys().filter(|name| !is_name(name)) {
        found.push(Problem::at(format!("secrets.{name}"), "use lowercase letters, digits and `-`"));
    }
    found.extend(config.helm.iter().flat_map(|chart| path_problems("helm.set", &chart.set)));
    if config.history == 0 {
        found.push(Problem::at("history", "must be at least 1, since a failed deploy restores the earlier release"));
    }
    if config.strategy.is_some() {
        found.extend(config.strategy().problems("strategy"));
    }
    found.extend(config.traffic.iter().flat_map(|traffic| traffic.problems("traffic")));
    if config.traffic.is_some() && !matches!(config.strategy, Some(Strategy::Canary(_))) {
        let message = match config.strategy() {
            Strategy::BlueGreen(_) => "`blue-green` switches the selectors of Services, and divides no requests",
            _ => "only a canary divides the requests between two releases",
        };
        let help =
            "use strategy = { canary = { steps = [{ set-weight = 10 }, { pause = {} }] } }, or leave `traffic` out";
        found.push(Problem::at("traffic", message).help(help));
    }
    found
}
