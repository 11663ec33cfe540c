//! Answers to gates, from any front end.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use stagewright_engine::{
    Decision, DecisionError, EventKind, Field, FieldKind, Finding, Gate, GateKind, RunId, check_decision, still_missing,
};
use stagewright_model::{PersonName, PersonNameError, list, range};
use stagewright_store::{OpenGate, Store};

use crate::clock::SystemClock;
use crate::error::SessionError;
use crate::journal::{apply, fold, stages_of};
use crate::session::Session;

/// A person's answer to a gate.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The run: its id, the beginning of its id, or `latest`.
    pub run: String,
    /// The stage that waits; the only one by default.
    pub stage: Option<String>,
    /// Who answers; [`Session::user_name`] by default.
    pub by: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// What the answer is.
    pub verdict: Verdict,
}

/// What an answer says.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// The stage goes on, with values for the fields of the gate's form, as text.
    Approve(Vec<(String, String)>),
    /// The stage is rejected.
    Reject(Vec<(String, String)>),
    /// What an interrupted attempt did, which its plugin can't determine.
    Settle(Settlement),
}

/// What an interrupted attempt did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// Its effect is there: the stage counts as succeeded.
    Applied,
    /// Its effect is not there: the stage runs again.
    NotStarted,
    /// Its effect is there and doesn't work: the stage counts as failed.
    Failed,
}

/// An answer that the gate has taken.
#[derive(Clone, Debug)]
pub struct RecordedAnswer {
    /// The gate.
    pub open: OpenGate,
    /// The answer.
    pub decision: Decision,
    /// What the gate still waits for, in words; none when it is answered.
    pub missing: Option<String>,
    /// Whether the run has to be resumed to take the answer up: the gate is answered, and no process drives the run.
    pub needs_resume: bool,
}

impl Session {
    /// Records an answer, if the gate takes it.
    ///
    /// # Errors
    /// When the run doesn't wait for such an answer, or not for one of that person.
    pub fn answer(&self, answer: &Answer) -> Result<RecordedAnswer, SessionError> {
        let shared = self.store()?;
        let mut store = shared.lock();
        let run = store.find(&answer.run)?;
        let open = choose(&store, &run, answer.stage.as_deref())?;
        let decision = decision(self, &open, answer)?;
        let missing = record_answer(&mut store, &open, &decision)?;
        let needs_resume = missing.is_none() && store.lock_run(&run).is_ok();
        Ok(RecordedAnswer { open, decision, missing, needs_resume })
    }
}

fn decision(session: &Session, open: &OpenGate, answer: &Answer) -> Result<Decision, SessionError> {
    let form = &open.gate.fields;
    let (approved, fields) = match &answer.verdict {
        Verdict::Approve(given) => (true, fields(form, given)),
        Verdict::Reject(given) => (false, fields(form, given)),
        Verdict::Settle(_) => (true, BTreeMap::new()),
    };
    let by = person(session, answer.by.as_deref())?;
    let finding = match &answer.verdict {
        Verdict::Settle(settlement) => {
            let detail = answer.reason.clone().unwrap_or_else(|| format!("{by} says so"));
            Some(match settlement {
                Settlement::NotStarted => Finding::NotStarted,
                Settlement::Applied => Finding::Applied(detail),
                Settlement::Failed => Finding::Failed(detail),
            })
        }
        Verdict::Approve(_) | Verdict::Reject(_) => None,
    };
    Ok(Decision {
        token: open.gate.token.clone(),
        capture: captured_digest(&open.gate),
        approved,
        by,
        at: Some(SystemClock::timestamp()),
        reason: answer.reason.clone(),
        fields,
        finding,
        ..Decision::default()
    })
}

fn person(session: &Session, by: Option<&str>) -> Result<String, SessionError> {
    let name = by.map_or_else(|| session.user_name(), str::to_owned);
    let parsed = PersonName::parse(&name).map_err(|error| {
        let refused =
            SessionError::invalid_request(format!("{name:?} can't answer: {error}")).hint(PersonNameError::HELP);
        if by.is_some() { refused } else { refused.hint("say who answers: --by NAME") }
    })?;
    Ok(parsed.to_string())
}

/// The digest of the files that an answer to the gate is about; none where it captured none.
pub fn captured_digest(gate: &Gate) -> Option<String> {
    gate.capture.as_ref().map(|capture| capture.digest.clone())
}

/// Records the answer, if the gate takes it. Returns what the gate still waits for.
fn record_answer(store: &mut Store, open: &OpenGate, decision: &Decision) -> Result<Option<String>, SessionError> {
    let run = &open.run;
    let stages: Vec<String> = stages_of(store, run)?.into_iter().map(|stage| stage.id.clone()).collect();
    store.put_decision(run, open.stage, decision, |events, waiting| {
        let mut state = fold(run, stages, events)?;
        let now = SystemClock::timestamp();
        for (stage, decision) in waiting {
            // As the process that drives the run will take them.
            if check_decision(state.stage(*stage), decision, now).is_ok() {
                apply(run, &mut state, &EventKind::GateDecided { stage: *stage, decision: decision.clone() })?;
            }
        }
        check_decision(state.stage(open.stage), decision, now).map_err(|error| refused(open, &error))?;
        apply(run, &mut state, &EventKind::GateDecided { stage: open.stage, decision: decision.clone() })?;
        Ok(still_missing(state.stage(open.stage)))
    })?
}

