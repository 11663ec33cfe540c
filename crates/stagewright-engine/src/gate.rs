//! Validation of the answers to a gate.

use serde_json::Value as Json;
use stagewright_model::{PersonName, PersonNameError, same_person};

use crate::event::{Decision, FieldKind, Gate, GateKind, Timestamp};
use crate::state::{StageState, StageStatus};

/// Why an answer is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecisionError {
    /// The stage has no open gate.
    #[error("the stage has no open gate")]
    NotWaiting,
    /// The gate has been opened again since.
    #[error("the answer refers to an earlier opening of the gate")]
    Outdated,
    /// The answer names another capture than the gate's.
    #[error("the answer is for other files than those that would be deployed")]
    OtherFiles,
    /// An automatic answer, as rehearsals give them, in a run that isn't a rehearsal.
    #[error("the run isn't a rehearsal")]
    NotRehearsing,
    /// The gate's expiry has passed.
    #[error("the gate has expired")]
    Expired,
    /// A yes or no, where the gate asks for the outcome of an interrupted attempt.
    #[error("the gate asks for the outcome of an interrupted attempt, not for an approval")]
    OutcomeExpected,
    /// An answer, where the plugin waits for a time or a signal.
    #[error("the stage waits for a time or a signal, not for an answer")]
    SignalExpected,
    /// The outcome of an attempt, where the gate asks for an approval.
    #[error("the gate asks for an approval, not for the outcome of an attempt")]
    ApprovalExpected,
    /// The person isn't among the approvers.
    #[error("{by} may not answer: the approvers are {}", approvers.join(", "))]
    NotAnApprover {
        /// Who answered.
        by: String,
        /// Who may answer, teams as `team:NAME`.
        approvers: Vec<String>,
    },
    /// The name isn't a valid name of a person.
    #[error("{name:?} can't answer: {reason}")]
    BadName {
        /// The name as given.
        name: String,
        /// What is wrong with it.
        reason: PersonNameError,
    },
    /// Each person can approve once.
    #[error("{0} has already approved")]
    Twice(String),
    /// The name can be confused with that of an earlier approver: possibly one person under two names.
    #[error("{by} looks like {earlier}, who has already approved")]
    Alike {
        /// Who answered.
        by: String,
        /// Who approved before.
        earlier: String,
    },
    /// A required field is missing.
    #[error("the field `{0}` is required")]
    MissingField(String),
    /// The gate's form doesn't have this field.
    #[error("the gate has no field `{0}`")]
    UnknownField(String),
    /// The value isn't one of the field's choices.
    #[error("the field `{name}` must be one of: {}", choices.join(", "))]
    NotAChoice {
        /// The field's name.
        name: String,
        /// What it may be.
        choices: Vec<String>,
    },
    /// The value has another type than the field.
    #[error("the field `{name}` must be {expected}")]
    WrongType {
        /// The field's name.
        name: String,
        /// The expected type, as in `a number`.
        expected: &'static str,
    },
}

/// Checks an answer against the stage's open gate.
pub fn check_decision(state: &StageState, decision: &Decision, now: Timestamp) -> Result<(), DecisionError> {
    let (StageStatus::Waiting(_), Some(gate)) = (state.status, state.current_gate()) else {
        return Err(DecisionError::NotWaiting);
    };
    if gate.kind == GateKind::Wait {
        return Err(DecisionError::SignalExpected);
    }
    if gate.token != decision.token {
        return Err(DecisionError::Outdated);
    }
    if gate.expires.is_some_and(|expires| expires <= decision.at.unwrap_or(now)) {
        return Err(DecisionError::Expired);
    }
    match (gate.kind, &decision.finding) {
        (GateKind::Unresolved, None) => return Err(DecisionError::OutcomeExpected),
        (GateKind::Unresolved, Some(_)) | (_, None) => {}
        (_, Some(_)) => return Err(DecisionError::ApprovalExpected),
    }
    if !decision.rehearsed {
        check_person(state, gate, decision)?;
    }
    match decision.approved && gate.kind != GateKind::Unresolved {
        true => check_form(gate, decision),
        false => Ok(()),
    }
}

/// Checks that the person may answer, and hasn't approved before.
fn check_person(state: &StageState, gate: &Gate, decision: &Decision) -> Result<(), DecisionError> {
    let person = PersonName::parse(&decision.by)
        .map_err(|reason| DecisionError::BadName { name: decision.by.clone(), reason })?;
    let is_among = |names: &[String]| names.iter().any(|name| same_person(name, &decision.by));
    if !gate.approvers.is_empty() && !is_among(&gate.members) {
        return Err(DecisionError::NotAnApprover { by: person.to_string(), approvers: gate.approvers.clone() });
    }
    for earlier in state.decisions.iter().filter(|earlier| decision.approved && !earlier.rehearsed) {
        if same_person(&earlier.by, &decision.by) {
            return Err(DecisionError::Twice(earlier.by.clone()));
        }
        // If anyone may answer, one person could approve twice under names that look the same. The check is left
        // out for a list of approvers: the pipeline file is refused if two names of one team, or of one environment's
        // approvers, look alike. Lists of plugins, and names of different lists, are not compared.
        let looks_alike = PersonName::parse(&earlier.by).is_ok_and(|earlier| earlier.looks_like(&person));
        if gate.approvers.is_empty() && looks_alike {
            return Err(DecisionError::Alike { by: person.to_string(), earlier: earlier.by.clone() });
        }
    }
    Ok(())
}

fn check_form(gate: &Gate, decision: &Decision) -> Result<(), DecisionError> {
    if decision.capture.as_ref() != gate.capture.as_ref().map(|capture| &capture.digest) {
        return Err(DecisionError::OtherFiles);
    }
    for field in &gate.fields {
        let Some(value) = decision.fields.get(&field.name) else {
            if field.required {
                return Err(DecisionError::MissingField(field.name.clone()));
            }
            continue;
        };
        let expected = match (field.kind, value) {
            (FieldKind::Text, Json::String(text)) if !field.choices.is_empty() && !field.choices.contains(text) => {
                return Err(DecisionError::NotAChoice { name: field.name.clone(), choices: field.choices.clone() });
            }
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

/// What a gate still waits for, as in `1 of 2 approvals; waiting for grace or linus`; none if it isn't open.
pub fn still_missing(state: &StageState) -> Option<String> {
    let (StageStatus::Waiting(_), Some(gate)) = (state.status, state.current_gate()) else { return None };
    let approved =
        |name: &str| state.decisions.iter().any(|decision| decision.approved && same_person(&decision.by, name));
    let given = state.decisions.iter().filter(|decision| decision.approved).count();
    let left: Vec<&str> = gate.members.iter().map(String::as_str).filter(|name| !approved(name)).collect();
    let whom = match (gate.approvers.is_empty(), left.split_last()) {
        (true, _) => "anyone else".to_owned(),
        (false, None) => format!("{}, all of whom have answered", gate.approvers.join(", ")),
        (false, Some((last, []))) => (*last).to_owned(),
        (false, Some((last, others))) => format!("{} or {last}", others.join(", ")),
    };
    let word = if gate.approvals == 1 { "approval" } else { "approvals" };
    Some(format!("{given} of {} {word}; waiting for {whom}", gate.approvals))
}
