//! `gate`: approvals that a plugin requests. They are built here and passed to the engine when the stage suspends.

use std::collections::BTreeMap;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use stagewright_engine::{AttemptRequest, Field, FieldKind, Gate, GateKind, Timestamp};
use stagewright_model::range;

use super::clock::now_ms;
use crate::error::{CapabilityError, ErrorCode};

/// The most approvers, and the most fields, of one approval.
const LISTED: usize = 100;

/// A field of an approval's form, as a guest builds it.
#[derive(Clone, Debug)]
pub struct FieldBuilder {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) description: String,
    pub(crate) required: bool,
    pub(crate) choices: Option<Vec<String>>,
}

impl FieldBuilder {
    fn build(self) -> Result<Field, String> {
        let FieldBuilder { name, kind, description, required, choices } = self;
        let kind = match kind.as_str() {
            "text" => FieldKind::Text,
            "number" => FieldKind::Number,
            "boolean" => FieldKind::Boolean,
            other => return Err(format!("the field `{name}` must be a `text`, `number` or `boolean`, not `{other}`")),
        };
        if let Some(choices) = &choices {
            let is_repeated = |at: usize| choices[..at].contains(&choices[at]);
            let are_valid = (1..=LISTED).contains(&choices.len())
                && choices.iter().all(|choice| !choice.trim().is_empty())
                && !(0..choices.len()).any(is_repeated);
            if !are_valid {
                return Err(format!("the field `{name}` must have 1 to {LISTED} different choices"));
            }
            if kind != FieldKind::Text {
                return Err(format!("the field `{name}` has choices, and isn't a `text`"));
            }
        }
        Ok(Field { name, kind, description, required, choices: choices.unwrap_or_default() })
    }

    pub(crate) fn size(&self) -> usize {
        let choices = self.choices.iter().flatten().map(String::len).sum::<usize>();
        self.name.len() + self.kind.len() + self.description.len() + choices
    }
}

/// An approval that a guest is building.
#[derive(Clone, Debug)]
pub struct ApprovalBuilder {
    pub(crate) message: String,
    pub(crate) approvers: Vec<String>,
    pub(crate) approvals: u32,
    pub(crate) fields: Vec<FieldBuilder>,
    pub(crate) expires_ms: Option<u64>,
}

impl ApprovalBuilder {
    pub(crate) fn new(message: String) -> ApprovalBuilder {
        ApprovalBuilder { message, approvers: Vec::new(), approvals: 1, fields: Vec::new(), expires_ms: None }
    }

    /// The size of its texts in bytes.
    pub(crate) fn size(&self) -> usize {
        let fields = self.fields.iter().map(FieldBuilder::size);
        self.message.len() + fields.chain(self.approvers.iter().map(String::len)).sum::<usize>()
    }
}

/// The gates that an attempt has opened, by token.
#[derive(Debug, Default)]
pub(crate) struct OpenedGates(BTreeMap<String, Gate>);

impl OpenedGates {
    /// Opens a gate. It is kept under its token until [`OpenedGates::take`].
    pub(crate) fn open(
        &mut self,
        approval: ApprovalBuilder,
        request: &AttemptRequest,
    ) -> Result<Gate, CapabilityError> {
        let ApprovalBuilder { message, approvers, approvals, fields, expires_ms } = approval;
        let invalid = |message: &str| Err(CapabilityError::new(ErrorCode::InvalidArgument, message));
        if message.trim().is_empty() {
            return invalid("the message of an approval must not be empty");
        }
        if approvers.len().max(fields.len()) > LISTED {
            return invalid("an approval may have at most 100 approvers and 100 fields");
        }
        if !range::APPROVALS.contains(approvals.into()) {
            return invalid(&format!("the number of approvals must be {}, not {approvals}", range::APPROVALS));
        }
        let fields = fields.into_iter().map(FieldBuilder::build).collect::<Result<Vec<_>, String>>();
        let fields = fields.map_err(|message| CapabilityError::new(ErrorCode::InvalidArgument, message))?;
        if let Some(expires) = expires_ms.filter(|expires| !range::WAIT.contains(Duration::from_millis(*expires))) {
            return invalid(&format!("a gate must expire after {}, not after {expires} ms", range::WAIT));
        }
        if fields.iter().enumerate().any(|(at, field)| fields[..at].iter().any(|other| other.name == field.name)) {
            return invalid("two fields of the approval have the same name");
        }
        let now = now_ms();
        let seed = format!("{}\0{}\0{}\0{now}\0{}", request.run, request.stage_id, request.attempt, self.0.len());
        let token = crate::digest::hex(&Sha256::digest(seed)[..16]);
        let expires = expires_ms.map(|duration| Timestamp(now.saturating_add(duration)));
        let gate = Gate {
            token: token.clone(),
            kind: GateKind::Approval,
            message,
            approvers,
            // The engine fills in the members of teams and what the approval is bound to.
            members: Vec::new(),
            approvals,
            environments: Vec::new(),
            fields,
            expires,
            until: None,
            binding: None,
            capture: None,
            releases: None,
        };
        self.0.insert(token, gate.clone());
        Ok(gate)
    }

    /// Takes the gate with this token, which the stage suspends on.
    pub(crate) fn take(&mut self, token: &str) -> Option<Gate> {
        self.0.remove(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::request;

    #[test]
    fn each_opened_gate_has_a_token_of_its_own() {
        let mut gates = OpenedGates::default();
        let approval = ApprovalBuilder { expires_ms: Some(1000), ..ApprovalBuilder::new("deploy?".into()) };
        let first = gates.open(approval.clone(), &request()).unwrap();
        let second = gates.open(approval, &request()).unwrap();
        assert_ne!(first, second);
        let gate = gates.take(&first.token).unwrap();
        assert_eq!((gate.message.as_str(), gate.approvals), ("deploy?", 1));
        assert!(gate.expires.is_some() && gates.take(&first.token).is_none());
    }

    #[test]
    fn an_invalid_approval_is_refused() {
        let mut gates = OpenedGates::default();
        let field = |kind: &str, choices: Option<&[&str]>| FieldBuilder {
            name: "a".into(),
            kind: kind.into(),
            description: String::new(),
            required: false,
            choices: choices.map(|choices| choices.iter().map(ToString::to_string).collect()),
        };
        let with = |fields: Vec<FieldBuilder>| ApprovalBuilder { fields, ..ApprovalBuilder::new("x".into()) };
        let choice = |choices: &[&str]| with(vec![field("text", Some(choices))]);
        assert!(gates.open(choice(&["eu", "us"]), &request()).is_ok());
        let bad = [
            ApprovalBuilder::new(" ".into()),
            choice(&[]),
            choice(&["eu", "eu"]),
            choice(&[" "]),
            ApprovalBuilder { approvals: 0, ..ApprovalBuilder::new("x".into()) },
            ApprovalBuilder { approvers: vec![String::new(); LISTED + 1], ..ApprovalBuilder::new("x".into()) },
            with(vec![field("text", None), field("number", None)]),
            with(vec![field("date", None)]),
            with(vec![field("number", Some(&["1"]))]),
        ];
        for approval in bad {
            assert_eq!(gates.open(approval, &request()).unwrap_err().code, ErrorCode::InvalidArgument);
        }
    }
}
