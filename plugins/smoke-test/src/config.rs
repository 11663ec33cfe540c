//! The stage's `with` table.

use serde::Deserialize;
use stagewright_sdk::{DurationText, JsonSchema, schemars};

use crate::check::Check;

/// The service to check, the checks, and their retries.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(example = serde_json::json!({ "url": "https://app.example.org", "checks": [{ "path": "/health", "status": 200 }] }))]
pub struct Config {
    /// The base URL that the checks' paths are appended to, as in `https://staging.example.org`.
    pub(crate) url: String,
    /// The checks, which are run in order.
    pub(crate) checks: Vec<Check>,
    /// The timeout of one request. Default: `10s`.
    #[serde(default = "DurationText::seconds::<10>")]
    pub(crate) timeout: DurationText,
    /// How often to retry a check. Default: until the deadline, or never if there is none.
    pub(crate) retries: Option<u32>,
    /// The time between two attempts. Default: `1s`.
    #[serde(default = "DurationText::seconds::<1>")]
    pub(crate) interval: DurationText,
    /// How long after a check's first attempt another one may begin.
    pub(crate) deadline: Option<DurationText>,
}
