//! Waits until a release passes a check.

use std::time::Duration;

use stagewright_sdk::service::{Instance, State};
use stagewright_sdk::{Error, Result, clock, context, http, log};

use crate::config::Probe;

/// How many lines of the release's log an error shows.
const LOG_LINES: u32 = 20;
/// The timeout of one request, so that one that hangs doesn't use up the whole deadline.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Repeats the check until it passes. Fails when the deadline passes, the release exits, or the stage is cancelled.
pub(crate) fn wait(instance: &Instance, name: &str, probe: &Probe) -> Result<()> {
    let url = format!("{}{}", instance.address().trim_end_matches('/'), probe.path);
    let start = clock::monotonic();
    let mut in_a_row = 0;
    let mut last = format!("its {name} check was never reached");
    loop {
        if context::cancelled() {
            return Err(Error::cancelled(format!("cancelled while waiting for the {name} check")));
        }
        if instance.state()? == State::Exited {
            let message = format!("the release exited before its {name} check passed");
            return Err(with_log(Error::failed(message).cause(last), instance).help(format!(
                "find out why the program exits; it has to listen on $HOST:$PORT (checked at {})",
                place(instance)
            )));
        }
        let waited = clock::monotonic().saturating_sub(start);
        let left = probe.deadline.0.saturating_sub(waited);
        if left.is_zero() {
            let message = format!("the {name} check didn't pass within {} s", probe.deadline.0.as_secs_f64());
            let error = Error::failed(message).cause(last);
            return Err(with_log(error, instance).help(format!(
                "the program has to listen on $HOST:$PORT (checked at {}) and answer GET {} with {}; if it needs \
                 more time, raise `{name}.deadline`",
                place(instance),
                probe.path,
                probe.status
            )));
        }
        match request(&url, probe.status, left) {
            Ok(()) => {
                in_a_row += 1;
                if in_a_row >= probe.successes {
                    log::info(format!("{name} check passed after {} ms", waited.as_millis()));
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

/// Host and port of the release's address. They are the program's HOST and PORT, except for the port in a rehearsal.
fn place(instance: &Instance) -> String {
    let address = instance.address();
    address.strip_prefix("http://").unwrap_or(&address).trim_end_matches('/').to_owned()
}

fn request(url: &str, expected: u16, left: Duration) -> std::result::Result<(), String> {
    let mut request = http::Request::get(url);
    // A redirect isn't followed: it passes only if its status is the expected one.
    request.max_redirects(0);
    let response = request.timeout(left.min(REQUEST_TIMEOUT)).send().map_err(|error| format!("GET {url}: {error}"))?;
    match response.status() {
        status if status == expected => Ok(()),
        status => Err(format!("GET {url} returned {status}, expected {expected}")),
    }
}

/// Adds the last lines of the release's log, which usually have the reason.
fn with_log(error: Error, instance: &Instance) -> Error {
    match instance.log_tail(LOG_LINES) {
        Ok(tail) if !tail.trim().is_empty() => error.cause(format!("the last lines of its log:\n{}", tail.trim_end())),
        Ok(_) => error.cause("it wrote nothing to its log"),
        Err(failure) => error.cause(format!("its log can't be read: {failure}")),
    }
}
