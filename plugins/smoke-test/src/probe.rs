//! Runs a check until it passes or its retries are used up.

use std::time::Duration;

use stagewright_sdk::http::Request;
use stagewright_sdk::{Result, clock};

use crate::check::{Check, Response};
use crate::config::Config;

/// Limit in bytes for the body of a response.
const BODY_LIMIT: usize = 4 << 20;

/// The last attempt at a check.
pub(crate) struct Attempt {
    /// The attempt's number, from 1.
    pub(crate) number: u32,
    /// None when there was no response.
    pub(crate) latency: Option<Duration>,
    /// The expectations that weren't met; empty when the check passed.
    pub(crate) unmet: Vec<String>,
}

/// Runs the check. An error only if the stage is cancelled or isn't granted the request.
pub(crate) fn probe(config: &Config, check: &Check) -> Result<Attempt> {
    let interval = check.interval.unwrap_or(config.interval).0;
    let deadline = check.deadline.or(config.deadline).map(|deadline| deadline.0);
    let retries = check.retries.or(config.retries).unwrap_or(if deadline.is_some() { u32::MAX } else { 0 });
    let start = clock::monotonic();
    let mut number = 1;
    loop {
        let attempt = try_once(config, check, number)?;
        let too_late = deadline.is_some_and(|deadline| clock::monotonic() + interval > start + deadline);
        if attempt.unmet.is_empty() || number > retries || too_late {
            return Ok(attempt);
        }
        clock::sleep(interval)?;
        number += 1;
    }
}

fn try_once(config: &Config, check: &Check, number: u32) -> Result<Attempt> {
    let url = format!("{}{}", config.url.trim_end_matches('/'), check.path);
    match send(config, check, &url) {
        Ok(response) => Ok(Attempt { number, latency: Some(response.latency), unmet: check.unmet(&response) }),
        // A denial and a cancellation aren't failures of the service, and a retry wouldn't help.
        Err(error) if error.is_denied() || error.is_cancelled() => Err(error),
        Err(error) => Ok(Attempt { number, latency: None, unmet: vec![error.message] }),
    }
}

/// Sends the request. The latency includes the body if the check needs it.
fn send(config: &Config, check: &Check, url: &str) -> Result<Response> {
    let mut request = Request::new(&check.method, url);
    request.timeout(config.timeout.0);
    if let Some(redirects) = check.redirects {
        request.max_redirects(redirects);
    }
    for (name, value) in &check.headers {
        request.header(name, value);
    }
    if let Some(body) = &check.body {
        request.body(body.as_bytes());
    }
    let start = clock::monotonic();
    let mut response = request.send()?;
    let body = if check.needs_body() { response.bytes(BODY_LIMIT)? } else { Vec::new() };
    let latency = clock::monotonic() - start;
    let headers = check.header.keys().map(|name| response.header(name)).collect();
    Ok(Response { status: response.status(), headers, body, latency })
}
