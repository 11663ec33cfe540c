//! The stage's `with` table.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rollout::{Deliverable, Probe, ReleaseConfig, Strategy};
use serde::Deserialize;
use stagewright_sdk::{DurationText, JsonSchema, Problem, schemars};

/// The most hosts of a deploy.
const MOST_HOSTS: usize = 100;

/// The release and the hosts that it is deployed to.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(example = serde_json::json!({
    "service": "shop",
    "credential": "web",
    "hosts": ["web1", "web2", "web3"],
    "artifact": "${{ stages.build.outputs.artifacts.shop }}",
    "variables": { "LOG_LEVEL": "info" },
    "secrets": { "DATABASE_URL": "database-url" },
    "shared": ["uploads"],
    "unit": "shop.service",
    "check": { "command": ["curl", "--fail", "--silent", "http://127.0.0.1:8080/health"] },
    "strategy": { "waves": { "serial": [1, "50%"], "on-failure": "stop" } },
}))]
pub(crate) struct Config {
    /// The service's name.
    pub(crate) service: String,
    /// The name of the credential with `type = "ssh"` that has the hosts.
    pub(crate) credential: String,
    /// Names of the credential's hosts, in the order in which they get the release.
    pub(crate) hosts: Vec<String>,
    /// The folder of the service on each host: releases are in its `releases`, and its link `current` leads to one of them.
    /// Default: `/srv/SERVICE`.
    pub(crate) root: Option<String>,
    /// A folder, an archive (`.tar`, `.tar.gz`, `.tgz`, `.tar.bz2`, `.tar.xz`, `.tar.zst`) or another file that an earlier stage
    /// has published, by digest: `NAME@sha256:…`. Another file is put into the release, and can be executed.
    pub(crate) artifact: Deliverable,
    /// Variables of the release, for its file `variables.env`.
    #[serde(default)]
    pub(crate) variables: BTreeMap<String, String>,
    /// Variables whose values are secrets: the secrets' names. The release's link `secrets.env` leads to a file with them that
    /// only the user of the credential can read.
    #[serde(default)]
    pub(crate) secrets: BTreeMap<String, String>,
    /// Where the files with secrets are. Default: `/run/SERVICE`, which is in memory.
    pub(crate) secrets_folder: Option<String>,
    /// Folders that outlive releases, as paths in the release. They are below `shared` of the root.
    #[serde(default)]
    pub(crate) shared: Vec<String>,
    /// A unit of systemd to restart with the new release.
    pub(crate) unit: Option<String>,
    /// How units are controlled, as in `["sudo", "--non-interactive", "systemctl"]` or `["systemctl", "--user"]`.
    #[serde(default = "default_systemctl")]
    #[schemars(extend("x-stagewright-code" = "argv"))]
    pub(crate) systemctl: Vec<String>,
    /// Reloads the unit instead of restarting it.
    #[serde(default)]
    pub(crate) reload: bool,
    /// A command that starts the service with the new release, instead of `unit`. Its folder is the release.
    #[serde(default)]
    #[schemars(extend("x-stagewright-code" = "argv"))]
    pub(crate) restart: Vec<String>,
    /// The check on the host itself.
    #[serde(default)]
    pub(crate) check: Check,
    /// Where each host answers HTTP requests of this machine, by its name, for the checks `health` and `readiness`.
    #[serde(default)]
    pub(crate) addresses: BTreeMap<String, String>,
    /// With `addresses`: the check that a host has to pass first. Default: a GET of `/health`.
    pub(crate) health: Option<Probe>,
    /// With `addresses`: the check that it has to pass afterwards.
    pub(crate) readiness: Option<Probe>,
    /// The service's address, for the outputs and the ledger.
    pub(crate) url: Option<String>,
    /// How many releases to keep for a rollback, beside the one that serves.
    #[serde(default = "default_keep")]
    pub(crate) keep: u32,
    /// `waves` gives the hosts the release a few at a time. Default: all at once.
    pub(crate) strategy: Option<Strategy>,
}

/// The check on the host itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Check {
    /// A command that succeeds when the service is healthy. Its folder is the release. Default: only the unit has to be active.
    #[schemars(extend("x-stagewright-code" = "argv"))]
    pub(crate) command: Vec<String>,
    /// How long it may take to pass.
    pub(crate) deadline: DurationText,
}

