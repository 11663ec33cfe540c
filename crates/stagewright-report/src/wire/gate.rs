//! Gates, and the answers of people.

use stagewright_api as api;
use stagewright_engine::{Capture, Decision, Field, FieldKind, Finding, Gate, GateKind, Made, Signal};

use super::ToWire;

impl ToWire for Gate {
    type Wire = api::GateEntry;

    fn to_wire(&self) -> api::GateEntry {
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
            releases,
        } = self;
        api::GateEntry {
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
            releases: releases.clone(),
        }
    }
}

impl ToWire for GateKind {
    type Wire = api::GateKindName;

    fn to_wire(&self) -> api::GateKindName {
        match self {
            GateKind::Approval => api::GateKindName::Approval,
            GateKind::Environment => api::GateKindName::Environment,
            GateKind::Freeze => api::GateKindName::Freeze,
            GateKind::Unresolved => api::GateKindName::Unresolved,
            GateKind::Wait => api::GateKindName::Wait,
        }
    }
}

impl ToWire for Field {
    type Wire = api::FieldEntry;

    fn to_wire(&self) -> api::FieldEntry {
        let Field { name, kind, description, required, choices } = self;
        api::FieldEntry {
            name: name.clone(),
            kind: kind.to_wire(),
            description: description.clone(),
            required: *required,
            choices: choices.clone(),
        }
    }
}

impl ToWire for FieldKind {
    type Wire = api::FieldKindName;

    fn to_wire(&self) -> api::FieldKindName {
        match self {
            FieldKind::Text => api::FieldKindName::Text,
            FieldKind::Number => api::FieldKindName::Number,
            FieldKind::Boolean => api::FieldKindName::Boolean,
        }
    }
}

impl ToWire for Decision {
    type Wire = api::DecisionEntry;

    fn to_wire(&self) -> api::DecisionEntry {
        let Decision { token, approved, by, at, reason, fields, capture, rehearsed, finding } = self;
        api::DecisionEntry {
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

impl ToWire for Signal {
    type Wire = api::SignalEntry;

    fn to_wire(&self) -> api::SignalEntry {
        // The number is for the store alone.
        let Signal { number: _, token, stage, payload, by, at } = self;
        api::SignalEntry {
            token: token.clone(),
            stage: stage.to_wire(),
            payload: payload.clone(),
            by: by.clone(),
            at: at.to_wire(),
        }
    }
}

impl ToWire for Finding {
    type Wire = api::FindingEntry;

    fn to_wire(&self) -> api::FindingEntry {
        match self {
            Finding::NotStarted => api::FindingEntry::NotStarted,
            Finding::Applied(text) => api::FindingEntry::Applied(text.clone()),
            Finding::Failed(text) => api::FindingEntry::Failed(text.clone()),
        }
    }
}

impl ToWire for Capture {
    type Wire = api::CaptureEntry;

    fn to_wire(&self) -> api::CaptureEntry {
        let Capture { digest, files, bytes, opening } = self;
        api::CaptureEntry { digest: digest.clone(), files: *files, bytes: *bytes, opening: *opening }
    }
}

impl ToWire for Made {
    type Wire = api::MadeEntry;

    fn to_wire(&self) -> api::MadeEntry {
        let Made { digest, opening } = self;
        api::MadeEntry { digest: digest.clone(), opening: *opening }
    }
}
