//! The stage's `with` table.

use std::time::Duration;

use serde::Deserialize;
use stagewright_sdk::{DurationText, JsonSchema};

use crate::check::Check;

/// What to ask, and how long.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(crate = "stagewright_sdk::schemars")]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// What the paths of the checks are put after, as in `https://staging.example.org`.
    pub(crate) url: String,
    /// The questions.
    pub(crate) checks: Vec<Check>,
    /// How long to wait for one answer; `10s` unless set.
    #[serde(default = "ten_seconds")]
    pub(crate) timeout: DurationText,
    /// Tries after the first; without it, as many as the deadline leaves room for, and none without a deadline.
    pub(crate) retries: Option<u32>,
    /// Between tries; `1s` unless set.
    #[serde(default = "one_second")]
    pub(crate) interval: DurationText,
    /// No try begins later than this after the check's first.
    pub(crate) deadline: Option<DurationText>,
}

fn ten_seconds() -> DurationText {
    DurationText(Duration::from_secs(10))
}

fn one_second() -> DurationText {
    DurationText(Duration::from_secs(1))
}
