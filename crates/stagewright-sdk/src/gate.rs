//! A durable wait for a person's decision. While it waits it holds no worker and no instance of the plugin.
//!
//! A stage opens an [`Approval`] and returns [`crate::Outcome::Suspended`]. After the decision, the stage is run again from
//! its start, and [`decision`] returns it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value as Json;

use crate::{Error, Result, Suspension, host};

pub use crate::bindings::stage::stagewright::stage::gate::FieldKind;

/// A request for approval.
#[derive(Debug)]
pub struct Approval {
    inner: host::gate::Approval,
    message: String,
}

impl Approval {
    /// `message` is shown to approvers.
    pub fn new(message: impl Into<String>) -> Approval {
        let message = message.into();
        Approval { inner: host::gate::Approval::new(&message), message }
    }

    /// Adds an approver: `team:NAME` or a user. Without any: the approvers of the gate's
    /// environments, or everyone if these have none.
    pub fn approver(&mut self, who: &str) -> &mut Approval {
        self.inner.approver(who);
        self
    }

    /// Sets how many approvals are required. Default: 1.
    pub fn approvals(&mut self, count: u32) -> &mut Approval {
        self.inner.approvals(count);
        self
    }

    /// Adds a field to the form that comes with an approval.
    pub fn field(&mut self, name: &str, kind: FieldKind, description: &str, required: bool) -> &mut Approval {
        self.inner.field(name, kind, description, required);
        self
    }

    /// Sets when the gate expires.
    pub fn expires(&mut self, after: Duration) -> &mut Approval {
        self.inner.expires_ms(u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// Opens the gate. Return the result in [`crate::Outcome::Suspended`].
    ///
    /// # Errors
    /// When the approval is invalid: an approver doesn't exist, two fields have the same name.
    pub fn open(&mut self) -> Result<Suspension> {
        let token = self.inner.open()?;
        Ok(Suspension { token, reason: self.message.clone(), poll_after: None })
    }
}

/// A decision on a gate.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Decision {
    /// The gate's token.
    pub token: String,
    /// Whether it was approved or rejected.
    pub approved: bool,
    /// Who decided.
    pub by: String,
    /// The reason that was given.
    #[serde(default)]
    pub reason: Option<String>,
    /// The values of the form's fields.
    #[serde(default)]
    pub fields: BTreeMap<String, Json>,
    /// Whether a rehearsal approved it automatically.
    #[serde(default)]
    pub rehearsed: bool,
}

/// The decision on the gate that the stage opened; none before it has opened one.
///
/// # Errors
/// When the host's record can't be parsed.
pub fn decision() -> Result<Option<Decision>> {
    let Some(json) = host::context::resumption() else { return Ok(None) };
    serde_json::from_str(&json).map(Some).map_err(|error| Error::from(error).context("can't use the gate's decision"))
}
