//! A durable wait for a person, which holds no worker and no live instance.
//!
//! A stage opens an [`Approval`] and returns [`crate::Outcome::Suspended`]. Once somebody has decided, the stage is
//! run again from its start, and [`decision`] answers.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value as Json;

use crate::{Error, Result, Suspension, host};

pub use crate::bindings::stage::stagewright::stage::gate::FieldKind;

/// A question to people.
#[derive(Debug)]
pub struct Approval {
    inner: host::gate::Approval,
    message: String,
}

impl Approval {
    /// `message` is what is asked.
    pub fn new(message: impl Into<String>) -> Approval {
        let message = message.into();
        Approval { inner: host::gate::Approval::new(&message), message }
    }

    /// Who may answer: `team:NAME` or a user. Without any, everyone may.
    pub fn approver(&mut self, who: &str) -> &mut Approval {
        self.inner.approver(who);
        self
    }

    /// How many approvals it takes; 1 unless set.
    pub fn approvals(&mut self, count: u32) -> &mut Approval {
        self.inner.approvals(count);
        self
    }

    /// A field that an approval must or may fill in.
    pub fn field(&mut self, name: &str, kind: FieldKind, description: &str, required: bool) -> &mut Approval {
        self.inner.field(name, kind, description, required);
        self
    }

    /// When the question lapses.
    pub fn expires(&mut self, after: Duration) -> &mut Approval {
        self.inner.expires_ms(u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// Opens the gate; the answer is for [`crate::Outcome::Suspended`].
    ///
    /// # Errors
    /// When the question doesn't hold: no approver exists, a field is named twice.
    pub fn open(&mut self) -> Result<Suspension> {
        let token = self.inner.open()?;
        Ok(Suspension { token, reason: self.message.clone(), poll_after: None })
    }
}

/// A person's answer.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Decision {
    /// The gate's token.
    pub token: String,
    /// Yes or no.
    pub approved: bool,
    /// Who.
    pub by: String,
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
    /// The form, filled in.
    #[serde(default)]
    pub fields: BTreeMap<String, Json>,
    /// Whether a rehearsal answered by itself.
    #[serde(default)]
    pub rehearsed: bool,
}

/// The decision on the gate that the stage opened; none when it has opened none yet.
///
/// # Errors
/// When the host's answer isn't a decision.
pub fn decision() -> Result<Option<Decision>> {
    let Some(json) = host::context::resumption() else { return Ok(None) };
    serde_json::from_str(&json).map(Some).map_err(|error| Error::from(error).context("can't use the gate's decision"))
}
