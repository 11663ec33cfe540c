//! One measurement.

use std::fmt;

use serde_json::Value as Json;

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
