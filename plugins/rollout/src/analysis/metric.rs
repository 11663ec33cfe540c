//! A metric: what is measured, how often, and what counts as success.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value as Json;
use stagewright_sdk::{DurationText, JsonSchema, Problem, Requirement, schemars};

use super::Subject;
use super::condition::Condition;
use super::measurement::{Measurement, Phase};
use super::provider::{CommandQuery, HttpQuery, LogQuery, Prometheus, Reading};

/// A metric. It has exactly one of `prometheus`, `http`, `command` and `log`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Metric {
    /// Its name in messages.
    pub name: String,
    /// The result of a query in PromQL: `result` is the list of its values.
    pub prometheus: Option<Prometheus>,
    /// The answer to an HTTP request: `result` is its body.
    pub http: Option<HttpQuery>,
    /// A program: `result` has its exit status as `code` and its standard output as `stdout`.
    pub command: Option<CommandQuery>,
    /// The log of the new version: `result` is the number of lines that contain a text. Only in a strategy.
    pub log: Option<LogQuery>,
    /// In CEL, as in `result[0] < 0.01`. If it isn't met, the measurement has failed, unless there is a `failure-condition`.
    pub success_condition: Option<String>,
    /// In CEL. If neither condition is met, the measurement is inconclusive.
    pub failure_condition: Option<String>,
    /// Time between two measurements.
    #[serde(default = "DurationText::seconds::<10>")]
    pub interval: DurationText,
    /// How many measurements are taken.
    #[serde(default = "one")]
    pub count: u32,
    /// Time before the first measurement.
    pub initial_delay: Option<DurationText>,
    /// How many measurements may fail.
    #[serde(default)]
    pub failure_limit: u32,
    /// How many measurements may be inconclusive.
    #[serde(default)]
    pub inconclusive_limit: u32,
    /// How many measurements in a row may be impossible to take.
    #[serde(default = "four")]
    pub consecutive_error_limit: u32,
}

fn one() -> u32 {
    1
}

fn four() -> u32 {
    4
}

impl Metric {
    /// Takes a measurement.
    pub(crate) fn measure(&self, subject: &Subject<'_>) -> Measurement {
        match self.read(subject) {
            Ok(Reading::Values(variables)) => self.judge(&variables),
            Ok(Reading::Inconclusive(value, reason)) => Measurement { phase: Phase::Inconclusive, value, reason },
            Err(reason) => Measurement { phase: Phase::Error, value: Json::Null, reason },
        }
    }

    fn read(&self, subject: &Subject<'_>) -> Result<Reading, String> {
        match self {
            Metric { prometheus: Some(query), .. } => query.read(subject),
            Metric { http: Some(query), .. } => query.read(subject),
            Metric { command: Some(query), .. } => query.read(subject),
            Metric { log: Some(query), .. } => query.read(subject),
            _ => Err("it doesn't say what is measured".to_owned()),
        }
    }

    fn judge(&self, variables: &BTreeMap<&str, Json>) -> Measurement {
        let value = variables.get("result").cloned().unwrap_or_default();
        let holds = |text: &Option<String>| -> Result<Option<bool>, String> {
            text.as_deref().map(|text| Condition::parse(text)?.holds(variables)).transpose()
        };
        let judged = holds(&self.success_condition).and_then(|success| Ok((success, holds(&self.failure_condition)?)));
        let (phase, reason) = match judged {
            Err(reason) => (Phase::Error, reason),
            Ok((_, Some(true))) => (Phase::Failed, String::new()),
            Ok((Some(false), Some(false))) => (Phase::Inconclusive, "neither condition is met".to_owned()),
            Ok((Some(false), None)) => (Phase::Failed, String::new()),
            Ok((Some(true) | None, Some(false) | None)) => (Phase::Successful, String::new()),
        };
        Measurement { phase, value, reason }
    }

    /// The grants that it takes.
    pub(crate) fn requirements(&self) -> Vec<Requirement> {
        let queries = self.prometheus.iter().filter_map(Prometheus::requirement);
        let requests = self.http.iter().filter_map(HttpQuery::requirement);
        queries.chain(requests).chain(self.command.iter().map(CommandQuery::requirement)).collect()
    }

    /// Mistakes that parsing doesn't catch, at this key of `with`.
    pub(crate) fn problems(&self, key: &str, is_rollout: bool) -> Vec<Problem> {
        let at = |name: &str, message: String| Problem::at(format!("{key}.{name}"), message);
        let mut found = Vec::new();
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if self.name.is_empty() || !self.name.chars().all(is_name) {
            let message = format!("invalid name `{}`; use letters, digits, `-`, `_` and `.`", self.name);
            found.push(at("name", message));
        }
        let measured = [self.prometheus.is_some(), self.http.is_some(), self.command.is_some(), self.log.is_some()];
        if measured.iter().filter(|is_there| **is_there).count() != 1 {
            let message =
                format!("the metric `{}` must have one of `prometheus`, `http`, `command` and `log`", self.name);
            found.push(Problem::at(key, message));
        }
        if self.log.is_some() && !is_rollout {
            let problem = at("log", "only a strategy has a new version whose log can be read".to_owned());
            found.push(problem.help("use it in an analysis of `strategy`, or another query"));
        }
        if self.count == 0 || self.count > MOST_MEASUREMENTS {
            let message = format!("a metric is measured 1 to {MOST_MEASUREMENTS} times, not {}", self.count);
            found.push(at("count", message));
        }
        if self.count > 1 && self.interval.0 < SHORTEST_INTERVAL {
            found.push(at("interval", "must be at least \"100ms\"".to_owned()));
        }
        let known: &[&str] = if self.prometheus.is_some() { &["result", "baseline"] } else { &["result"] };
        let conditions =
            [("success-condition", &self.success_condition), ("failure-condition", &self.failure_condition)];
        for (name, text) in conditions {
            let Some(text) = text else { continue };
            match Condition::parse(text) {
                Err(reason) => found.push(at(name, format!("invalid expression: {reason}"))),
                Ok(condition) => {
                    let unknown = condition.variables().into_iter().find(|name| !known.contains(&name.as_str()));
                    let message = |unknown| format!("unknown variable `{unknown}`; there is {}", known.join(" and "));
                    found.extend(unknown.map(|unknown| at(name, message(unknown))));
                }
            }
        }
        found
    }
}

const MOST_MEASUREMENTS: u32 = 10_000;
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);
