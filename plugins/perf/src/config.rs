//! The stage's `with` table.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use stagewright_sdk::{DurationText, JsonSchema, Problem, Requirement, schemars};

/// What is sent, how fast, and what is expected.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(example = serde_json::json!({
    "url": "https://staging.example.org",
    "requests": [{ "path": "/" }, { "path": "/api/orders", "weight": 3 }],
    "rate": 500,
    "duration": "60s",
    "limits": { "p95": "200ms", "errors": 1 },
}))]
pub struct Config {
    /// The service, without a path.
    pub(crate) url: String,
    /// The requests, in turn by their weights.
    #[serde(default = "default_requests")]
    pub(crate) requests: Vec<Target>,
    /// How many requests are sent per second, however fast they are answered.
    #[serde(default = "default_rate")]
    pub(crate) rate: u32,
    /// How long requests are sent.
    #[serde(default = "DurationText::seconds::<30>")]
    pub(crate) duration: DurationText,
    /// How long requests are sent before it, which don't count.
    #[serde(default = "DurationText::seconds::<5>")]
    pub(crate) warm_up: DurationText,
    /// How many requests may be under way at a time. Further ones wait, and their wait counts. The stage's limit `requests` has
    /// to allow as many.
    #[serde(default = "default_connections")]
    pub(crate) connections: u32,
    /// How long a response may take, with its body, until the request counts as an error.
    #[serde(default = "DurationText::seconds::<10>")]
    pub(crate) timeout: DurationText,
    /// What is expected. A stage without any only measures.
    #[serde(default)]
    pub(crate) limits: Limits,
    /// How much worse than another service, or the last good release, it may be.
    pub(crate) compare: Option<Comparison>,
}

fn default_requests() -> Vec<Target> {
    vec![Target { path: "/".to_owned(), weight: 1, headers: BTreeMap::new() }]
}

fn default_rate() -> u32 {
    50
}

fn default_connections() -> u32 {
    200
}

/// A request that is sent again and again, with GET.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Target {
    /// The path, with its query.
    pub(crate) path: String,
    /// How often it is sent, in proportion to the others.
    #[serde(default = "default_weight")]
    pub(crate) weight: u32,
    /// Headers.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
}

fn default_weight() -> u32 {
    1
}

/// What is expected of all requests together.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Limits {
    /// The latency that half of the requests may exceed.
    pub(crate) p50: Option<DurationText>,
    /// The latency that 5 % of the requests may exceed.
    pub(crate) p95: Option<DurationText>,
    /// The latency that 1 % of the requests may exceed.
    pub(crate) p99: Option<DurationText>,
    /// The highest share of errors, in percent: statuses from 400, and requests without a whole response.
    pub(crate) errors: Option<f64>,
}

/// How much worse it may be.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Comparison {
    /// A service that gets the same requests beside it, in turn: the one that serves, while this is the preview of the next.
    pub(crate) url: Option<String>,
    /// An environment, instead of `url`: what this stage measured in the run of its last good release.
    pub(crate) environment: Option<String>,
    /// By how many percent the 95th percentile may be higher.
    #[serde(default = "default_p95")]
    pub(crate) p95: f64,
    /// By how many percentage points the share of errors may be higher.
    #[serde(default)]
    pub(crate) errors: f64,
}

fn default_p95() -> f64 {
    20.0
}

/// The longest run, warm-up included, so that its latencies fit into memory.
const MOST_REQUESTS: u128 = 5_000_000;

impl Config {
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        let urls =
            [("url", Some(&self.url)), ("compare.url", self.compare.as_ref().and_then(|with| with.url.as_ref()))];
        for (key, url) in urls {
            if let Some(url) = url.filter(|url| Requirement::url(url).is_none()) {
                let help = "start it with `https://` or `http://`";
                found.push(Problem::at(key, format!("`{url}` isn't an http or https URL")).help(help));
            }
        }
        if let Some(compare) = &self.compare
            && compare.url.is_some() == compare.environment.is_some()
        {
            let message = "needs either `url` or `environment`";
            found.push(
                Problem::at("compare", message)
                    .help("`url` is a service to measure too; `environment` has an earlier run"),
            );
        }
        for (key, value) in [("rate", self.rate), ("connections", self.connections)] {
            if value == 0 {
                found.push(Problem::at(key, "must be at least 1"));
            }
        }
        if self.requests.iter().all(|target| target.weight == 0) {
            found.push(Problem::at("requests", "there is no request to send").help("add one, as in { path = \"/\" }"));
        }
        for (index, target) in self.requests.iter().enumerate() {
            if !target.path.starts_with('/') {
                found.push(Problem::at(format!("requests[{index}].path"), "must begin with `/`"));
            }
        }
        if self.duration.0 < Duration::from_secs(1) {
            found.push(Problem::at("duration", "must be at least 1 s"));
        }
        let number = (self.duration.0 + self.warm_up.0).as_millis() * u128::from(self.rate) / 1000;
        if number > MOST_REQUESTS {
            let message = format!("{number} requests are more than {MOST_REQUESTS}");
            found.push(Problem::at("duration", message).help("lower `rate` or `duration`"));
        }
        found
    }

    pub(crate) fn requirements(&self) -> Vec<Requirement> {
        let urls = [Some(&self.url), self.compare.as_ref().and_then(|compare| compare.url.as_ref())];
        let needed = urls.into_iter().flatten().filter_map(|url| Requirement::url(url));
        needed.map(|net| net.because("is measured")).collect()
    }
}
