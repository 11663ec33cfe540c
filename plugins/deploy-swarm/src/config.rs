//! The stage's `with` table.

use std::collections::BTreeMap;
use std::time::Duration;

use compose_file::{Release, Runtime};
use rollout::{Amount, Probe, ReleaseConfig, Rolling, Strategy};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use stagewright_sdk::{JsonSchema, Problem, Requirement, schemars};

use crate::version::longest_secret_name;

/// How long a stack may take to run, without `health`.
const DEADLINE: Duration = Duration::from_secs(5 * 60);

/// The most letters of a stack's name, which begins the names of all that belongs to it.
const LONGEST_NAME: usize = 30;

/// The release to deploy as a stack, and how it is checked.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(example = serde_json::json!({
    "stack": "shop",
    "release": "${{ stages.release.outputs.release }}",
}))]
pub(crate) struct Config {
    /// The stack's name, with which the names of its services begin.
    pub(crate) stack: String,
    /// The output `release` of a stage `compose-release` with target = "swarm".
    pub(crate) release: Release,
    /// Secrets of the stack's file, by the name that they have there: the name of a secret in `[secrets]`. The deploy creates
    /// them on the swarm, and containers find the values in `/run/secrets/NAME`. The host writes the values into the
    /// requests: each secret needs `unix:///run/docker.sock`, or the socket in use, in its `hosts`.
    #[serde(default)]
    pub(crate) secrets: BTreeMap<String, String>,
    /// The absolute path of the engine's socket. The engine has to be a manager.
    #[serde(default = "default_socket")]
    pub(crate) socket: String,
    /// How tasks are replaced, of services that have no `deploy.update_config` in the file: `rolling`. Default: what Swarm
    /// does, which stops one task after the other, each before the one that replaces it starts.
    pub(crate) strategy: Option<Strategy>,
    /// Where the stack answers HTTP requests. Without it, the release is ready when all its tasks run.
    pub(crate) url: Option<String>,
    /// The first check: whether all tasks run, and with `url`, whether the release is alive. Its deadline includes the time
    /// of the update. Default: a deadline of 5 min.
    pub(crate) health: Option<Probe>,
    /// The second check: whether the release is ready for requests.
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
        &self.stack
    }

    fn probes(&self) -> Vec<(&'static str, Probe)> {
        let health = self.health.clone().unwrap_or_else(|| Probe::of_target(DEADLINE));
        rollout::probes(Some(&health), self.readiness.as_ref())
    }

    fn strategy(&self) -> Strategy {
        self.strategy.clone().unwrap_or_else(|| Strategy::Rolling(Rolling::default()))
    }
}

/// How Swarm replaces tasks; what isn't set is left to Swarm.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Update {
    /// How many are replaced at a time.
    pub(crate) parallelism: Option<u32>,
    /// `start-first` or `stop-first`.
    pub(crate) order: Option<&'static str>,
    /// For how long the failure of a new task counts.
    pub(crate) monitor: Option<Duration>,
}

impl Config {
    /// What identifies the release: its file, and which secrets it has, but not their values.
    pub(crate) fn artifact(&self) -> String {
        let release = self.release.artifact();
        let Some((file, _)) = release.split_once('@').filter(|_| !self.secrets.is_empty()) else {
            return release.to_owned();
        };
        let mut digest = Sha256::new_with_prefix(release);
        for (name, secret) in &self.secrets {
            digest.update(format!("\nsecret\t{name}\t{secret}"));
        }
        let digits = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        format!("{file}@sha256:{digits}")
    }

    /// The strategy in terms of Swarm.
    pub(crate) fn update(&self) -> Update {
        let Some(Strategy::Rolling(rolling)) = &self.strategy else { return Update::default() };
        let count = |amount: &Option<Amount>| match amount {
            Some(Amount::Count(count)) if *count > 0 => Some(*count),
            _ => None,
        };
        let (surge, unavailable) = (count(&rolling.max_surge), count(&rolling.max_unavailable));
        Update {
            parallelism: surge.or(unavailable),
            order: surge.map(|_| "start-first").or(unavailable.map(|_| "stop-first")),
            monitor: rolling.min_ready_seconds.map(|seconds| Duration::from_secs(seconds.into())),
        }
    }
}

