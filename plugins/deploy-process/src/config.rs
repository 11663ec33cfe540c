//! The stage's `with` table.

use std::collections::BTreeMap;

use rollout::{Image, Probe, ReleaseConfig, Strategy};
use serde::Deserialize;
use stagewright_sdk::{DurationText, JsonSchema, Problem, schemars};

/// The release to deploy, and how to check its health.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(example = serde_json::json!({ "service": "app", "image": "${{ stages.push.outputs.reference }}" }))]
pub(crate) struct Config {
    /// The service's name.
    pub(crate) service: String,
    /// The image by digest: `REPOSITORY@sha256:…`.
    pub(crate) image: Image,
    /// Arguments of the image's program.
    #[serde(default)]
    pub(crate) args: Vec<String>,
    /// Environment variables of the program.
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    /// Environment variables with a secret as their value: maps the variable to the secret's name.
    #[serde(default)]
    pub(crate) secret_env: BTreeMap<String, String>,
    /// A fixed port, for which the old release has to stop before the new one starts. Default: a free port.
    pub(crate) port: Option<u16>,
    /// The first check: whether the release is alive.
    pub(crate) health: Option<Probe>,
    /// The second check: whether the release is ready for requests.
    pub(crate) readiness: Option<Probe>,
    /// How many earlier releases to keep on disk. Default: 3.
    pub(crate) keep: Option<u32>,
    /// How long the old release may take to stop before it is killed. Default: 10 s.
    pub(crate) stop_grace: Option<DurationText>,
}

impl ReleaseConfig for Config {
    fn problems(&self) -> Vec<Problem> {
        problems(self)
    }

    fn service(&self) -> &str {
        &self.service
    }

    fn probes(&self) -> Vec<(&'static str, Probe)> {
        rollout::probes(self.health.as_ref(), self.readiness.as_ref())
    }

    fn strategy(&self) -> Strategy {
        Strategy::switch()
    }
}

/// Mistakes that parsing doesn't catch.
fn problems(config: &Config) -> Vec<Problem> {
    let mut found: Vec<Problem> = config.image.problem("image").into_iter().collect();
    let name_fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if config.service.is_empty() || !config.service.chars().all(name_fits) {
        let message = format!("invalid service name `{}`; use letters, digits, `-`, `_` and `.`", config.service);
        found.push(Problem::at("service", message));
    }
    for name in config.secret_env.keys().filter(|name| config.env.contains_key(*name)) {
        let message = format!("{name} is also set in `env`; remove one of the two");
        found.push(Problem::at(format!("secret-env.{name}"), message));
    }
    for name in config.env.keys().chain(config.secret_env.keys()).filter(|name| name.as_str() == "PORT") {
        let message = format!("{name} is set by the host; use the key `port` instead");
        found.push(Problem::at(format!("env.{name}"), message));
    }
    for (key, probe) in [("health", &config.health), ("readiness", &config.readiness)] {
        found.extend(probe.iter().flat_map(|probe| probe.problems(key)));
    }
    found
}
