//! Waits until a release gives the right answers.

use std::time::Duration;

use stagewright_sdk::service::{Instance, State};
use stagewright_sdk::{Error, ErrorCode, Result, clock, context, http, log};

use crate::config::Probe;

/// How many lines of the release's log go with an error.
const LOG_LINES: u32 = 20;
/// One question that hangs must not use up the whole deadline.
const ANSWER: Duration = Duration::from_secs(5);

/// Asks until the answers are right. An error when the deadline passes, the release exits, or the stage is cancelled.
pub(crate) fn wait(instance: &Instance, name: &str, probe: &Probe) -> Result<()> {
    let url = format!("{}{}", instance.address().trim_end_matches('/'), probe.path);
    let start = clock::monotonic();
    let mut in_a_row = 0;
    let mut last = "it was never asked".to_owned();
    loop {
        if context::cancelled() {
            return Err(Error::new(ErrorCode::Cancelled, format!("cancelled while waiting for {name}")));
        }
        if instance.state()? == State::Exited {
            let message = format!("the release exited before its {name} check was good");
            return Err(with_log(Error::failed(message).cause(last), instance).help(format!(
                "see why the program exits; it has to listen on $HOST:$PORT (asked at {})",
                place(instance)
            )));
        }
        let waited = clock::monotonic().saturating_sub(start);
        let left = probe.deadline.0.saturating_sub(waited);
        if left.is_zero() {
            let message = format!("{name} was not good within {} s", probe.deadline.0.as_secs_f64());
            let error = Error::failed(message).cause(last);
            return Err(with_log(error, instance).help(format!(
                "the program has to listen on $HOST:$PORT (asked at {}) and answer GET {} with {}; if it needs \
                 longer, raise `{name}.deadline`",
                place(instance),
                probe.path,
                probe.status
            )));
        }
        match ask(&url, probe.status, left) {
            Ok(()) => {
                in_a_row += 1;
                if in_a_row >= probe.successes {
                    log::info(format!("{name} is good after {} ms", waited.as_millis()));
                    return Ok(());
                }
            }
            Err(reason) => {
                in_a_row = 0;
                last = reason;
            }
        }
        clock::sleep(probe.interval.0.min(left))?;
    }
}

/// Where the release is asked: its own HOST and PORT, but for a rehearsal, in which the port is another.
fn place(instance: &Instance) -> String {
    let address = instance.address();
    address.strip_prefix("http://").unwrap_or(&address).trim_end_matches('/').to_owned()
}

fn ask(url: &str, wanted: u16, left: Duration) -> std::result::Result<(), String> {
    let mut request = http::Request::get(url);
    // A redirect is an answer too, and not the right one unless asked for.
    request.max_redirects(0);
    let response = request.timeout(left.min(ANSWER)).send().map_err(|error| format!("GET {url}: {error}"))?;
    match response.status() {
        status if status == wanted => Ok(()),
        status => Err(format!("GET {url} was answered with {status} instead of {wanted}")),
    }
}

/// What the release wrote last says why, more often than not.
fn with_log(error: Error, instance: &Instance) -> Error {
    match instance.log_tail(LOG_LINES) {
        Ok(tail) if !tail.trim().is_empty() => error.cause(format!("the last lines of its log:\n{}", tail.trim_end())),
        Ok(_) => error.cause("it wrote nothing to its log"),
        Err(unread) => error.cause(format!("its log can't be read: {unread}")),
    }
}
