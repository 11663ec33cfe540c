//! Waits until a version is ready.

use std::time::Duration;

use stagewright_sdk::{Error, ErrorCode, Result, clock, context, http, log};

use crate::probe::Probe;
use crate::target::{Described, Progress, Target};

/// How many lines of the version's log an error shows.
const LOG_LINES: u32 = 20;
/// The timeout of one request, so that one that hangs doesn't use up the whole deadline.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Waits until each replica of the version has passed each of the checks in turn, each of which has its key in `with`. A target
/// calls it for replicas that it adds to a version, or for a version that can be checked only once it has requests.
///
/// # Errors
/// If a deadline passes, the version fails, or the stage is cancelled.
pub fn wait_until_ready<T: Target>(target: &T, probes: &[(&str, Probe)], version: &T::Version) -> Result<()> {
    let addresses = target.addresses(version);
    probes.iter().try_for_each(|(name, probe)| match addresses.is_empty() {
        true => pass(target, version, name, probe, None),
        false => addresses.iter().try_for_each(|address| pass(target, version, name, probe, Some(address))),
    })
}

/// Repeats the check until it passes. Fails when the deadline passes, the version fails, or the stage is cancelled.
fn pass<T: Target>(
    target: &T,
    version: &T::Version,
    name: &str,
    probe: &Probe,
    address: Option<&String>,
) -> Result<()> {
    let Described { advice, .. } = target.describe(version);
    let url = address.map(|address| format!("{}{}", address.trim_end_matches('/'), probe.path));
    let start = clock::monotonic();
    let mut in_a_row = 0;
    let mut last = format!("its {name} check was never reached");
    loop {
        if context::cancelled() {
            return Err(Error::cancelled(format!("cancelled while waiting for the {name} check")));
        }
        let progress = target.observe(version)?;
        if let Progress::Failed(reason) = progress {
            let message = format!("the release {reason} before its {name} check passed");
            let help = format!("find out why the program exits; {advice}");
            return Err(with_log(Error::failed(message).cause(last), target, version).help(help));
        }
        let waited = clock::monotonic().saturating_sub(start);
        let left = probe.deadline.0.saturating_sub(waited);
        if left.is_zero() {
            let message = format!("the {name} check didn't pass within {} s", probe.deadline.0.as_secs_f64());
            let error = with_log(Error::failed(message).cause(last), target, version);
            return Err(error.help(match &url {
                Some(_) => format!(
                    "{advice} and answer GET {} with {}; if it needs more time, raise `{name}.deadline`",
                    probe.path, probe.status
                ),
                None => format!("{advice}; if it needs more time, raise `{name}.deadline`"),
            }));
        }
        match check(progress, url.as_deref(), probe.status, left) {
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

/// Whether the version is ready: the target says so, and so does the answer to a request, if it can be reached.
fn check(progress: Progress, url: Option<&str>, expected: u16, left: Duration) -> std::result::Result<(), String> {
    match (progress, url) {
        (Progress::Starting(reason) | Progress::Failed(reason), _) => Err(reason),
        (Progress::Running, Some(url)) => request(url, expected, left),
        (Progress::Running, None) => Ok(()),
    }
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

/// Adds the last lines of the version's log, which usually have the reason.
fn with_log<T: Target>(error: Error, target: &T, version: &T::Version) -> Error {
    match target.log_tail(version, LOG_LINES) {
        Ok(tail) if !tail.trim().is_empty() => error.cause(format!("the last lines of its log:\n{}", tail.trim_end())),
        Ok(_) => error.cause("it wrote nothing to its log"),
        // The target keeps no logs.
        Err(failure) if failure.code == ErrorCode::Unimplemented => error,
        Err(failure) => error.cause(format!("its log can't be read: {failure}")),
    }
}
