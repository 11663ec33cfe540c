//! Counting measurements, and the verdict on them.

use std::fmt;

use serde_json::Value as Json;
use stagewright_sdk::{Error, ErrorCode};

use super::metric::Metric;

/// The result of a measurement, a metric or an analysis. Later ones are worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The condition for success is met.
    Successful,
    /// There isn't enough to decide on: no data, too few requests, or neither condition is met.
    Inconclusive,
    /// It could not be measured.
    Error,
    /// The condition for success isn't met, or that for failure is.
    Failed,
}

impl Phase {
    pub(crate) fn is_bad(self) -> bool {
        self != Phase::Successful
    }

    /// Its name in outputs and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Successful => "successful",
            Phase::Inconclusive => "inconclusive",
            Phase::Error => "error",
            Phase::Failed => "failed",
        }
    }
}

/// One measurement.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Measurement {
    pub(crate) phase: Phase,
    /// The value; null if there is none.
    pub(crate) value: Json,
    /// Why it is inconclusive or an error; may be empty.
    pub(crate) reason: String,
}

impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Measurement { phase, value, reason } = self;
        match (value, reason.as_str()) {
            (Json::Null, reason) => write!(f, "{}, {reason}", phase.as_str()),
            (value, "") => write!(f, "{} ({})", shown(value), phase.as_str()),
            (value, reason) => write!(f, "{} ({}, {reason})", shown(value), phase.as_str()),
        }
    }
}

/// The most characters of a value that are shown.
const SHOWN: usize = 200;

fn shown(value: &Json) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// The measurements of a metric so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    taken: u32,
    failed: u32,
    inconclusive: u32,
    /// Without one that could be taken in between.
    consecutive_errors: u32,
    last: Option<Measurement>,
}

impl Tally {
    pub(crate) fn add(&mut self, measurement: Measurement) {
        match measurement.phase {
            Phase::Error => self.consecutive_errors += 1,
            phase => {
                self.taken += 1;
                self.consecutive_errors = 0;
                self.failed += u32::from(phase == Phase::Failed);
                self.inconclusive += u32::from(phase == Phase::Inconclusive);
            }
        }
        self.last = Some(measurement);
    }

    /// The verdict, once it stands. A measurement that could not be taken doesn't count towards `count`.
    pub(crate) fn phase(&self, metric: &Metric) -> Option<Phase> {
        if self.failed > metric.failure_limit {
            return Some(Phase::Failed);
        }
        if self.consecutive_errors > metric.consecutive_error_limit {
            return Some(Phase::Error);
        }
        if self.inconclusive > metric.inconclusive_limit {
            return Some(Phase::Inconclusive);
        }
        (self.taken >= metric.count).then_some(Phase::Successful)
    }

    pub(crate) fn into_verdict(self, metric: &Metric) -> MetricVerdict {
        let phase = self.phase(metric);
        let last = self.last.map(|last| last.to_string()).unwrap_or_default();
        MetricVerdict { name: metric.name.clone(), phase, taken: self.taken, failed: self.failed, last }
    }
}

/// The verdict on a metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricVerdict {
    /// Its name.
    pub name: String,
    /// Its verdict; none if another metric decided first.
    pub phase: Option<Phase>,
    /// How often it was measured.
    pub taken: u32,
    /// How many measurements failed.
    pub failed: u32,
    /// The last measurement.
    pub last: String,
}

/// The verdict on an analysis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Of each metric, in their order.
    pub metrics: Vec<MetricVerdict>,
    /// Whether it decides nothing.
    pub is_dry_run: bool,
}

impl Verdict {
    /// The worst verdict of a metric; a dry run is always successful.
    pub fn phase(&self) -> Phase {
        let worst = self.metrics.iter().filter_map(|metric| metric.phase).max().unwrap_or(Phase::Successful);
        if self.is_dry_run { Phase::Successful } else { worst }
    }

    /// The metrics that decided against success, with their last measurements.
    pub fn reasons(&self) -> Vec<String> {
        let bad = self.metrics.iter().filter(|metric| metric.phase.is_some_and(Phase::is_bad));
        bad.map(|metric| format!("{}: {}", metric.name, metric.last)).collect()
    }

    /// The error for a verdict that isn't a success.
    pub fn error(&self) -> Option<Error> {
        let (code, what) = match self.phase() {
            Phase::Successful => return None,
            Phase::Failed => (ErrorCode::FailedPrecondition, "the analysis failed"),
            Phase::Error => (ErrorCode::Unavailable, "the analysis could not be carried out"),
            Phase::Inconclusive => (ErrorCode::FailedPrecondition, "the analysis is inconclusive"),
        };
        Some(Error::new(code, what).causes(self.reasons()))
    }
}
