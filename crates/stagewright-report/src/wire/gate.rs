//! Gates, and the answers of people.

use stagewright_api as api;
use stagewright_engine::{Capture, Decision, Field, FieldKind, Finding, Gate, GateKind, Made};

use super::ToWire;

impl ToWire for Gate {
    type Wire = api::Gate;

    fn to_wire(&self) -> api::Gate {
        let Gate {
            token,
            kind,
            message,
            approvers,
            members,
            approvals,
            environments,
            fields,
            expires,
            until,
            binding,
            capture,
        } = self;
        api::Gate {
            token: token.clone(),
            kind: kind.to_wire(),
            message: message.clone(),
            approvers: approvers.clone(),
            members: members.clone(),
            approvals: *approvals,
            environments: environments.clone(),
            fields: fields.to_wire(),
            expires: expires.to_wire(),
            until: until.to_wire(),
            binding: binding.clone(),
            capture: capture.to_wire(),
        }
    }
}

impl ToWire for GateKind {
    type Wire = api::GateKind;

    fn to_wire(&self) -> api::GateKind {
        match self {
            GateKind::Approval => api::GateKind::Approval,
            GateKind::Environment => api::GateKind::Environment,
            GateKind::Freeze => api::GateKind::Freeze,
            GateKind::Unresolved => api::GateKind::Unresolved,
        }
    }
}

impl ToWire for Field {
    type Wire = api::Field;

    fn to_wire(&self) -> api::Field {
        let Field { name, kind, description, required } = self;
        api::Field { name: name.clone(), kind: kind.to_wire(), description: description.clone(), required: *required }
    }
}

impl ToWire for FieldKind {
    type Wire = api::FieldKind;

    fn to_wire(&self) -> api::FieldKind {
        match self {
            FieldKind::Text => api::FieldKind::Text,
            FieldKind::Number => api::FieldKind::Number,
            FieldKind::Boolean => api::FieldKind::Boolean,
        }
    }
}

impl ToWire for Decision {
    type Wire = api::Decision;

    fn to_wire(&self) -> api::Decision {
        let Decision { token, approved, by, at, reason, fields, capture, rehearsed, finding } = self;
        api::Decision {
            token: token.clone(),
            approved: *approved,
            by: by.clone(),
            at: at.to_wire(),
            reason: reason.clone(),
            fields: fields.clone(),
            capture: capture.clone(),
            rehearsed: *rehearsed,
            finding: finding.to_wire(),
        }
    }
}

impl ToWire for Finding {
    type Wire = api::Finding;

    fn to_wire(&self) -> api::Finding {
        match self {
            Finding::NotStarted => api::Finding::NotStarted,
            Finding::Applied(text) => api::Finding::Applied(text.clone()),
            Finding::Failed(text) => api::Finding::Failed(text.clone()),
        }
    }
}

impl ToWire for Capture {
    type Wire = api::Capture;

    fn to_wire(&self) -> api::Capture {
        let Capture { digest, files, bytes, opening } = self;
        api::Capture { digest: digest.clone(), files: *files, bytes: *bytes, opening: *opening }
    }
}

impl ToWire for Made {
    type Wire = api::Made;

    fn to_wire(&self) -> api::Made {
        let Made { digest, opening } = self;
        api::Made { digest: digest.clone(), opening: *opening }
    }
}
