//! A durable wait for people's decision, and what a stage learns after any durable wait.
//!
//! A stage opens an [`Approval`] and returns [`crate::Outcome::Suspended`]. After the decision, the stage is run again from
//! its start, and [`decision`] returns it. After a wait of its own ([`Suspension::new`]), [`resumption`] says how it ended.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value as Json;

use crate::duration::millis;
use crate::{Error, Result, Suspension, host};

pub use crate::field_kind::FieldKind;

/// A request for approval.
#[derive(Debug)]
pub struct Approval(host::gate::Approval);

impl Approval {
    /// `message` is shown to approvers.
    pub fn new(message: impl AsRef<str>) -> Approval {
        Approval(host::gate::Approval::new(message.as_ref()))
    }

    /// Adds an approver: `team:NAME` or a user. Without any: the approvers of the gate's
    /// environments, or everyone if these have none.
    pub fn approver(&mut self, who: &str) -> &mut Approval {
        self.0.approver(who);
        self
    }

    /// Sets how many approvals are required. Default: 1.
    pub fn approvals(&mut self, count: u32) -> &mut Approval {
        self.0.approvals(count);
        self
    }

    /// Adds a field to the form that comes with an approval.
    pub fn field(&mut self, name: &str, kind: FieldKind, description: &str, required: bool) -> &mut Approval {
        self.add(name, kind, None, description, required)
    }

    /// Adds a field whose value is one of these texts.
    pub fn choice(&mut self, name: &str, choices: &[String], description: &str, required: bool) -> &mut Approval {
        self.add(name, FieldKind::Text, Some(choices), description, required)
    }

    fn add(
        &mut self,
        name: &str,
        kind: FieldKind,
        choices: Option<&[String]>,
        description: &str,
        required: bool,
    ) -> &mut Approval {
        let field = host::gate::Field::new(name, kind.name());
        field.description(description);
        if required {
            field.required();
        }
        if let Some(choices) = choices {
            field.choices(choices);
        }
        self.0.field(field);
        self
    }

    /// Sets when the gate expires.
    pub fn expires(&mut self, after: Duration) -> &mut Approval {
        self.0.expires_ms(millis(after));
        self
    }

    /// Opens the gate. Return the result in [`crate::Outcome::Suspended`].
    ///
    /// # Errors
    /// When the approval is invalid: two fields have the same name, a choice has no texts.
    pub fn open(&mut self) -> Result<Suspension> {
        Ok(Suspension(self.0.open()?))
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

/// Why a stage is run again after it returned [`crate::Outcome::Suspended`].
#[derive(Clone, Debug, PartialEq)]
pub enum Resumption {
    /// People have decided on its gate.
    Decision(Decision),
    /// The time of its wait has passed, or what ended it is unknown to this version of the SDK.
    Polled {
        /// The wait's token.
        token: String,
    },
    /// A signal has ended its wait.
    Signalled {
        /// The wait's token.
        token: String,
        /// What came with the signal; null if nothing did.
        payload: Json,
    },
}

/// The host's record of how a wait ended. That of a decision has no `cause`.
#[derive(Deserialize)]
struct Record {
    token: String,
    #[serde(default)]
    cause: Option<Cause>,
    #[serde(default)]
    payload: Json,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Cause {
    Signal,
    /// `poll`, or a cause that a later version of the engine has: the stage looks where its work stands in either case.
    #[serde(other)]
    Poll,
}

#[derive(Deserialize)]
struct Decisions {
    #[serde(default)]
    decisions: Option<Vec<Decision>>,
}

/// Why the stage is run again; none on its first call.
///
/// # Errors
/// When the host's record can't be parsed.
pub fn resumption() -> Result<Option<Resumption>> {
    let Some(json) = host::context::resumption() else { return Ok(None) };
    let failed = |error| Error::from(error).context("can't use the host's record of the wait");
    let Record { token, cause, payload } = serde_json::from_str(&json).map_err(failed)?;
    Ok(Some(match cause {
        None => Resumption::Decision(serde_json::from_str(&json).map_err(failed)?),
        Some(Cause::Poll) => Resumption::Polled { token },
        Some(Cause::Signal) => Resumption::Signalled { token, payload },
    }))
}

/// The last decision on the last gate that this attempt opened, also after a later wait; none before it has opened one.
///
/// # Errors
/// When the host's record can't be parsed.
pub fn decision() -> Result<Option<Decision>> {
    let Some(json) = host::context::resumption() else { return Ok(None) };
    let failed = |error| Error::from(error).context("can't use the host's record of the decision");
    let Decisions { decisions } = serde_json::from_str(&json).map_err(failed)?;
    Ok(match (decisions, resumption()?) {
        (Some(mut decisions), _) => decisions.pop(),
        (None, Some(Resumption::Decision(decision))) => Some(decision),
        (None, _) => None,
    })
}
