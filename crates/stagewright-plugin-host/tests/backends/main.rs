//! The backends that stages act on: image registries, embedded and remote, and supervised services.

#![expect(clippy::disallowed_methods, reason = "tests read what they made themselves")]
#![expect(clippy::unwrap_used, reason = "in a test, a panic is the failure")]

mod distribution;
mod embedded;
mod image;
mod place;
mod proxied;
mod remote;
mod services;
mod stand_in;

use std::time::{Duration, Instant};

use stagewright_plugin_host::{CapabilityError, ErrorCode};

/// The timeout for anything that must happen, even on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Checks an error's code, and that its message or help contains all `mentions`.
#[track_caller]
fn refused<T: std::fmt::Debug>(
    result: Result<T, impl Into<CapabilityError> + std::fmt::Debug>,
    code: &ErrorCode,
    mentions: &[&str],
) {
    let error: CapabilityError = result.unwrap_err().into();
    let text = format!("{} {}", error.message, error.help.clone().unwrap_or_default());
    assert_eq!(error.code, *code, "{error:?}");
    for mention in mentions {
        assert!(text.contains(mention), "{mention:?} is not in {text:?}");
    }
}

/// Repeats `ask` until it returns something.
async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
