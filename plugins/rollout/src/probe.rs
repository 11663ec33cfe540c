//! The checks that a version has to pass before it gets requests.

use std::time::Duration;

use serde::Deserialize;
use stagewright_sdk::{DurationText, JsonSchema, Problem, schemars};

/// An HTTP check of the release, repeated until it passes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Probe {
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

impl Probe {
    /// A check by the target itself, for versions that answer no HTTP requests: it is asked once a second until this time has
    /// passed.
    pub fn of_target(deadline: Duration) -> Probe {
        Probe { interval: DurationText(Duration::from_secs(1)), deadline: DurationText(deadline), ..Probe::default() }
    }

    /// The default check, of another path.
    pub fn of_path(path: &str) -> Probe {
        Probe { path: path.to_owned(), ..Probe::default() }
    }

    /// Mistakes that parsing doesn't catch, in the probe at this key of `with`.
    pub fn problems(&self, key: &str) -> Vec<Problem> {
        let mut found = Vec::new();
        if !self.path.starts_with('/') {
            found.push(Problem::at(format!("{key}.path"), format!("`{}` must begin with `/`", self.path)));
        }
        if !(100..=599).contains(&self.status) {
            found.push(Problem::at(format!("{key}.status"), format!("{} isn't an HTTP status", self.status)));
        }
        if self.successes == 0 {
            found.push(Problem::at(format!("{key}.successes"), "must be at least 1"));
        }
        if self.interval.0.is_zero() {
            found.push(Problem::at(format!("{key}.interval"), "must be at least \"1ms\""));
        }
        found
    }
}

/// The checks that a release has to pass: those of health and of readiness. Without either, health with the defaults, so that
/// no release gets requests unchecked.
pub fn probes(health: Option<&Probe>, readiness: Option<&Probe>) -> Vec<(&'static str, Probe)> {
    let health = match (health, readiness) {
        (None, None) => Some(Probe::default()),
        (health, _) => health.cloned(),
    };
    let health = health.map(|probe| ("health", probe));
    health.into_iter().chain(readiness.map(|probe| ("readiness", probe.clone()))).collect()
}
