//! Where measurements come from.

use std::collections::BTreeMap;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use stagewright_sdk::http::Request;
use stagewright_sdk::process::Command;
use stagewright_sdk::{JsonSchema, Requirement, schemars};

use super::Subject;

/// The most bytes of an answer.
const ANSWER: usize = 4 << 20;
/// The timeout of one measurement.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What was read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reading {
    /// The variables of the conditions.
    Values(BTreeMap<&'static str, Json>),
    /// There is nothing to decide on: the value, if there is one, and the reason.
    Inconclusive(Json, String),
}

/// A query in PromQL. `$version` and `$serving` in it stand for the names of the new version and of the one that serves.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Prometheus {
    /// The server, as in `http://prometheus:9090`.
    address: String,
    /// Its values are `result`.
    query: String,
    /// A second query, to compare with: its values are `baseline`.
    baseline: Option<String>,
    /// A query whose value says how many requests the others are about.
    samples: Option<String>,
    /// With fewer samples, the measurement is inconclusive.
    #[serde(default = "one")]
    min_count: u64,
}

fn one() -> u64 {
    1
}

impl Prometheus {
    pub(crate) fn read(&self, subject: &Subject<'_>) -> Result<Reading, String> {
        if let Some(query) = &self.samples {
            let samples = self.query(query, subject)?.first().copied().unwrap_or(0.0);
            if !samples.is_finite() || samples < as_float(self.min_count) {
                let reason = format!("{samples} samples, and {} are required", self.min_count);
                return Ok(Reading::Inconclusive(Json::Null, reason));
            }
        }
        let mut variables = BTreeMap::new();
        let queries = [("result", Some(&self.query)), ("baseline", self.baseline.as_ref())];
        for (name, query) in queries {
            let Some(query) = query else { continue };
            let values = self.query(query, subject)?;
            if values.is_empty() {
                return Ok(Reading::Inconclusive(Json::Null, format!("no data for `{name}`")));
            }
            // NaN is the rate of nothing, and infinity what something is divided by it.
            if let Some(value) = values.iter().find(|value| !value.is_finite()) {
                return Ok(Reading::Inconclusive(Json::Null, format!("`{name}` is {value}")));
            }
            variables.insert(name, json!(values));
        }
        Ok(Reading::Values(variables))
    }

    /// The values of a query's result.
    fn query(&self, query: &str, subject: &Subject<'_>) -> Result<Vec<f64>, String> {
        let url = format!(
            "{}/api/v1/query?query={}",
            self.address.trim_end_matches('/'),
            utf8_percent_encode(&subject.fill(query), NON_ALPHANUMERIC)
        );
        let (status, body) = get(&url)?;
        let answer: Json =
            serde_json::from_slice(&body).map_err(|_| format!("Prometheus returned {status}, and no JSON"))?;
        if answer["status"] != "success" {
            let reason = answer["error"].as_str().unwrap_or("no reason");
            return Err(format!("Prometheus returned {status}: {reason}"));
        }
        let data = &answer["data"];
        let samples: Vec<&Json> = match data["resultType"].as_str() {
            Some("scalar") => vec![&data["result"]],
            Some("vector") => data["result"].as_array().into_iter().flatten().map(|series| &series["value"]).collect(),
            other => {
                return Err(format!("the query's result is a {}, and not a vector or a scalar", other.unwrap_or("?")));
            }
        };
        let value = |sample: &Json| sample[1].as_str().and_then(number);
        samples.into_iter().map(|sample| value(sample).ok_or_else(|| format!("invalid sample {sample}"))).collect()
    }

    pub(crate) fn requirement(&self) -> Option<Requirement> {
        Some(Requirement::url(&self.address)?.because("measures the release"))
    }
}

/// A sample's value, as Prometheus writes it.
fn number(text: &str) -> Option<f64> {
    match text {
        "+Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        text => text.parse().ok(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a count of 2^53 samples isn't required")]
fn as_float(count: u64) -> f64 {
    count as f64
}

/// An HTTP request. `$address`, `$version` and `$serving` in the URL stand for the new version's address and name, and for
/// the name of the version that serves.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HttpQuery {
    /// What is requested with GET. A status other than 2xx counts as a measurement that could not be taken.
    url: String,
}

impl HttpQuery {
    pub(crate) fn read(&self, subject: &Subject<'_>) -> Result<Reading, String> {
        let url = subject.fill(&self.url);
        let (status, body) = get(&url)?;
        if !(200..300).contains(&status) {
            return Err(format!("GET {url} returned {status}"));
        }
        let text = || Json::String(String::from_utf8_lossy(&body).into_owned());
        Ok(Reading::Values(BTreeMap::from([("result", serde_json::from_slice(&body).unwrap_or_else(|_| text()))])))
    }

    pub(crate) fn requirement(&self) -> Option<Requirement> {
        Some(Requirement::url(&self.url)?.because("measures the release"))
    }
}

fn get(url: &str) -> Result<(u16, Vec<u8>), String> {
    let failed = |error: stagewright_sdk::Error| error.to_string();
    let mut response = Request::get(url).timeout(TIMEOUT).send().map_err(failed)?;
    Ok((response.status(), response.bytes(ANSWER).map_err(failed)?))
}

/// A program of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CommandQuery {
    /// The program and its arguments.
    argv: Vec<String>,
}

impl CommandQuery {
    pub(crate) fn read(&self, subject: &Subject<'_>) -> Result<Reading, String> {
        let (program, args) = self.argv.split_first().ok_or("`argv` is empty")?;
        let mut command = Command::new(program);
        command.args(args.iter().map(|arg| subject.fill(arg))).timeout(TIMEOUT);
        let output = command.output().map_err(|error| error.to_string())?;
        let Some(code) = output.status.code else { return Err("the program was killed".to_owned()) };
        let stdout = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
        let result = json!({ "code": code, "stdout": stdout });
        Ok(Reading::Values(BTreeMap::from([("result", result)])))
    }

    pub(crate) fn requirement(&self) -> Requirement {
        Requirement::process(self.argv.first().cloned().unwrap_or_default()).because("measures the release")
    }
}

/// Lines of the new version's log.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LogQuery {
    /// The text that the counted lines contain.
    contains: String,
    /// How many of the last lines are searched.
    #[serde(default = "thousand")]
    lines: u32,
}

fn thousand() -> u32 {
    1000
}

impl LogQuery {
    pub(crate) fn read(&self, subject: &Subject<'_>) -> Result<Reading, String> {
        let Some(log) = subject.log else { return Err("no log to read".to_owned()) };
        let text = log(self.lines).map_err(|error| error.to_string())?;
        let count = text.lines().filter(|line| line.contains(&self.contains)).count();
        Ok(Reading::Values(BTreeMap::from([("result", json!(count))])))
    }
}
