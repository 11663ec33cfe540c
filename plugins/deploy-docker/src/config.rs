//! The stage's `with` table.

use std::collections::BTreeMap;
use std::time::Duration;

use rollout::{Image, Probe, ReleaseConfig, Strategy, Traffic};
use serde::Deserialize;
use stagewright_sdk::{DurationText, JsonSchema, Problem, schemars};

/// The release to deploy as a container, and how it gets the requests.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(example = serde_json::json!({
    "service": "app",
    "image": "${{ stages.push.outputs.reference }}",
    "port": 8080,
    "publish": 80,
}))]
pub(crate) struct Config {
    /// The service's name, which is also that of the container that serves.
    pub(crate) service: String,
    /// The image by digest: `REPOSITORY@sha256:…`.
    pub(crate) image: Image,
    /// The absolute path of the engine's socket.
    #[serde(default = "default_socket")]
    pub(crate) socket: String,
    /// Arguments of the image's program. Default: those of the image.
    #[serde(default)]
    pub(crate) args: Vec<String>,
    /// Environment variables of the program.
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    /// Environment variables from secrets, by variable. The host writes the values into the request that creates the
    /// container: each secret needs `unix:///run/docker.sock`, or the socket in use, in its `hosts`.
    #[serde(default)]
    pub(crate) secret_env: BTreeMap<String, String>,
    /// The port of the container that answers HTTP requests. Without it, the release is ready when it runs, and when its
    /// image's HEALTHCHECK passes, if it has one.
    pub(crate) port: Option<u16>,
    /// A fixed port of this machine for requests. Two releases can't have it at the same time, so the old one is stopped
    /// first. Default: a free port of the loopback address, for a proxy in front of it.
    pub(crate) publish: Option<u16>,
    /// What directs requests to the releases.
    pub(crate) traffic: Option<Traffic>,
    /// How the requests go from the old release to the new one. Default: all at once, when the new one is ready; with
    /// `publish`, the old one is stopped first.
    pub(crate) strategy: Option<Strategy>,
    /// The engine's network that the container joins. Default: `bridge`.
    pub(crate) network: Option<String>,
    /// Named volumes of the engine, which outlive releases: maps the volume's name to its folder in the container.
    #[serde(default)]
    pub(crate) volumes: BTreeMap<String, String>,
    /// Limits of the container's memory, as in `256MiB`.
    pub(crate) memory: Option<Bytes>,
    /// The first check: whether the release is alive.
    pub(crate) health: Option<Probe>,
    /// The second check: whether the release is ready for requests.
    pub(crate) readiness: Option<Probe>,
    /// With `traffic`: how long a release keeps running when it gets no more requests, for those in flight. Default: 5 s.
    pub(crate) drain: Option<DurationText>,
    /// How long a release may take to stop before it is killed. Default: 10 s.
    pub(crate) stop_grace: Option<DurationText>,
}

fn default_socket() -> String {
    "/run/docker.sock".to_owned()
}

/// A number of bytes, as in `256MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
pub(crate) struct Bytes(#[schemars(with = "String")] pub(crate) u64);

impl TryFrom<String> for Bytes {
    type Error = String;

    fn try_from(text: String) -> Result<Bytes, String> {
        let units = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1_u64 << 30)];
        let parsed = units.into_iter().find_map(|(unit, factor)| {
            let count: u64 = text.strip_suffix(unit)?.trim().parse().ok()?;
            count.checked_mul(factor)
        });
        parsed
            .filter(|bytes| *bytes > 0)
            .map(Bytes)
            .ok_or_else(|| format!("`{text}` isn't a size; write it as in \"256MiB\" or \"2GiB\""))
    }
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
        self.strategy.clone().unwrap_or_else(|| match self.publish {
            Some(_) => Strategy::recreate(),
            None => Strategy::switch(),
        })
    }
}

