//! `gate`: a question to a person, put together here and handed to the engine when the stage suspends.

use std::collections::BTreeMap;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use stagewright_engine::{AttemptRequest, Field, FieldKind, Gate, GateKind, Timestamp};
use stagewright_model::range;
use wasmtime::component::Resource;

use super::clock::now_ms;
use crate::attempt::Attempt;
use crate::call::{CallError, CallResult};
use crate::error::{CapabilityError, ErrorCode};
use crate::since_0_1::stagewright::stage::gate::{FieldKind as WitFieldKind, Host, HostApproval};

/// Approvers of one question, and its fields: more than a person reads.
const LISTED: usize = 100;

/// A gate to be.
#[derive(Clone, Debug)]
pub struct ApprovalBuilder {
    message: String,
    approvers: Vec<String>,
    approvals: u32,
    fields: Vec<Field>,
    expires_ms: Option<u64>,
}

impl ApprovalBuilder {
    fn new(message: String) -> ApprovalBuilder {
        ApprovalBuilder { message, approvers: Vec::new(), approvals: 1, fields: Vec::new(), expires_ms: None }
    }

    /// Bytes of its texts.
    fn size(&self) -> usize {
        let fields = self.fields.iter().map(|field| field.name.len() + field.description.len());
        self.message.len() + fields.chain(self.approvers.iter().map(String::len)).sum::<usize>()
    }
}

/// No handle: what is kept for gates that were opened.
const OPENED: u32 = u32::MAX;

/// The gates that an attempt has opened, by token.
#[derive(Debug, Default)]
pub(crate) struct Gates(BTreeMap<String, Gate>);

impl Gates {
    /// Gives the token.
    fn open(&mut self, approval: ApprovalBuilder, request: &AttemptRequest) -> Result<String, CapabilityError> {
        let ApprovalBuilder { message, approvers, approvals, fields, expires_ms } = approval;
        let invalid = |message: &str| Err(CapabilityError::new(ErrorCode::InvalidArgument, message));
        if message.trim().is_empty() {
            return invalid("an approval must say what is to be approved");
        }
        if approvers.len().max(fields.len()) > LISTED {
            return invalid("an approval names at most 100 approvers and 100 fields");
        }
        if !range::APPROVALS.contains(approvals.into()) {
            return invalid(&format!("an approval takes {} people, and not {approvals}", range::APPROVALS));
        }
        if let Some(expires) = expires_ms.filter(|expires| !range::WAIT.contains(Duration::from_millis(*expires))) {
            return invalid(&format!("a gate expires after {}, and not after {expires} ms", range::WAIT));
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
            // Who that is, and what is approved of, the engine adds.
            members: Vec::new(),
            approvals,
            environments: Vec::new(),
            fields,
            expires,
            until: None,
            binding: None,
            capture: None,
        };
        self.0.insert(token.clone(), gate);
        Ok(token)
    }

    /// The gate that the stage waits at.
    pub(crate) fn take(&mut self, token: &str) -> Option<Gate> {
        self.0.remove(token)
    }
}

impl HostApproval for Attempt {
    async fn new(&mut self, message: String) -> wasmtime::Result<Resource<ApprovalBuilder>> {
        let message = self.log.masker().text(&message);
        let size = message.len();
        let approval = self.table.push(ApprovalBuilder::new(message))?;
        self.keep(&approval, size)?;
        Ok(approval)
    }

    async fn approver(&mut self, approval: Resource<ApprovalBuilder>, who: String) -> wasmtime::Result<()> {
        self.keep(&approval, who.len())?;
        self.table.get_mut(&approval)?.approvers.push(who);
        Ok(())
    }

    async fn approvals(&mut self, approval: Resource<ApprovalBuilder>, count: u32) -> wasmtime::Result<()> {
        self.table.get_mut(&approval)?.approvals = count;
        Ok(())
    }

    async fn field(
        &mut self,
        approval: Resource<ApprovalBuilder>,
        name: String,
        kind: WitFieldKind,
        description: String,
        required: bool,
    ) -> wasmtime::Result<()> {
        let kind = match kind {
            WitFieldKind::Text => FieldKind::Text,
            WitFieldKind::Number => FieldKind::Number,
            WitFieldKind::Boolean => FieldKind::Boolean,
        };
        self.keep(&approval, name.len() + description.len())?;
        self.table.get_mut(&approval)?.fields.push(Field { name, kind, description, required });
        Ok(())
    }

    async fn expires_ms(&mut self, approval: Resource<ApprovalBuilder>, duration: u64) -> wasmtime::Result<()> {
        self.table.get_mut(&approval)?.expires_ms = Some(duration);
        Ok(())
    }

    async fn open(&mut self, approval: Resource<ApprovalBuilder>) -> CallResult<String> {
        // Each opening is kept for the end of the attempt.
        self.handed_over
            .take(OPENED, self.table.get(&approval)?.size())
            .map_err(|error| CallError::Trap(error.into()))?;
        let approval = self.table.get(&approval)?.clone();
        Ok(self.gates.open(approval, self.context.request())?)
    }

    async fn drop(&mut self, approval: Resource<ApprovalBuilder>) -> wasmtime::Result<()> {
        self.handed_over.drop(approval.rep());
        self.table.delete(approval)?;
        Ok(())
    }
}

impl Host for Attempt {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::request;

    #[test]
    fn each_opening_has_a_token_of_its_own() {
        let mut gates = Gates::default();
        let approval = ApprovalBuilder { expires_ms: Some(1000), ..ApprovalBuilder::new("deploy?".into()) };
        let first = gates.open(approval.clone(), &request()).unwrap();
        let second = gates.open(approval, &request()).unwrap();
        assert_ne!(first, second);
        let gate = gates.take(&first).unwrap();
        assert_eq!((gate.message.as_str(), gate.approvals), ("deploy?", 1));
        assert!(gate.expires.is_some() && gates.take(&first).is_none());
    }

    #[test]
    fn a_question_must_be_one() {
        let mut gates = Gates::default();
        let field = Field { name: "a".into(), kind: FieldKind::Text, description: String::new(), required: false };
        let bad = [
            ApprovalBuilder::new(" ".into()),
            ApprovalBuilder { approvals: 0, ..ApprovalBuilder::new("x".into()) },
            ApprovalBuilder { approvers: vec![String::new(); LISTED + 1], ..ApprovalBuilder::new("x".into()) },
            ApprovalBuilder { fields: vec![field.clone(), field], ..ApprovalBuilder::new("x".into()) },
        ];
        for approval in bad {
            assert_eq!(gates.open(approval, &request()).unwrap_err().code, ErrorCode::InvalidArgument);
        }
    }
}
