//! Sends a notification to a web hook, to Slack, to Matrix or by e-mail.

mod config;
mod email;
mod matrix;
mod payload;
mod slack;

use std::time::Duration;

use stagewright_sdk::http::{Request, Response};
use stagewright_sdk::{
    Error, ErrorCode, Finding, Manifest, Observation, Outcome, Problem, Reconcile, Requirement, Result, Stage,
    Statuses, log, outputs, secrets,
};

use crate::config::{Config, Matrix, Slack};
use crate::matrix::MatrixError;

/// How many bytes of an unexpected response are shown.
const SHOWN: usize = 500;

/// The plugin.
#[derive(Debug)]
pub struct Notify;

impl Stage for Notify {
    type Config = Config;

    fn manifest() -> Manifest {
        stagewright_sdk::manifest!().output::<u16>("status", "The status of the response; none for an e-mail")
    }

    fn validate(config: &Config) -> Vec<Problem> {
        config::problems(config)
    }

    fn requirements(config: &Config) -> Vec<Requirement> {
        if let Some(email) = &config.email {
            return email.requirements();
        }
        let secret = match (&config.slack, &config.matrix) {
            (Some(slack), _) => Some(&slack.secret),
            (None, Some(matrix)) => Some(&matrix.secret),
            (None, None) => config.secret.as_ref(),
        };
        let net = Requirement::url(server(config)).map(|net| net.because("receives the notification"));
        let secret = secret.map(|secret| Requirement::secret_header(secret).because("authenticates the notification"));
        net.into_iter().chain(secret).collect()
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
    /// Nothing can be asked for what it received. With `best-effort`, a duplicate is acceptable, so the notification is sent
    /// again. Matrix recognises one that it has received already. Otherwise a person has to find out.
    fn observe(config: Config) -> Result<Observation> {
        if config.best_effort || config.matrix.is_some() {
            return Ok(Observation::NotStarted);
        }
        let server = server(&config);
        Ok(Observation::Unknown(format!("it can't be determined whether {server} received the notification")))
    }

    fn undo(config: Config) -> Result<()> {
        Err(Error::failed(format!("{} was notified, which can't be undone", server(&config))))
    }
}

stagewright_sdk::export_effectful_stage!(Notify);

/// What the notification is sent to.
fn server(config: &Config) -> &str {
    match config {
        Config { slack: Some(slack), .. } => &slack.origin,
        Config { matrix: Some(matrix), .. } => &matrix.homeserver,
        Config { email: Some(email), .. } => &email.server,
        Config { url, .. } => url.as_deref().unwrap_or_default(),
    }
}

fn send(config: &Config) -> Result<()> {
    match config {
        Config { slack: Some(slack), .. } => to_slack(config, slack),
        Config { matrix: Some(matrix), .. } => to_matrix(config, matrix),
        Config { email: Some(email), .. } => email::send(config, email),
        Config { url, .. } => to_web_hook(config, url.as_deref().unwrap_or_default()),
    }
}

fn to_web_hook(config: &Config, url: &str) -> Result<()> {
    let payload = payload::make(config);
    let mut request = Request::new(&config.method, url);
    request.header("content-type", payload.media_type).body(payload.body.as_bytes());
    for (name, value) in &config.headers {
        request.header(name, value);
    }
    if let Some(secret) = &config.secret {
        request.secret_header(&config.secret_header, &config.secret_prefix, &secrets::get(secret)?);
    }
    let response = sent(request, config, url)?;
    expect(response, &config.expect, url)
}

fn to_slack(config: &Config, slack: &Slack) -> Result<()> {
    let mut request = Request::post(&slack.origin);
    request.url_secret(&secrets::get(&slack.secret)?).json(&slack::message(config, slack))?;
    let response = sent(request, config, &slack.origin)?;
    expect(response, &Statuses::default(), &slack.origin)
}

fn to_matrix(config: &Config, matrix: &Matrix) -> Result<()> {
    let mut request = Request::new("PUT", &matrix::url(config, matrix));
    request
        .secret_header("authorization", "Bearer ", &secrets::get(&matrix.secret)?)
        .json(&matrix::content(config, matrix))?;
    let mut response = sent(request, config, &matrix.homeserver)?;
    if response.is_success() {
        return expect(response, &Statuses::default(), &matrix.homeserver);
    }
    let status = response.status();
    let told: MatrixError = response.json().unwrap_or_default();
    let message = format!("{} returned {status} {}", matrix.homeserver, told.errcode);
    let error =
        Error::new(ErrorCode::Unavailable, message.trim()).causes((!told.error.is_empty()).then_some(told.error));
    Err(match told.retry_after_ms {
        Some(delay) => error.retry_after(Duration::from_millis(delay)),
        None if is_of_the_moment(status) => error.retryable(),
        None => error,
    })
}

/// Sends the request, and sets the output.
fn sent(mut request: Request, config: &Config, server: &str) -> Result<Response> {
    request.timeout(config.timeout.0);
    let response = request.send().map_err(|error| error.context(format!("can't send the notification to {server}")))?;
    outputs::set("status", &response.status())?;
    Ok(response)
}

fn expect(mut response: Response, expected: &Statuses, server: &str) -> Result<()> {
    let status = response.status();
    if expected.contains(status) {
        log::info(format!("{server} returned {status}"));
        return Ok(());
    }
    let body = response.bytes(1 << 20).unwrap_or_default();
    let shown = String::from_utf8_lossy(&body[..body.len().min(SHOWN)]).into_owned();
    let message = format!("{server} returned {status}, expected {expected}");
    let error = Error::new(ErrorCode::Unavailable, message).causes((!shown.is_empty()).then_some(shown));
    Err(if is_of_the_moment(status) { error.retryable() } else { error })
}

/// 429 and 5xx depend on the state of the server, so a retry can help. Other statuses depend on the request.
fn is_of_the_moment(status: u16) -> bool {
    status == 429 || status >= 500
}

#[cfg(test)]
mod tests;
