//! Makes a check, as often as it takes or may be tried.

use std::time::Duration;

use stagewright_sdk::http::Request;
use stagewright_sdk::{Result, clock};

use crate::check::{Answer, Check};
use crate::config::Config;

/// Bytes of a body that a check looks at.
const BODY_LIMIT: usize = 4 << 20;

/// How the last try of a check went.
pub(crate) struct Attempt {
    /// 1 for the first.
    pub(crate) number: u32,
    /// None when no answer came.
    pub(crate) latency: Option<Duration>,
    /// Nothing when all was well.
    pub(crate) complaints: Vec<String>,
}

/// Fails when the stage is stopped, or may not call the service.
pub(crate) fn probe(config: &Config, check: &Check) -> Result<Attempt> {
    let interval = check.interval.unwrap_or(config.interval).0;
    let deadline = check.deadline.or(config.deadline).map(|deadline| deadline.0);
    let retries = check.retries.or(config.retries).unwrap_or(if deadline.is_some() { u32::MAX } else { 0 });
    let start = clock::monotonic();
    let mut number = 1;
    loop {
        let attempt = try_once(config, check, number)?;
        let too_late = deadline.is_some_and(|deadline| clock::monotonic() + interval > start + deadline);
        if attempt.complaints.is_empty() || number > retries || too_late {
            return Ok(attempt);
        }
        clock::sleep(interval)?;
        number += 1;
    }
}

fn try_once(config: &Config, check: &Check, number: u32) -> Result<Attempt> {
    let url = format!("{}{}", config.url.trim_end_matches('/'), check.path);
    match ask(config, check, &url) {
        Ok(answer) => Ok(Attempt { number, latency: Some(answer.latency), complaints: check.complaints(&answer) }),
        // Only what time may heal is worth a try, and only what the service did is its failure.
        Err(error) if error.is_denied() || error.code == stagewright_sdk::ErrorCode::Cancelled => Err(error),
        Err(error) => Ok(Attempt { number, latency: None, complaints: vec![error.message] }),
    }
}

/// The latency is that of the whole answer, its body included when the check looks at it.
fn ask(config: &Config, check: &Check, url: &str) -> Result<Answer> {
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
    let body = if check.looks_at_body() { response.bytes(BODY_LIMIT)? } else { Vec::new() };
    let latency = clock::monotonic() - start;
    let headers = check.header.keys().map(|name| response.header(name)).collect();
    Ok(Answer { status: response.status(), headers, body, latency })
}
