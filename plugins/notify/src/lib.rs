//! Sends a notification to a web hook.

mod config;
mod payload;

use stagewright_sdk::http::Request;
use stagewright_sdk::{
    Error, ErrorCode, Finding, Manifest, Observation, Outcome, Problem, Reconcile, Requirement, Result, Stage, log,
    outputs, secrets,
};

use crate::config::Config;

/// How many bytes of an unexpected response are shown.
const SHOWN: usize = 500;

/// The plugin.
#[derive(Debug)]
pub struct Notify;

impl Stage for Notify {
    type Config = Config;

    fn manifest() -> Manifest {
        stagewright_sdk::manifest!().output::<u16>("status", "The status of the response")
    }

    fn validate(config: &Config) -> Vec<Problem> {
        let mut found = Vec::new();
        if Requirement::url(&config.url).is_none() {
            let message = format!("`{}` isn't an http or https URL", config.url);
            found.push(Problem::at("url", message).help("start it with `https://`"));
        }
        if config.message.is_none() && config.body.is_none() {
            found.push(Problem::error("neither `message` nor `body` is set").help("set `message` or `body`"));
        }
        found
    }

    fn requirements(config: &Config) -> Vec<Requirement> {
        let net = Requirement::url(&config.url).map(|net| net.because("receives the notification"));
        let secret = config.secret.as_deref().map(Requirement::secret_header);
        net.into_iter().chain(secret.map(|secret| secret.because("authenticates the notification"))).collect()
    }

    fn run(config: Config) -> Result<Outcome> {
        match send(&config) {
            Err(error) if config.best_effort && !error.is_denied() => {
                log::warn(format!("notification failed: {error}"));
                Finding::warning("not-notified", error.message).report();
                Ok(Outcome::Succeeded)
            }
            Err(error) => Err(error),
            Ok(()) => Ok(Outcome::Succeeded),
        }
    }
}

impl Reconcile for Notify {
    /// A web hook can't be queried for what it received. With `best-effort`, a duplicate is acceptable, so the notification
    /// is sent again; otherwise a person has to find out.
    fn observe(config: Config) -> Result<Observation> {
        if config.best_effort {
            return Ok(Observation::NotStarted);
        }
        Ok(Observation::Unknown(format!("it can't be determined whether {} received the notification", config.url)))
    }

    fn undo(config: Config) -> Result<()> {
        Err(Error::failed(format!("{} was notified, which can't be undone", config.url)))
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
    let mut response =
        request.send().map_err(|error| error.context(format!("can't send the notification to {}", config.url)))?;
    let status = response.status();
    outputs::set("status", &status)?;
    if config.expect.contains(status) {
        log::info(format!("{} returned {status}", config.url));
        return Ok(());
    }
    let body = response.bytes(1 << 20).unwrap_or_default();
    let shown = String::from_utf8_lossy(&body[..body.len().min(SHOWN)]).into_owned();
    let message = format!("{} returned {status}, expected {}", config.url, config.expect);
    let error = Error::new(ErrorCode::Unavailable, message).causes((!shown.is_empty()).then_some(shown));
    // 429 and 5xx depend on the state of the server, so a retry can help. Other statuses depend on the request.
    Err(if status == 429 || status >= 500 { error.retryable() } else { error })
}

stagewright_sdk::export_effectful_stage!(Notify);

#[cfg(test)]
mod tests;
