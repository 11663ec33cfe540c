//! The stage's `with` table.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use stagewright_sdk::{DurationText, JsonSchema, Problem, schemars};

/// The release to deploy, and how to check its health.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(example = serde_json::json!({ "service": "app", "image": "${{ stages.push.outputs.reference }}" }))]
pub struct Config {
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

/// An image by digest: `REPOSITORY@sha256:…`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
pub(crate) struct Image(String);

impl Image {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// `sha256:…`.
    pub(crate) fn digest(&self) -> &str {
        digest_of(&self.0)
    }
}

/// The digest of an image reference; empty if it has none.
pub(crate) fn digest_of(reference: &str) -> &str {
    reference.rsplit_once('@').map_or("", |(_, digest)| digest)
}

impl TryFrom<String> for Image {
    type Error = String;

    fn try_from(text: String) -> Result<Image, String> {
        let help = "a tag could move between the test and the deploy. Use the digest that the registry confirmed, as in \
                    \"${{ stages.push.outputs.reference }}\"";
        let Some((repository, digest)) = text.split_once('@') else {
            return Err(format!("`{text}` has no digest, and {help}"));
        };
        let hex = digest.strip_prefix("sha256:").unwrap_or_default();
        let is_digest = hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if repository.is_empty() || !is_digest {
            return Err(format!("`{text}` isn't of the form REPOSITORY@sha256: and 64 hexadecimal digits; {help}"));
        }
        Ok(Image(text))
    }
}

/// An HTTP check of the release, repeated until it passes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Probe {
    /// The path to request with GET.
    pub(crate) path: String,
    /// The expected status.
    pub(crate) status: u16,
    /// Time between two requests.
    pub(crate) interval: DurationText,
    /// How long the check may take to pass.
    pub(crate) deadline: DurationText,
    /// How many consecutive successes the check requires.
    pub(crate) successes: u32,
}

impl Default for Probe {
    fn default() -> Probe {
        Probe {
            path: "/health".to_owned(),
            status: 200,
            interval: DurationText(Duration::from_millis(200)),
            deadline: DurationText(Duration::from_secs(30)),
            successes: 1,
        }
    }
}

/// Mistakes that parsing doesn't catch.
pub(crate) fn problems(config: &Config) -> Vec<Problem> {
    let mut found = Vec::new();
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
        let Some(probe) = probe else { continue };
        if !probe.path.starts_with('/') {
            found.push(Problem::at(format!("{key}.path"), format!("`{}` must begin with `/`", probe.path)));
        }
        if !(100..=599).contains(&probe.status) {
            found.push(Problem::at(format!("{key}.status"), format!("{} isn't an HTTP status", probe.status)));
        }
        if probe.successes == 0 {
            found.push(Problem::at(format!("{key}.successes"), "must be at least 1"));
        }
        if probe.interval.0.is_zero() {
            found.push(Problem::at(format!("{key}.interval"), "must be at least \"1ms\""));
        }
    }
    found
}
