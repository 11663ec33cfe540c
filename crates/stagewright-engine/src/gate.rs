//! Which answers a gate takes.

use serde_json::Value as Json;

use crate::event::{Decision, FieldKind, GateKind, Timestamp};
use crate::state::{StageState, Status};

/// Why an answer isn't taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecisionError {
    /// No gate of this stage is open.
    #[error("the stage has no open gate")]
    NotWaiting,
    /// The gate was opened anew since.
    #[error("the answer is to an earlier opening of the gate")]
    Outdated,
    /// The files that it is about aren't those that were captured.
    #[error("the answer is for other files than those that would be deployed")]
    OtherFiles,
    /// An answer of a rehearsal to a run that is none.
    #[error("the run is no rehearsal")]
    NotRehearsing,
    /// Too late.
    #[error("the gate has expired")]
    Expired,
    /// A yes or no to the question what became of an attempt.
    #[error("the question is what became of an attempt, and takes more than a yes or no")]
    NotSettled,
    /// What became of an attempt, where a yes or no is asked for.
    #[error("the gate asks for an approval, not for what became of an attempt")]
    NoDoubt,
    /// Not among the approvers.
    #[error("{by} may not answer: the approvers are {}", approvers.join(", "))]
    NotAnApprover {
        /// Who answered.
        by: String,
        /// Who may.
        approvers: Vec<String>,
    },
    /// One person, one vote.
    #[error("{0} has approved already")]
    Twice(String),
    /// The form isn't filled in.
    #[error("the field `{0}` is required")]
    MissingField(String),
    /// The form doesn't have it.
    #[error("the gate has no field `{0}`")]
    UnknownField(String),
    /// The form holds something else.
    #[error("the field `{name}` must be {expected}")]
    WrongType {
        /// The field.
        name: String,
        /// What it holds.
        expected: &'static str,
    },
}

/// Checks an answer against the gate as it stands.
pub fn check_decision(state: &StageState, decision: &Decision, now: Timestamp) -> Result<(), DecisionError> {
    let (Status::Waiting(_), Some(gate)) = (state.status, &state.gate) else {
        return Err(DecisionError::NotWaiting);
    };
    if gate.token != decision.token {
        return Err(DecisionError::Outdated);
    }
    if gate.expires.is_some_and(|expires| expires <= now) {
        return Err(DecisionError::Expired);
    }
    if gate.kind == GateKind::Doubt {
        return if decision.finding.is_some() { Ok(()) } else { Err(DecisionError::NotSettled) };
    }
    if decision.finding.is_some() {
        return Err(DecisionError::NoDoubt);
    }
    if !decision.rehearsed && !gate.approvers.is_empty() && !gate.members.contains(&decision.by) {
        return Err(DecisionError::NotAnApprover { by: decision.by.clone(), approvers: gate.approvers.clone() });
    }
    if !decision.approved {
        return Ok(());
    }
    if decision.capture.as_ref() != gate.capture.as_ref().map(|capture| &capture.digest) {
        return Err(DecisionError::OtherFiles);
    }
    if !decision.rehearsed && state.decisions.iter().any(|earlier| earlier.by == decision.by) {
        return Err(DecisionError::Twice(decision.by.clone()));
    }
    for field in &gate.fields {
        let Some(value) = decision.fields.get(&field.name) else {
            if field.required {
                return Err(DecisionError::MissingField(field.name.clone()));
            }
            continue;
        };
        let expected = match (field.kind, value) {
            (FieldKind::Text, Json::String(_))
            | (FieldKind::Number, Json::Number(_))
            | (FieldKind::Boolean, Json::Bool(_)) => continue,
            (FieldKind::Text, _) => "text",
            (FieldKind::Number, _) => "a number",
            (FieldKind::Boolean, _) => "true or false",
        };
        return Err(DecisionError::WrongType { name: field.name.clone(), expected });
    }
    let unknown = decision.fields.keys().find(|name| !gate.fields.iter().any(|field| &field.name == *name));
    match unknown {
        Some(name) => Err(DecisionError::UnknownField(name.clone())),
        None => Ok(()),
    }
}