impl Default for Check {
    fn default() -> Check {
        Check { command: Vec::new(), deadline: DurationText(Duration::from_secs(30)) }
    }
}

fn default_systemctl() -> Vec<String> {
    vec!["systemctl".to_owned()]
}

fn default_keep() -> u32 {
    5
}

impl ReleaseConfig for Config {
    fn problems(&self) -> Vec<Problem> {
        problems(self)
    }

    fn service(&self) -> &str {
        &self.service
    }

    fn probes(&self) -> Vec<(&'static str, Probe)> {
        // A host can be checked only once the release is its current one.
        Vec::new()
    }

    fn strategy(&self) -> Strategy {
        let hosts = u32::try_from(self.hosts.len()).unwrap_or(u32::MAX);
        self.strategy.clone().unwrap_or_else(Strategy::switch).over(hosts)
    }
}

impl Config {
    /// The service's folder on each host.
    pub(crate) fn root(&self) -> String {
        self.root.clone().unwrap_or_else(|| format!("/srv/{}", self.service))
    }

    /// The file with the secrets of a release; none if it has none.
    pub(crate) fn secrets_file(&self, release: &str) -> Option<String> {
        let folder = self.secrets_folder.clone().unwrap_or_else(|| format!("/run/{}", self.service));
        (!self.secrets.is_empty()).then(|| format!("{folder}/{release}.env"))
    }

    /// The checks of a host that has the release.
    pub(crate) fn checks_of(&self, host: &str) -> Vec<(&'static str, Probe)> {
        match self.addresses.contains_key(host) {
            true => rollout::probes(self.health.as_ref(), self.readiness.as_ref()),
            false => vec![("check", Probe::of_target(self.check.deadline.0))],
        }
    }

    /// The command that starts the service with a release; empty if there is none.
    pub(crate) fn start(&self) -> Vec<String> {
        match &self.unit {
            Some(unit) => self.systemctl(if self.reload { "reload-or-restart" } else { "restart" }, unit),
            None => self.restart.clone(),
        }
    }

    /// The command that stops a service which had no earlier release.
    pub(crate) fn stop(&self) -> Vec<String> {
        self.unit.as_ref().map(|unit| self.systemctl("stop", unit)).unwrap_or_default()
    }

    /// The command that prints whether the service runs.
    pub(crate) fn status(&self) -> Vec<String> {
        self.unit.as_ref().map(|unit| self.systemctl("is-active", unit)).unwrap_or_default()
    }

    fn systemctl(&self, verb: &str, unit: &str) -> Vec<String> {
        self.systemctl.iter().cloned().chain([verb.to_owned(), unit.to_owned()]).collect()
    }
}

/// Mistakes that parsing doesn't catch.
fn problems(config: &Config) -> Vec<Problem> {
    let mut found: Vec<Problem> = config.artifact.problem("artifact").into_iter().collect();
    if !is_name(&config.service) {
        let message = format!("invalid service name `{}`; use letters, digits, `-` and `_`", config.service);
        found.push(Problem::at("service", message));
    }
    found.extend(host_problems(config));
    for (key, folder) in [("root", &config.root), ("secrets-folder", &config.secrets_folder)] {
        if let Some(wrong) = folder.as_ref().filter(|folder| !is_absolute(folder)) {
            found.push(Problem::at(key, format!("`{wrong}` isn't an absolute path without `.`, `..` and empty names")));
        }
    }
    for (index, folder) in config.shared.iter().enumerate().filter(|(_, folder)| !is_relative(folder)) {
        let message = format!("`{folder}` isn't a path within the release without `.`, `..` and empty names");
        found.push(Problem::at(format!("shared[{index}]"), message));
    }
    let variables = config.variables.keys().map(|name| ("variables", name));
    let secrets = config.secrets.keys().map(|name| ("secrets", name));
    for (key, name) in variables.chain(secrets).filter(|(_, name)| !is_variable(name)) {
        found.push(Problem::at(format!("{key}.{name}"), format!("`{name}` isn't the name of a variable")));
    }
    for name in config.secrets.keys().filter(|name| config.variables.contains_key(*name)) {
        let problem = Problem::at(format!("secrets.{name}"), format!("`{name}` is in `variables`, too"));
        found.push(problem.help("remove one of them"));
    }
    found.extend(service_problems(config));
    found.extend(unsupported(config));
    found
}

