//! The stage's `with` table.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value as Json;
use stagewright_sdk::{DurationText, JsonSchema, Statuses, schemars};

/// The notification, and where to send it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(example = serde_json::json!({ "url": "https://hooks.example.org/builds", "message": "${{ git.branch }} was deployed" }))]
pub struct Config {
    /// The URL of the web hook.
    pub(crate) url: String,
    /// The HTTP method. Default: `POST`.
    #[serde(default = "post")]
    pub(crate) method: String,
    /// What the other side understands.
    #[serde(default)]
    pub(crate) format: Format,
    /// The message.
    pub(crate) message: Option<String>,
    /// The whole body, instead of one that `format` makes from the message.
    pub(crate) body: Option<Json>,
    /// Additional headers.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// The secret to authenticate with. The plugin doesn't see its value.
    pub(crate) secret: Option<String>,
    /// The header for the secret.
    #[serde(default = "authorization")]
    pub(crate) secret_header: String,
    /// Text before the secret in the header.
    #[serde(default = "bearer")]
    pub(crate) secret_prefix: String,
    /// The expected statuses. Default: `2xx`.
    #[serde(default)]
    pub(crate) expect: Statuses,
    /// How long to wait for the response. Default: `10s`.
    #[serde(default = "DurationText::seconds::<10>")]
    pub(crate) timeout: DurationText,
    /// Succeed even if the notification fails. After a crash of the engine, send it again, at the risk of sending it
    /// twice, instead of asking a person whether it was sent.
    #[serde(default)]
    pub(crate) best_effort: bool,
}

/// What the other side understands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Format {
    /// An object with `pipeline`, `stage`, `run`, `environment`, `rehearsal` and `message`.
    #[default]
    Json,
    /// The format of Slack and compatible services: an object with `text`.
    Slack,
    /// The message as plain text.
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
