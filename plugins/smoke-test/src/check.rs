//! A check: a request, and what its response must have.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value as Json;
use stagewright_sdk::{DurationText, JsonSchema, Problem, Statuses, schemars};

use crate::json::Text;

/// A request, and what its response must have.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Check {
    /// The check's name in messages. Default: its method and path.
    pub name: Option<String>,
    /// The path, with its leading slash.
    #[serde(default = "root")]
    pub path: String,
    /// The HTTP method. Default: `GET`.
    #[serde(default = "get")]
    pub method: String,
    /// Headers to send.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The body to send.
    pub body: Option<String>,
    /// The expected status: a number, a class such as `2xx`, or a list of them. Default: `2xx`.
    #[serde(default)]
    pub status: Statuses,
    /// Text that the body must contain.
    pub contains: Option<String>,
    /// Values that the body must have as JSON, by JSON pointer, as in `{ "/status" = "ok" }`.
    #[serde(default)]
    pub json: BTreeMap<String, Json>,
    /// Headers that the response must have, with their values.
    #[serde(default)]
    pub header: BTreeMap<String, String>,
    /// The longest time that the response may take, in milliseconds.
    pub max_latency_ms: Option<u64>,
    /// How many redirects to follow. Default: 10. With 0, a redirect itself can be checked.
    pub redirects: Option<u32>,
    /// In place of the stage's.
    pub retries: Option<u32>,
    /// In place of the stage's.
    pub interval: Option<DurationText>,
    /// In place of the stage's.
    pub deadline: Option<DurationText>,
}

fn root() -> String {
    "/".to_owned()
}

fn get() -> String {
    "GET".to_owned()
}

/// The parts of a response that a check needs.
pub(crate) struct Response {
    pub(crate) status: u16,
    /// The value of each header that the check expects, in the check's order; none for a missing one.
    pub(crate) headers: Vec<Option<String>>,
    pub(crate) body: Vec<u8>,
    pub(crate) latency: Duration,
}

impl Check {
    pub(crate) fn name(&self) -> String {
        self.name.clone().unwrap_or_else(|| format!("{} {}", self.method, self.path))
    }

    /// Mistakes in the configuration of the check with this index.
    pub(crate) fn problems(&self, index: usize) -> Vec<Problem> {
        let mut found = Vec::new();
        if !self.path.starts_with('/') {
            let message = format!("`{}` doesn't begin with a slash", self.path);
            found.push(Problem::at(format!("checks[{index}].path"), message));
        }
        for pointer in self.json.keys().filter(|pointer| !pointer.is_empty() && !pointer.starts_with('/')) {
            let message = format!("invalid JSON pointer `{pointer}`: it doesn't begin with a slash");
            found.push(Problem::at(format!("checks[{index}].json"), message));
        }
        found
    }

    /// Whether the body must be read.
    pub(crate) fn needs_body(&self) -> bool {
        self.contains.is_some() || !self.json.is_empty()
    }

    /// The expectations that the response doesn't meet; empty when it meets all.
    pub(crate) fn unmet(&self, response: &Response) -> Vec<String> {
        let mut found = Vec::new();
        if !self.status.contains(response.status) {
            found.push(format!("status {}, expected {}", response.status, self.status));
        }
        for ((name, expected), actual) in self.header.iter().zip(&response.headers) {
            match actual {
                None => found.push(format!("header `{name}` is missing")),
                Some(actual) if actual != expected => {
                    found.push(format!("header `{name}` is `{actual}`, expected `{expected}`"));
                }
                Some(_) => {}
            }
        }
        if let Some(text) = &self.contains
            && !String::from_utf8_lossy(&response.body).contains(text)
        {
            found.push(format!("the body doesn't contain `{text}`"));
        }
        self.check_json(&response.body, &mut found);
        if let Some(limit) = self.max_latency_ms {
            let took = millis(response.latency);
            if took > limit {
                found.push(format!("it took {took} ms, expected at most {limit} ms"));
            }
        }
        found
    }

    fn check_json(&self, body: &[u8], found: &mut Vec<String>) {
        if self.json.is_empty() {
            return;
        }
        let body = match Text::parse(body) {
            Ok(body) => body,
            Err(error) => return found.push(format!("the body isn't valid JSON: {error}")),
        };
        for (pointer, expected) in &self.json {
            match body.at(pointer) {
                None => found.push(format!("the body has nothing at `{pointer}`, expected {expected}")),
                Some(actual) if !actual.is(expected) => {
                    found.push(format!("`{pointer}` is {actual}, expected {expected}"));
                }
                Some(_) => {}
            }
        }
    }
}

/// A duration in whole milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
