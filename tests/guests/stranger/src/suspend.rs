//! Waits between two calls of the stage.

use std::time::Duration;

use serde::Deserialize;
use stagewright_sdk::gate::{Resumption, resumption};
use stagewright_sdk::{JsonSchema, Outcome, Result, Suspension, schemars, workspace};

/// A wait for a time or a signal.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Suspend {
    token: String,
    #[serde(default)]
    reason: String,
    poll_after_ms: Option<u64>,
    expires_ms: Option<u64>,
    /// A file that must exist for the stage to be done; otherwise it is done after the first wait.
    until: Option<String>,
}

impl Suspend {
    pub(crate) fn perform(self, end: &mut Result<Outcome>) -> Result<String> {
        let Suspend { token, reason, poll_after_ms, expires_ms, until } = self;
        let is_done = until.is_none_or(|path| workspace::read(&path).is_ok());
        let ended = match resumption()? {
            Some(Resumption::Polled { token }) => Some(("poll", token, serde_json::Value::Null)),
            Some(Resumption::Signalled { token, payload }) => Some(("signal", token, payload)),
            Some(Resumption::Decision(_)) | None => None,
        };
        if let Some((cause, token, payload)) = ended.filter(|_| is_done) {
            return Ok(serde_json::json!({ "token": token, "cause": cause, "payload": payload }).to_string());
        }
        let mut wait = Suspension::new(&token, &reason);
        if let Some(delay) = poll_after_ms {
            wait = wait.poll_after(Duration::from_millis(delay));
        }
        if let Some(delay) = expires_ms {
            wait = wait.expires(Duration::from_millis(delay));
        }
        *end = Ok(Outcome::Suspended(wait));
        Ok("suspended".to_owned())
    }
}