impl Config {
    /// Whether the old release has to stop before the new one starts.
    pub(crate) fn stops_first(&self) -> bool {
        matches!(self.strategy(), Strategy::Recreate(_))
    }

    /// How long to wait before a release is stopped that has just lost its requests.
    pub(crate) fn drain(&self) -> Duration {
        let drain = self.drain.map_or(Duration::from_secs(5), |drain| drain.0);
        if self.traffic.is_some() { drain } else { Duration::ZERO }
    }

    pub(crate) fn stop_grace_seconds(&self) -> u64 {
        self.stop_grace.map_or(10, |grace| grace.0.as_secs())
    }
}

/// Mistakes that parsing doesn't catch.
fn problems(config: &Config) -> Vec<Problem> {
    let mut found: Vec<Problem> = config.image.problem("image").into_iter().collect();
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    if !is_name(&config.service) {
        let message = format!("invalid service name `{}`; use letters, digits, `-` and `_`", config.service);
        found.push(Problem::at("service", message));
    }
    if !config.socket.starts_with('/') {
        found.push(Problem::at("socket", format!("`{}` isn't an absolute path", config.socket)));
    }
    found.extend(rollout::secret_env_problems(&config.secret_env, &config.env, "env"));
    for (volume, folder) in &config.volumes {
        let key = format!("volumes.{volume}");
        if !is_name(volume) {
            let message = format!("`{volume}` isn't the name of a volume; folders of this machine can't be mounted");
            found.push(Problem::at(&key, message));
        }
        if !folder.starts_with('/') {
            found.push(Problem::at(key, format!("`{folder}` isn't an absolute path of the container")));
        }
    }
    for (key, probe) in [("health", &config.health), ("readiness", &config.readiness)] {
        found.extend(probe.iter().flat_map(|probe| probe.problems(key)));
        if probe.is_some() && config.port.is_none() {
            let problem = Problem::at(key, "a check needs the port that answers it");
            found.push(problem.help("add the port of the container: port = 8080"));
        }
    }
    if config.publish.is_some() && config.port.is_none() {
        let problem = Problem::at("publish", "a published port needs the port of the container that it leads to");
        found.push(problem.help("add the port of the container: port = 8080"));
    }
    if config.traffic.is_some() && config.port.is_none() {
        let problem = Problem::at("traffic", "a proxy needs the port of the container to direct requests to");
        found.push(problem.help("add the port of the container: port = 8080"));
    }
    found.extend(config.traffic.iter().flat_map(|traffic| traffic.problems("traffic")));
    found.extend(config.strategy.iter().flat_map(|strategy| strategy.clone().routing_headers().problems("strategy")));
    found.extend(unsupported(config));
    found.extend(config.traffic.as_ref().and_then(rollout::Traffic::header_obstacle).and_then(|(reason, help)| {
        config.strategy().has_header_routes().then(|| Problem::at("strategy", reason).help(help))
    }));
    found
}

/// Why the strategy can't be carried out with the published port and what directs requests.
fn unsupported(config: &Config) -> Option<Problem> {
    let strategy = config.strategy();
    let (message, help) = match (&config.traffic, config.publish) {
        _ if matches!(strategy, Strategy::Rolling(_)) => (
            "`rolling` replaces replicas one by one, and this target runs a single one".to_owned(),
            "use strategy = { blue-green = {} }, or { recreate = {} }",
        ),
        (_, Some(port)) if !config.stops_first() => (
            format!("port {port} can't belong to two releases, which `{}` runs at the same time", strategy.name()),
            "remove `publish`, and put a proxy in front of the releases with `traffic`; or use \
             strategy = { recreate = {} }",
        ),
        (None, None) if strategy.takes_time() => (
            format!("`{}` needs something that directs requests to one of two releases", strategy.name()),
            "add `traffic` with the proxy in front of the releases",
        ),
        _ => return None,
    };
    Some(Problem::at("strategy", message).help(help))
}
