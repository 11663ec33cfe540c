//! The stage's `with` table.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value as Json;
use stagewright_sdk::{DurationText, JsonSchema, Statuses};

/// Whom to tell, and what.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(crate = "stagewright_sdk::schemars")]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// Where to.
    pub(crate) url: String,
    /// As in `POST`, the default.
    #[serde(default = "post")]
    pub(crate) method: String,
    /// What the other side understands.
    #[serde(default)]
    pub(crate) format: Format,
    /// What to say.
    pub(crate) message: Option<String>,
    /// The whole body, in place of the one that `format` makes of the message.
    pub(crate) body: Option<Json>,
    /// Headers to add.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// The secret to authenticate with; the guest doesn't see it.
    pub(crate) secret: Option<String>,
    /// The header that takes the secret.
    #[serde(default = "authorization")]
    pub(crate) secret_header: String,
    /// What comes before the secret in its header.
    #[serde(default = "bearer")]
    pub(crate) secret_prefix: String,
    /// Statuses that mean it was heard; `2xx` unless set.
    #[serde(default)]
    pub(crate) expect: Statuses,
    /// How long to wait for the answer; `10s` unless set.
    #[serde(default = "ten_seconds")]
    pub(crate) timeout: DurationText,
    /// Succeed even when nobody listens; and after a crash, rather tell twice than ask a person whether it was told.
    #[serde(default)]
    pub(crate) best_effort: bool,
}

/// What the other side understands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(crate = "stagewright_sdk::schemars")]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Format {
    /// An object with `pipeline`, `stage`, `run`, `environment`, `rehearsal` and `message`.
    #[default]
    Json,
    /// What Slack and those that imitate it take: an object with `text`.
    Slack,
    /// The message as it is.
    Text,
}

fn post() -> String {
    "POST".to_owned()
}

fn authorization() -> String {
    "authorization".to_owned()
}

fn bearer() -> String {
    "Bearer ".to_owned()
}

fn ten_seconds() -> DurationText {
    DurationText(Duration::from_secs(10))
}