fn refused(open: &OpenGate, error: &DecisionError) -> SessionError {
    let (run, stage) = (&open.run, &open.stage_id);
    let refused = SessionError::not_ready(format!("this answer to `{stage}` can't be taken: {error}"));
    match error {
        DecisionError::OutcomeExpected => settle_commands(run, stage).into_iter().fold(refused, SessionError::hint),
        DecisionError::ApprovalExpected => refused.hint(format!("answer with: stagewright approve {run} {stage}")),
        DecisionError::Expired => {
            refused.hint(format!("start a new run, or this stage again: stagewright resume {run} --from STAGE"))
        }
        DecisionError::NotAnApprover { .. } => refused.hint("ask one of them"),
        DecisionError::BadName { .. } => refused.hint(PersonNameError::HELP),
        DecisionError::Twice(_) | DecisionError::Alike { .. } => refused.hint("another person has to approve as well"),
        DecisionError::NotWaiting
        | DecisionError::Outdated
        | DecisionError::NotRehearsing
        | DecisionError::OtherFiles => refused.hint(format!("see where the run stands: stagewright show {run}")),
        DecisionError::MissingField(_) | DecisionError::UnknownField(_) | DecisionError::WrongType { .. } => {
            refused.hint(form(&open.gate.fields))
        }
    }
}

/// The three commands that settle an interrupted attempt.
fn settle_commands(run: &RunId, stage: &str) -> [String; 3] {
    [
        format!("its effect is there: stagewright settle {run} {stage} applied"),
        format!("its effect is not there, and it may run again: stagewright settle {run} {stage} not-started"),
        format!("its effect is there and doesn't work: stagewright settle {run} {stage} failed"),
    ]
}

fn choose(store: &Store, run: &RunId, stage: Option<&str>) -> Result<OpenGate, SessionError> {
    let mut open = store.open_gates(run)?;
    let waiting = list(open.iter().map(|gate| &gate.stage_id));
    if let Some(stage) = stage {
        open.retain(|gate| gate.stage_id == stage);
    }
    match (open.len(), waiting.is_empty()) {
        (1, _) => Ok(open.remove(0)),
        (_, true) => Err(SessionError::not_ready(format!("run {run} has no open approvals"))
            .hint("`stagewright runs --waiting` lists the runs that do")),
        (0, _) => Err(SessionError::not_ready(format!("`{}` of run {run} doesn't wait", stage.unwrap_or_default()))
            .hint(format!("these do: {waiting}"))),
        _ => {
            Err(SessionError::invalid_request(format!("which stage of run {run}?"))
                .hint(format!("these wait: {waiting}")))
        }
    }
}

/// By the types of the gate's form. What the form doesn't know is left to the gate to refuse.
fn fields(form: &[Field], given: &[(String, String)]) -> BTreeMap<String, Json> {
    let kind_of = |name: &str| form.iter().find(|field| field.name == name).map_or(FieldKind::Text, |field| field.kind);
    given.iter().map(|(name, text)| (name.clone(), field_value(kind_of(name), text))).collect()
}

/// What was typed into a field of a gate's form. Text that isn't of the kind stays text, for the gate to refuse by name.
pub fn field_value(kind: FieldKind, text: &str) -> Json {
    let as_text = Json::String(text.to_owned());
    match kind {
        FieldKind::Text => as_text,
        FieldKind::Number => text.parse::<serde_json::Number>().map_or(as_text, Json::Number),
        FieldKind::Boolean => match text {
            "true" | "yes" | "y" => Json::Bool(true),
            "false" | "no" | "n" => Json::Bool(false),
            _ => as_text,
        },
    }
}

fn form(fields: &[Field]) -> String {
    if fields.is_empty() {
        return "the gate has no fields; `--by` says who answers".to_owned();
    }
    let describe = |field: &Field| {
        let kind = match field.kind {
            FieldKind::Text => "text",
            FieldKind::Number => "number",
            FieldKind::Boolean => "true|false",
        };
        format!("--field {}={kind}{}", field.name, if field.required { "" } else { " (optional)" })
    };
    format!("the gate's form: {}", fields.iter().map(describe).collect::<Vec<_>>().join(" "))
}

/// The answers that a rehearsal gives by itself: as many approvals as it takes, every required field filled in.
pub(crate) fn rehearsed(gate: &Gate) -> Vec<Decision> {
    let sample = |field: &Field| match field.kind {
        FieldKind::Text => Json::String("rehearsal".to_owned()),
        FieldKind::Number => Json::from(0),
        FieldKind::Boolean => Json::Bool(true),
    };
    let required = gate.fields.iter().filter(|field| field.required);
    let decision = Decision {
        token: gate.token.clone(),
        approved: true,
        by: "rehearsal".to_owned(),
        at: None,
        reason: None,
        fields: required.map(|field| (field.name.clone(), sample(field))).collect(),
        capture: captured_digest(gate),
        rehearsed: true,
        // Stand-ins alone were touched.
        finding: (gate.kind == GateKind::Unresolved).then_some(Finding::NotStarted),
    };
    let most = u32::try_from(range::APPROVALS.most).unwrap_or(u32::MAX);
    vec![decision; gate.approvals.clamp(1, most) as usize]
}