fn host_problems(config: &Config) -> Vec<Problem> {
    let mut found = Vec::new();
    if config.hosts.is_empty() || config.hosts.len() > MOST_HOSTS {
        let message = format!("a deploy has 1 to {MOST_HOSTS} hosts, not {}", config.hosts.len());
        found.push(Problem::at("hosts", message));
    }
    let mut seen = BTreeSet::new();
    for (index, host) in config.hosts.iter().enumerate().filter(|(_, host)| !seen.insert(*host)) {
        found.push(Problem::at(format!("hosts[{index}]"), format!("`{host}` is listed twice")));
    }
    for host in config.addresses.keys().filter(|host| !config.hosts.contains(host)) {
        found.push(Problem::at(format!("addresses.{host}"), format!("`{host}` isn't in `hosts`")));
    }
    let has_some = !config.addresses.is_empty();
    for host in config.hosts.iter().filter(|host| has_some && !config.addresses.contains_key(*host)) {
        let problem = Problem::at("addresses", format!("`{host}` has no address, and would not be checked"));
        found.push(problem.help(format!("add its address: {host} = \"http://…\"")));
    }
    let urls = config.addresses.iter().map(|(host, url)| (format!("addresses.{host}"), url));
    for (key, url) in urls.chain(config.url.iter().map(|url| ("url".to_owned(), url))) {
        if !url.starts_with("http://") && !url.starts_with("https://") {
            found.push(Problem::at(key, format!("`{url}` isn't a URL with http or https")));
        }
    }
    found
}

fn service_problems(config: &Config) -> Vec<Problem> {
    let mut found = Vec::new();
    if let Some(unit) = &config.unit {
        let fits = |c: char| c.is_ascii_alphanumeric() || ":_.@\\-".contains(c);
        if unit.is_empty() || unit.starts_with('-') || !unit.chars().all(fits) {
            found.push(Problem::at("unit", format!("`{unit}` isn't the name of a unit")));
        }
        if !config.restart.is_empty() {
            let problem = Problem::at("restart", "the service is started by its `unit`, too");
            found.push(problem.help("remove one of them"));
        }
    }
    if config.systemctl.is_empty() {
        found.push(Problem::at("systemctl", "no program is named"));
    }
    if config.reload && config.unit.is_none() {
        found.push(Problem::at("reload", "only a unit can be reloaded").help("add `unit`, or remove `reload`"));
    }
    for (key, probe) in [("health", &config.health), ("readiness", &config.readiness)] {
        found.extend(probe.iter().flat_map(|probe| probe.problems(key)));
        if probe.is_some() && config.addresses.is_empty() {
            let problem = Problem::at(key, "a check by HTTP needs to know where the hosts answer");
            found.push(problem.help("add `addresses`, or check on the host itself with `check`"));
        }
    }
    found
}

/// Mistakes in the strategy, and why it can't be carried out.
fn unsupported(config: &Config) -> Vec<Problem> {
    if config.strategy.is_none() {
        return Vec::new();
    }
    let strategy = config.strategy();
    let refused = match &strategy {
        Strategy::Waves(_) => return strategy.problems("strategy"),
        Strategy::Recreate(_) if !config.reload => return Vec::new(),
        Strategy::Recreate(_) => "a unit that is reloaded isn't stopped before the new release",
        Strategy::Rolling(_) => "a host has one release, and no replicas to replace a few at a time",
        Strategy::BlueGreen(_) => "a host has one service, which can't run two releases at the same time",
        Strategy::Canary(_) => "nothing directs a share of the requests to one of two releases",
    };
    vec![Problem::at("strategy", refused).help("use strategy = { waves = {} }, or leave out `strategy`")]
}

fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(fits)
}

fn is_variable(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && text.chars().all(fits)
}

fn is_absolute(path: &str) -> bool {
    path.strip_prefix('/').is_some_and(is_relative)
}

fn is_relative(path: &str) -> bool {
    let is_plain = |name: &str| !matches!(name, "" | "." | "..") && !name.contains(char::is_control);
    path.split('/').all(is_plain)
}
