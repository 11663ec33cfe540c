//! The stage's `with` table.

mod volumes;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use rollout::{Image, Probe, ReleaseConfig, Rolling, Strategy};
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
    /// Whose files the program has as its root: `image`, as in a container, or `host`, those of this machine. Default: `image`,
    /// unless the image lacks the loader that its program is linked with.
    pub(crate) root: Option<RootFolder>,
    /// Named folders of the service, which outlive releases: maps the volume's name to its folder in the image's root.
    #[serde(default)]
    pub(crate) volumes: BTreeMap<String, String>,
    /// A fixed port, for which the old release has to stop before the new one starts. Default: a free port.
    pub(crate) port: Option<u16>,
    /// A proxy at a fixed port, which distributes requests among releases. Each release gets free ports, so that the old one
    /// serves until the new one is ready.
    pub(crate) proxy: Option<Proxy>,
    /// With `proxy`: how many processes of the release run. Default: 1.
    pub(crate) replicas: Option<u32>,
    /// With `proxy`: how the requests go from the old release to the new one. Default: all at once, when the new one is
    /// ready.
    pub(crate) strategy: Option<Strategy>,
    /// With `proxy`: how long a release keeps running when it gets no more requests, for those in flight. Default: 5 s.
    pub(crate) drain: Option<DurationText>,
    /// The first check: whether the release is alive.
    pub(crate) health: Option<Probe>,
    /// The second check: whether the release is ready for requests.
    pub(crate) readiness: Option<Probe>,
    /// How many earlier releases to keep on disk. Default: 3.
    pub(crate) keep: Option<u32>,
    /// How long the old release may take to stop before it is killed. Default: 10 s.
    pub(crate) stop_grace: Option<DurationText>,
}

/// Whose files a program has as its root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RootFolder {
    /// Those of its image.
    Image,
    /// Those of this machine.
    Host,
}

/// Where the proxy of the service accepts requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(example = serde_json::json!({ "port": 8080 }))]
pub(crate) struct Proxy {
    /// The port.
    port: u16,
    /// The address of this machine; `0.0.0.0` for all. Default: `127.0.0.1`.
    #[serde(default = "loopback")]
    host: IpAddr,
}

fn loopback() -> IpAddr {
    Ipv4Addr::LOCALHOST.into()
}

impl Proxy {
    pub(crate) fn address(self) -> SocketAddr {
        SocketAddr::new(self.host, self.port)
    }
}

impl Config {
    /// How many processes of the release run.
    pub(crate) fn replicas(&self) -> u32 {
        self.replicas.unwrap_or(1)
    }

    /// How replicas are replaced, if they are replaced one by one.
    pub(crate) fn rolling(&self) -> Option<RollingUpdate> {
        let Strategy::Rolling(Rolling { max_surge, max_unavailable, min_ready_seconds, .. }) = self.strategy() else {
            return None;
        };
        let replicas = self.replicas();
        Some(RollingUpdate {
            replicas,
            surge: max_surge.map_or(1, |amount| amount.of(replicas, true)),
            unavailable: max_unavailable.map_or(0, |amount| amount.of(replicas, false)).min(replicas),
            min_ready: Duration::from_secs(min_ready_seconds.unwrap_or(0).into()),
        })
    }
}

/// How replicas are replaced one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RollingUpdate {
    pub(crate) replicas: u32,
    /// How many replicas may run beyond that number; at least 1.
    pub(crate) surge: u32,
    /// How many replicas may be missing from that number.
    pub(crate) unavailable: u32,
    /// How long a new replica has to be ready before it gets requests.
    pub(crate) min_ready: Duration,
}

impl RollingUpdate {
    /// How many replicas of the new release, and of the earlier one, run while `ready` new ones are ready. The last earlier
    /// one is stopped at the end of the deploy, since it is needed to go back.
    pub(crate) fn next(self, ready: u32) -> (u32, u32) {
        let earlier = (self.replicas - self.unavailable).saturating_sub(ready).max(1);
        ((self.replicas + self.surge - earlier).min(self.replicas), earlier)
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
        self.strategy.clone().unwrap_or_else(Strategy::switch)
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
    found.extend(config.strategy.iter().flat_map(|strategy| strategy.clone().routing_headers().problems("strategy")));
    found.extend(volumes::problems(config));
    found.extend(match &config.proxy {
        None => without_proxy(config),
        Some(proxy) => behind_proxy(config, *proxy),
    });
    found
}

/// What a release that gets its requests directly can't have.
fn without_proxy(config: &Config) -> Vec<Problem> {
    let keys = [
        (
            "strategy",
            config.strategy.is_some(),
            "a strategy needs something that directs requests to one of two releases",
        ),
        ("replicas", config.replicas.is_some(), "replicas need something that distributes requests among them"),
        ("drain", config.drain.is_some(), "only a proxy knows which requests are in flight"),
    ];
    keys.into_iter()
        .filter(|(_, is_set, _)| *is_set)
        .map(|(key, _, message)| {
            Problem::at(key, message).help("add a proxy at the public port: proxy = { port = 8080 }")
        })
        .collect()
}

/// The most replicas that the host runs.
const MOST_REPLICAS: u32 = 64;

fn behind_proxy(config: &Config, proxy: Proxy) -> Vec<Problem> {
    let mut found = Vec::new();
    if proxy.port == 0 {
        found.push(Problem::at("proxy.port", "must be above 0: clients have to know it"));
    }
    if config.port.is_some() {
        let message = "a release behind a proxy gets a free port, so that two can run at a time";
        found.push(Problem::at("port", message).help("remove `port`: `proxy.port` is the fixed one"));
    }
    if !(1..=MOST_REPLICAS).contains(&config.replicas()) {
        let message = format!("a release has 1 to {MOST_REPLICAS} replicas, not {}", config.replicas());
        found.push(Problem::at("replicas", message));
    }
    if let Some(Strategy::Rolling(Rolling { progress_deadline_seconds: Some(_), .. })) = &config.strategy {
        let problem = Problem::at(
            "strategy.rolling.progress-deadline-seconds",
            "the checks of a replica decide how long it may take",
        );
        found.push(problem.help("set `health.deadline` or `readiness.deadline`"));
    }
    if config.rolling().is_some_and(|rolling| rolling.surge == 0) {
        let message = "must be above 0: the last earlier replica runs until all new ones are ready";
        found.push(Problem::at("strategy.rolling.max-surge", message));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of replicas through which an update goes.
    fn course(replicas: u32, surge: u32, unavailable: u32) -> Vec<(u32, u32)> {
        let update = RollingUpdate { replicas, surge, unavailable, min_ready: Duration::ZERO };
        let mut course = Vec::new();
        let mut ready = surge.min(replicas);
        while ready < replicas {
            let next = update.next(ready);
            assert!(next.0 > ready, "{course:?} doesn't get on");
            ready = next.0;
            course.push(next);
        }
        course
    }

    #[test]
    fn a_rolling_update_keeps_within_its_bounds() {
        assert_eq!(course(3, 1, 0), [(2, 2), (3, 1)]);
        assert_eq!(course(1, 1, 0), []);
        assert_eq!(course(4, 2, 1), [(4, 1)]);
        for (replicas, surge, unavailable) in [(3, 1, 0), (5, 2, 1), (10, 3, 3), (2, 1, 2)] {
            for (new, earlier) in course(replicas, surge, unavailable) {
                assert!(new + earlier <= replicas + surge && earlier >= 1);
            }
        }
    }
}
