//! The stage's `with` table.

use std::collections::BTreeMap;

use compose_file::{Release, Runtime};
use rollout::{Probe, ReleaseConfig, Strategy};
use serde::Deserialize;
use stagewright_sdk::{DurationText, JsonSchema, Problem, Requirement, schemars};

/// The release to deploy as a project, and how it is checked.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(example = serde_json::json!({
    "project": "shop",
    "release": "${{ stages.release.outputs.release }}",
    "secrets": { "OPENAI_API_KEY": "openai-key" },
}))]
pub(crate) struct Config {
    /// The project's name, with which the names of its containers begin.
    pub(crate) project: String,
    /// The output `release` of a stage `compose-release`.
    pub(crate) release: Release,
    /// The absolute path of the engine's socket.
    #[serde(default = "default_socket")]
    pub(crate) socket: String,
    /// The variables of the release that are secrets: maps the variable's name to that of the pipeline's secret.
    #[serde(default)]
    pub(crate) secrets: BTreeMap<String, String>,
    /// How long the containers may take to run, and to be healthy if they have health checks. Default: 5 min.
    #[serde(default = "DurationText::seconds::<300>")]
    pub(crate) deadline: DurationText,
    /// Where the project answers HTTP requests. Without it, the release is ready when all its containers are.
    pub(crate) url: Option<String>,
    /// With `url`, the first check: whether the release is alive.
    pub(crate) health: Option<Probe>,
    /// With `url`, the second check: whether the release is ready for requests.
    pub(crate) readiness: Option<Probe>,
}

fn default_socket() -> String {
    "/run/docker.sock".to_owned()
}

impl ReleaseConfig for Config {
    fn problems(&self) -> Vec<Problem> {
        problems(self)
    }

    fn service(&self) -> &str {
        &self.project
    }

    fn probes(&self) -> Vec<(&'static str, Probe)> {
        rollout::probes(self.health.as_ref(), self.readiness.as_ref())
    }

    /// Compose stops a container before it starts the one that replaces it.
    fn strategy(&self) -> Strategy {
        Strategy::recreate()
    }
}

/// Mistakes that parsing doesn't catch.
fn problems(config: &Config) -> Vec<Problem> {
    let mut found: Vec<Problem> = config.release.problem("release", Runtime::Compose).into_iter().collect();
    let project = &config.project;
    // Compose changes other names instead of refusing them.
    let is_name = project.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && project.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_'));
    if !is_name {
        let message = format!("invalid project name `{project}`; use lower-case letters, digits, `-` and `_`");
        found.push(Problem::at("project", message));
    }
    if !config.socket.starts_with('/') {
        found.push(Problem::at("socket", format!("`{}` isn't an absolute path", config.socket)));
    }
    for name in config.release.secrets() {
        if !config.secrets.contains_key(name) {
            let problem =
                Problem::at("secrets", format!("the release has the secret variable `{name}`, which isn't set"));
            found.push(problem.help(format!("name a secret of the pipeline: secrets = {{ {name} = \"…\" }}")));
        }
    }
    if config.url.as_deref().is_some_and(|url| Requirement::url(url).is_none()) {
        let problem = Problem::at("url", "not an http or https URL");
        found.push(problem.help("start it with `https://` or `http://`"));
    }
    for (key, probe) in [("health", &config.health), ("readiness", &config.readiness)] {
        found.extend(probe.iter().flat_map(|probe| probe.problems(key)));
        if probe.is_some() && config.url.is_none() {
            let problem = Problem::at(key, "a check needs the URL that answers it");
            found.push(problem.help("add where the project answers: url = \"http://…\""));
        }
    }
    found
}
