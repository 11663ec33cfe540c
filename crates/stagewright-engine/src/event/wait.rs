//! Waits of attempts for something other than a person, and the signals that end them early.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use stagewright_model::{StageIndex, is_invisible, range};

use super::Timestamp;

/// The most bytes of a token.
const TOKEN: usize = 256;

/// The most bytes of the reason for a wait.
const REASON: usize = 4 * 1024;

/// The most bytes of a payload, written as compact JSON.
const PAYLOAD: usize = 64 * 1024;

/// The most signals that a run keeps for waits that aren't open yet.
pub(crate) const KEPT_SIGNALS: usize = 100;

/// What a plugin waits for between two calls of its `run`: a time, a signal, or whichever comes first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Wait {
    /// Chosen by the plugin, for example the id of a remote job: 1 to 256 bytes without invisible characters. The next
    /// call gets it back, and a signal is addressed to it.
    pub token: String,
    /// What it waits for, in a sentence of at most 4 KiB.
    pub reason: String,
    /// When it is called again at the latest, within [`range::POLL`]; none to wait for a signal alone.
    pub poll_after: Option<Duration>,
    /// When its stage ends as timed out if the wait hasn't ended, within [`range::WAIT`]; none for no limit.
    #[serde(default)]
    pub expires: Option<Duration>,
}

impl Wait {
    /// Checks the limits of its fields.
    ///
    /// # Errors
    /// If one of them is exceeded.
    pub fn check(&self) -> Result<(), WaitError> {
        check_token(&self.token)?;
        if self.reason.len() > REASON {
            return Err(WaitError::ReasonTooLong(self.reason.len()));
        }
        if let Some(after) = self.expires.filter(|after| !range::WAIT.contains(*after)) {
            return Err(WaitError::Expiry(after));
        }
        match self.poll_after {
            Some(after) if !range::POLL.contains(after) => Err(WaitError::PollInterval { after }),
            _ => Ok(()),
        }
    }
}

/// What is wrong with a [`Wait`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WaitError {
    /// The token is invalid.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The reason has this many bytes.
    #[error("the reason for a wait must have at most {REASON} bytes, not {0}")]
    ReasonTooLong(usize),
    /// The expiry is out of range.
    #[error("a wait must expire after {wait}, not after {0:?}", wait = range::WAIT)]
    Expiry(Duration),
    /// The poll interval is out of range.
    #[error("the poll interval of a wait must be {}, not {after:?}", range::POLL)]
    PollInterval {
        /// The interval.
        after: Duration,
    },
}

/// What is wrong with the token of a wait.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It has this many bytes.
    #[error("the token of a wait must have 1 to {TOKEN} bytes, not {0}")]
    Length(usize),
    /// It contains this character.
    #[error("the token of a wait must not contain the invisible character {0:?}")]
    Invisible(char),
}

fn check_token(token: &str) -> Result<(), TokenError> {
    if token.is_empty() || token.len() > TOKEN {
        return Err(TokenError::Length(token.len()));
    }
    token.chars().find(|&character| is_invisible(character)).map_or(Ok(()), |found| Err(TokenError::Invisible(found)))
}

/// A message that ends a wait before its poll is due.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Signal {
    /// Unique among the signals of the state folder, which numbers them from 1 in the order in which they were sent. 0
    /// if a rehearsal sent it automatically.
    pub number: u64,
    /// The token of the wait.
    pub token: String,
    /// The stage that waits; none for any stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<StageIndex>,
    /// Passed to the plugin; at most 64 KiB as compact JSON.
    #[serde(default)]
    pub payload: Json,
    /// Who sent it.
    pub by: String,
    /// When it was sent.
    pub at: Timestamp,
}

impl Signal {
    /// Checks the limits of its token and its payload.
    ///
    /// # Errors
    /// If one of them is exceeded.
    pub fn check(&self) -> Result<(), SignalError> {
        check_token(&self.token)?;
        let size = self.payload.to_string().len();
        if size > PAYLOAD { Err(SignalError::PayloadTooLarge(size)) } else { Ok(()) }
    }

    /// Whether it ends a wait of the stage for this token.
    pub fn ends(&self, stage: StageIndex, token: &str) -> bool {
        self.token == token && self.stage.is_none_or(|only| only == stage)
    }
}

/// Why a signal is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignalError {
    /// No wait can have its token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The payload has this many bytes.
    #[error("the payload of a signal must have at most {PAYLOAD} bytes of JSON, not {0}")]
    PayloadTooLarge(usize),
    /// The run has ended.
    #[error("the run has ended")]
    RunEnded,
    /// The stage has ended, or the run has no such stage.
    #[error("the stage has ended")]
    StageEnded,
    /// The run keeps as many signals as it can.
    #[error("the run keeps {KEPT_SIGNALS} signals already, for waits that haven't begun")]
    TooMany,
}
