//! The stage's `with` table.

use std::collections::BTreeMap;
use std::time::Duration;

use kubernetes::{Allowance, is_name, path_problems};
use rollout::{Probe, ReleaseConfig, Rolling, Strategy};
use serde::Deserialize;
use stagewright_sdk::{DurationText, JsonSchema, Problem, WorkspacePath, schemars};

/// The longest name of a release that Helm accepts.
const LONGEST_NAME: usize = 53;

/// The chart to deploy, with its values.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(example = serde_json::json!({
    "service": "shop",
    "credential": "cluster",
    "namespace": "shop",
    "chart": "charts/shop",
    "values": ["charts/production.yaml"],
    "set": { "image": "${{ stages.push.outputs.reference }}" },
}))]
pub(crate) struct Config {
    /// The name of Helm's release. It is the same for all releases of an environment.
    pub(crate) service: String,
    /// The credential that reaches the cluster: a table of `[credentials]`. Grant it twice, to the plugin and, with `:proxy`,
    /// to Helm.
    pub(crate) credential: String,
    /// The release's namespace, which exists.
    #[serde(default = "default_namespace")]
    pub(crate) namespace: String,
    /// The folder of the chart, with the charts that it depends on, or its archive.
    pub(crate) chart: WorkspacePath,
    /// Files with values, of which later ones override earlier ones.
    #[serde(default)]
    pub(crate) values: Vec<WorkspacePath>,
    /// Single values by their paths, which override those of files, as in `{ "web.replicas" = "3" }`. They are texts.
    #[serde(default)]
    pub(crate) set: BTreeMap<String, String>,
    /// How long to wait until the release is ready.
    #[serde(default)]
    pub(crate) readiness: Readiness,
    /// What the objects may have that reaches beyond their containers.
    #[serde(default)]
    pub(crate) allow: Vec<Allowance>,
    /// Whether images may be named by tags, which can change after the test. For charts of others.
    #[serde(default)]
    pub(crate) allow_tags: bool,
    /// How many revisions Helm keeps to be rolled back to.
    #[serde(default = "default_history")]
    pub(crate) history: u32,
}

/// How long to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Readiness {
    /// How long the release may take until all of its workloads are ready, and as long again for each of its hooks.
    pub(crate) deadline: DurationText,
}

impl Default for Readiness {
    fn default() -> Readiness {
        Readiness { deadline: DurationText(Duration::from_secs(10 * 60)) }
    }
}

fn default_namespace() -> String {
    "default".to_owned()
}

fn default_history() -> u32 {
    10
}

impl ReleaseConfig for Config {
    fn problems(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        for (key, name, longest) in [("service", &self.service, LONGEST_NAME), ("namespace", &self.namespace, 63)] {
            if !is_name(name) || name.len() > longest {
                let message = format!("invalid name `{name}`; use at most {longest} lowercase letters, digits and `-`");
                found.push(Problem::at(key, message));
            }
        }
        found.extend(path_problems("set", &self.set));
        if self.history < 2 {
            found.push(Problem::at("history", "must be at least 2, since a failed deploy goes back to a revision"));
        }
        found
    }

    fn service(&self) -> &str {
        &self.service
    }

    fn probes(&self) -> Vec<(&'static str, Probe)> {
        vec![("readiness", Probe::of_target(self.readiness.deadline.0))]
    }

    /// The workloads of the chart say how their pods are replaced.
    fn strategy(&self) -> Strategy {
        Strategy::Rolling(Rolling::default())
    }
}
