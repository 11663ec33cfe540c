//! Tells a web hook what happened.

mod payload;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value as Json;
use stagewright_sdk::http::Request;
use stagewright_sdk::{
    Capability, Diagnostic, DurationText, Error, ErrorCode, JsonSchema, Manifest, Observation, Outcome, Reconcile,
    Result, Stage, Statuses, log, outputs, secrets,
};

/// Bytes of an unexpected answer that are shown.
const SHOWN: usize = 500;

/// The stage's `with` table.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(crate = "stagewright_sdk::schemars")]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// Where to.
    pub url: String,
    /// As in `POST`, the default.
    #[serde(default = "post")]
    pub method: String,
    /// What the other side understands.
    #[serde(default)]
    pub format: Format,
    /// What to say.
    pub message: Option<String>,
    /// The whole body, in place of the one that `format` makes of the message.
    pub body: Option<Json>,
    /// Headers to add.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The secret to authenticate with; the guest doesn't see it.
    pub secret: Option<String>,
    /// The header that takes the secret.
    #[serde(default = "authorization")]
    pub secret_header: String,
    /// What comes before the secret in its header.
    #[serde(default = "bearer")]
    pub secret_prefix: String,
    /// Statuses that mean it was heard; `2xx` unless set.
    #[serde(default)]
    pub expect: Statuses,
    /// How long to wait for the answer; `10s` unless set.
    #[serde(default = "ten_seconds")]
    pub timeout: DurationText,
    /// Succeed even when nobody listens; and after a crash, rather tell twice than ask a person whether it was told.
    #[serde(default)]
    pub best_effort: bool,
}

/// What the other side understands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(crate = "stagewright_sdk::schemars")]
#[serde(rename_all = "kebab-case")]
pub enum Format {
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

/// The plugin.
#[derive(Debug)]
pub struct Notify;

impl Stage for Notify {
    type Config = Config;

    fn manifest() -> Manifest {
        Manifest::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
            .description(env!("CARGO_PKG_DESCRIPTION"))
            .output("status", "The status of the answer")
            .capability(Capability::Http)
            .capability(Capability::Secrets)
    }

    fn validate(config: &Config) -> Vec<Diagnostic> {
        let mut found = Vec::new();
        if !config.url.starts_with("http://") && !config.url.starts_with("https://") {
            let message = format!("`{}` is no URL of http or https", config.url);
            found.push(Diagnostic::error("config", message).at("url").help("begin it with `https://`"));
        }
        if config.message.is_none() && config.body.is_none() {
            found.push(Diagnostic::error("config", "there is nothing to say").help("set `message` or `body`"));
        }
        found
    }

    fn run(config: Config) -> Result<Outcome> {
        match send(&config) {
            Err(error) if config.best_effort && !error.is_denied() => {
                log::warn(format!("nobody was told: {error}"));
                outputs::report(Diagnostic::warning("not-notified", error.message).at("url"));
                Ok(Outcome::Succeeded)
            }
            Err(error) => Err(error),
            Ok(()) => Ok(Outcome::Succeeded),
        }
    }
}

impl Reconcile for Notify {
    /// There is nobody to ask. Where nobody minds a message that is lost, nobody minds one that comes twice; elsewhere
    /// a person has to look.
    fn observe(config: Config) -> Result<Observation> {
        if config.best_effort {
            return Ok(Observation::NotStarted);
        }
        Ok(Observation::Unknown(format!("whether {} was told, only the other side knows", config.url)))
    }

    fn undo(config: Config) -> Result<()> {
        Err(Error::failed(format!("{} was told, and that can't be taken back", config.url)))
    }
}

fn send(config: &Config) -> Result<()> {
    let payload = payload::make(config);
    let mut request = Request::new(&config.method, &config.url);
    request.timeout(config.timeout.0).header("content-type", payload.media_type).body(payload.body.as_bytes());
    for (name, value) in &config.headers {
        request.header(name, value);
    }
    if let Some(secret) = &config.secret {
        request.secret_header(&config.secret_header, &config.secret_prefix, &secrets::get(secret)?);
    }
    let mut answer = request.send().map_err(|error| error.context(format!("{} doesn't answer", config.url)))?;
    let status = answer.status();
    outputs::set("status", &status)?;
    if config.expect.contains(status) {
        log::info(format!("{} answered {status}", config.url));
        return Ok(());
    }
    let body = answer.bytes(1 << 20).unwrap_or_default();
    let shown = String::from_utf8_lossy(&body[..body.len().min(SHOWN)]).into_owned();
    let message = format!("{} answered {status}, expected {}", config.url, config.expect);
    let error = Error::new(ErrorCode::Unavailable, message).causes((!shown.is_empty()).then_some(shown));
    // 429 and 5xx speak of the server's state, the rest of the request.
    Err(if status == 429 || status >= 500 { error.retryable() } else { error })
}

stagewright_sdk::export_effectful_stage!(Notify);

#[cfg(test)]
mod tests;
