//! One question, and what is wrong with an answer.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value as Json;
use stagewright_sdk::{DurationText, JsonSchema, Statuses};

use crate::json::Text;

/// A request, and what its answer must be.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(crate = "stagewright_sdk::schemars")]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Check {
    /// What to call it; its method and path unless set.
    pub name: Option<String>,
    /// With its leading slash.
    #[serde(default = "root")]
    pub path: String,
    /// As in `GET`, the default.
    #[serde(default = "get")]
    pub method: String,
    /// Headers to send.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The body to send.
    pub body: Option<String>,
    /// The status that it must have: a number, `2xx`, or a list; `2xx` unless set.
    #[serde(default)]
    pub status: Statuses,
    /// Text that must be in the body.
    pub contains: Option<String>,
    /// JSON pointers into the body, and what must be there, as in `{ "/status" = "ok" }`.
    #[serde(default)]
    pub json: BTreeMap<String, Json>,
    /// Headers of the answer, and the value that each must have.
    #[serde(default)]
    pub header: BTreeMap<String, String>,
    /// How long the answer may take.
    pub max_latency_ms: Option<u64>,
    /// Redirects to follow; 10 unless set. Set 0 to check a redirect itself.
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

/// What a check looks at.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The expected headers that were there, in the check's order.
    pub(crate) headers: Vec<Option<String>>,
    pub(crate) body: Vec<u8>,
    pub(crate) latency: Duration,
}

impl Check {
    pub(crate) fn name(&self) -> String {
        self.name.clone().unwrap_or_else(|| format!("{} {}", self.method, self.path))
    }

    /// Key, what is wrong with it.
    pub(crate) fn mistakes(&self) -> Vec<(&'static str, String)> {
        let mut mistakes = Vec::new();
        if !self.path.starts_with('/') {
            mistakes.push(("path", format!("`{}` doesn't begin with a slash", self.path)));
        }
        for pointer in self.json.keys().filter(|pointer| !pointer.is_empty() && !pointer.starts_with('/')) {
            mistakes.push(("json", format!("`{pointer}` is no JSON pointer: it doesn't begin with a slash")));
        }
        mistakes
    }

    /// Whether the body must be read.
    pub(crate) fn looks_at_body(&self) -> bool {
        self.contains.is_some() || !self.json.is_empty()
    }

    /// What is wrong with the answer; nothing when it is as it should be.
    pub(crate) fn complaints(&self, answer: &Answer) -> Vec<String> {
        let mut found = Vec::new();
        if !self.status.contains(answer.status) {
            found.push(format!("status {}, expected {}", answer.status, self.status));
        }
        for ((name, expected), actual) in self.header.iter().zip(&answer.headers) {
            match actual {
                None => found.push(format!("there is no header `{name}`")),
                Some(actual) if actual != expected => {
                    found.push(format!("header `{name}` is `{actual}`, expected `{expected}`"));
                }
                Some(_) => {}
            }
        }
        if let Some(text) = &self.contains
            && !String::from_utf8_lossy(&answer.body).contains(text)
        {
            found.push(format!("the body doesn't contain `{text}`"));
        }
        self.complain_of_json(&answer.body, &mut found);
        if let Some(limit) = self.max_latency_ms {
            let took = millis(answer.latency);
            if took > limit {
                found.push(format!("it took {took} ms, {limit} ms are allowed"));
            }
        }
        found
    }

    fn complain_of_json(&self, body: &[u8], found: &mut Vec<String>) {
        if self.json.is_empty() {
            return;
        }
        let body = match Text::parse(body) {
            Ok(body) => body,
            Err(error) => return found.push(format!("the body isn't JSON: {error}")),
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

/// For messages and outputs.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