/// Mistakes that parsing doesn't catch.
fn problems(config: &Config) -> Vec<Problem> {
    let mut found: Vec<Problem> = config.release.problem("release", Runtime::Swarm).into_iter().collect();
    let stack = &config.stack;
    let is_name = stack.len() <= LONGEST_NAME
        && stack.starts_with(|c: char| c.is_ascii_alphanumeric())
        && stack.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    if !is_name {
        let message =
            format!("invalid stack name `{stack}`; use letters, digits, `-` and `_`, at most {LONGEST_NAME} in all");
        found.push(Problem::at("stack", message));
    }
    if !config.socket.starts_with('/') {
        found.push(Problem::at("socket", format!("`{}` isn't an absolute path", config.socket)));
    }
    if config.url.as_deref().is_some_and(|url| Requirement::url(url).is_none()) {
        let problem = Problem::at("url", "not an http or https URL");
        found.push(problem.help("start it with `https://` or `http://`"));
    }
    found.extend(config.secrets.keys().flat_map(|name| secret_problem(config, name)));
    found.extend(config.strategy.iter().flat_map(|strategy| strategy.problems("strategy")));
    found.extend(config.strategy.as_ref().and_then(unsupported));
    for (key, probe) in [("health", &config.health), ("readiness", &config.readiness)] {
        found.extend(probe.iter().flat_map(|probe| probe.problems(key)));
    }
    if config.readiness.is_some() && config.url.is_none() {
        let problem = Problem::at("readiness", "a second check needs the URL that answers it");
        found.push(problem.help("add where the stack answers: url = \"http://…\""));
    }
    found
}

/// Why a secret of this name can't be created for the stack.
fn secret_problem(config: &Config, name: &str) -> Option<Problem> {
    let at = |message: String| Problem::at(format!("secrets.{name}"), message);
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let longest = longest_secret_name(&config.stack);
    if name.is_empty() || name.len() > longest || !name.chars().all(fits) {
        let message = format!("invalid name `{name}`; use at most {longest} letters, digits, `-`, `_` and `.`");
        return Some(at(message).help("rename it in the stack's file; `target` says what containers call the file"));
    }
    if config.release.compose().is_null() {
        return None;
    }
    match config.release.section("secrets").get(name) {
        None => {
            let help = format!("declare it in the stack's file: secrets: {{ {name}: {{ external: true }} }}");
            Some(at(format!("the release has no secret `{name}`")).help(help))
        }
        Some(declared) if !declared["name"].is_null() => {
            let message = format!("the stack's file says which secret of the swarm `{name}` is");
            Some(at(message).help("remove `name` there, so that the deploy creates the secret, or remove it here"))
        }
        Some(_) => None,
    }
}

/// Why Swarm can't carry out a strategy.
fn unsupported(strategy: &Strategy) -> Option<Problem> {
    let Strategy::Rolling(rolling) = strategy else {
        let message = format!("Swarm has no `{}`: it replaces the tasks of a service by itself", strategy.name());
        return Some(Problem::at("strategy", message).help("use strategy = { rolling = {} }"));
    };
    let amounts = [("max-surge", &rolling.max_surge), ("max-unavailable", &rolling.max_unavailable)];
    if let Some((name, _)) = amounts.iter().find(|(_, amount)| matches!(amount, Some(Amount::Percent(_)))) {
        let problem =
            Problem::at(format!("strategy.rolling.{name}"), "Swarm replaces a number of tasks, not a percentage");
        return Some(problem.help(format!("write a number: {name} = 1")));
    }
    if amounts.iter().all(|(_, amount)| matches!(amount, Some(Amount::Count(1..)))) {
        let message = "Swarm either starts the new tasks first or stops the old ones first";
        return Some(
            Problem::at("strategy.rolling", message).help("set one of `max-surge` and `max-unavailable` to 0"),
        );
    }
    rolling.progress_deadline_seconds.map(|seconds| {
        let problem = Problem::at("strategy.rolling.progress-deadline-seconds", "Swarm has no deadline for progress");
        problem.help(format!("limit the whole update: health = {{ deadline = \"{seconds}s\" }}"))
    })
}
