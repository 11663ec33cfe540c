//! Answering gates.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use stagewright_engine::{
    Decision, DecisionError, EventKind, Field, FieldKind, Finding, Gate, GateKind, RunId, check_decision, still_missing,
};
use stagewright_model::{PersonName, PersonNameError, list, range};
use stagewright_store::{OpenGate, Store};

use crate::clock::SystemClock;
use crate::error::SessionError;
use crate::journal::{apply, fold, needs_process, stages_of};
use crate::session::Session;

/// A person's answer to a gate.
#[derive(Clone, Debug)]
pub struct GateAnswer {
    /// The run's id, a unique prefix of its id, or `latest`.
    pub run: String,
    /// The waiting stage; may be omitted if only one waits.
    pub stage: Option<String>,
    /// Who answers; [`Session::user_name`] by default.
    pub by: Option<String>,
    /// The person's reason.
    pub reason: Option<String>,
    /// The answer itself.
    pub verdict: Verdict,
}

/// The content of an answer.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Approves the stage, with values for the fields of the gate's form, as text.
    Approve(Vec<(String, String)>),
    /// Rejects the stage, with such values.
    Reject(Vec<(String, String)>),
    /// Records the outcome of an interrupted attempt that its plugin can't determine.
    Settle(Settlement),
}

/// The outcome of an interrupted attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// Its effect happened: the stage counts as succeeded.
    Applied,
    /// Its effect didn't happen: the stage runs again.
    NotStarted,
    /// Its effect happened and failed: the stage counts as failed.
    Failed,
}

/// An answer that was recorded.
#[derive(Clone, Debug)]
pub struct RecordedAnswer {
    /// The gate.
    pub open: OpenGate,
    /// The answer.
    pub decision: Decision,
    /// What the gate still waits for, in words; none if it has enough answers.
    pub missing: Option<String>,
    /// Whether the run must be resumed to continue: the gate has enough answers, and no process drives the run.
    pub needs_resume: bool,
}

impl Session {
    /// Records an answer to a gate.
    ///
    /// # Errors
    /// If the run doesn't wait for such an answer, or that person may not give it.
    pub fn answer(&self, answer: &GateAnswer) -> Result<RecordedAnswer, SessionError> {
        let shared = self.store()?;
        let mut store = shared.lock();
        let run = store.find(&answer.run)?;
        let open = choose(&store, &run, answer.stage.as_deref())?;
        let decision = decision(self, &open, answer)?;
        let missing = record_answer(&mut store, &open, &decision)?;
        let needs_resume = missing.is_none() && needs_process(&store, &run)?;
        Ok(RecordedAnswer { open, decision, missing, needs_resume })
    }
}

fn decision(session: &Session, open: &OpenGate, answer: &GateAnswer) -> Result<Decision, SessionError> {
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

pub(crate) fn person(session: &Session, by: Option<&str>) -> Result<String, SessionError> {
    let name = by.map_or_else(|| session.user_name(), str::to_owned);
    let parsed = PersonName::parse(&name).map_err(|error| {
        let refused =
            SessionError::invalid_request(format!("{name:?} can't answer: {error}")).hint(PersonNameError::HELP);
        if by.is_some() { refused } else { refused.hint("set your name with --by NAME") }
    })?;
    Ok(parsed.to_string())
}

/// The digest of the files that the gate captured; none if it captured none.
pub fn captured_digest(gate: &Gate) -> Option<String> {
    gate.capture.as_ref().map(|capture| capture.digest.clone())
}

/// Records the answer if it is valid. Returns what the gate still waits for.
fn record_answer(store: &mut Store, open: &OpenGate, decision: &Decision) -> Result<Option<String>, SessionError> {
    let run = &open.run;
    let stages: Vec<String> = stages_of(store, run)?.into_iter().map(|stage| stage.id.clone()).collect();
    store.put_decision(run, open.stage, decision, |events, waiting| {
        let mut state = fold(run, stages, events)?;
        let now = SystemClock::timestamp();
        for (stage, decision) in waiting {
            // Earlier answers that the run hasn't received yet count, too: otherwise one person could approve twice, or
            // a gate could get more answers than it takes. They are applied as the process that drives the run will do
            // it, which skips those that aren't valid any more.
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
    let refused = SessionError::not_ready(format!("the answer to `{stage}` was refused: {error}"));
    match error {
        DecisionError::OutcomeExpected => settle_commands(run, stage).into_iter().fold(refused, SessionError::hint),
        DecisionError::ApprovalExpected => refused.hint(format!("answer with: stagewright approve {run} {stage}")),
        DecisionError::SignalExpected => {
            refused.hint(format!("to continue it now, run: {}", signal_command(run, &open.gate.token)))
        }
        DecisionError::Expired => {
            refused.hint(format!("start a new run, or run this stage again: stagewright resume {run} --from STAGE"))
        }
        DecisionError::NotAnApprover { .. } => refused.hint("ask one of them"),
        DecisionError::BadName { .. } => refused.hint(PersonNameError::HELP),
        DecisionError::Twice(_) | DecisionError::Alike { .. } => refused.hint("another person must approve, too"),
        DecisionError::NotWaiting
        | DecisionError::Outdated
        | DecisionError::NotRehearsing
        | DecisionError::OtherFiles => refused.hint(format!("check the state of the run: stagewright show {run}")),
        DecisionError::MissingField(_)
        | DecisionError::UnknownField(_)
        | DecisionError::NotAChoice { .. }
        | DecisionError::WrongType { .. } => refused.hint(form(&open.gate.fields)),
    }
}

/// The three commands that settle an interrupted attempt.
fn settle_commands(run: &RunId, stage: &str) -> [String; 3] {
    [
        format!("if its effect happened: stagewright settle {run} {stage} applied"),
        format!("if its effect didn't happen, to run it again: stagewright settle {run} {stage} not-started"),
        format!("if its effect happened and failed: stagewright settle {run} {stage} failed"),
    ]
}

/// The command that ends a wait.
fn signal_command(run: &RunId, token: &str) -> String {
    format!("stagewright signal {run} '{}'", token.replace('\'', r"'\''"))
}

fn choose(store: &Store, run: &RunId, stage: Option<&str>) -> Result<OpenGate, SessionError> {
    let mut open = store.open_gates(run)?;
    // Only a named wait is refused for what it is. Otherwise the answer is for one of the other gates.
    if stage.is_none() && open.iter().any(|open| open.gate.kind != GateKind::Wait) {
        open.retain(|open| open.gate.kind != GateKind::Wait);
    }
    let waiting = list(open.iter().map(|gate| &gate.stage_id));
    if let Some(stage) = stage {
        open.retain(|gate| gate.stage_id == stage);
    }
    match (open.len(), waiting.is_empty()) {
        (1, _) => Ok(open.remove(0)),
        (_, true) => Err(SessionError::not_ready(format!("run {run} has no open approvals"))
            .hint("list the waiting runs with `stagewright runs --waiting`")),
        (0, _) => {
            Err(SessionError::not_ready(format!("stage `{}` of run {run} isn't waiting", stage.unwrap_or_default()))
                .hint(format!("the waiting stages are: {waiting}")))
        }
        _ => Err(SessionError::invalid_request(format!("several stages of run {run} are waiting"))
            .hint(format!("choose one of: {waiting}"))),
    }
}

/// Parses the given values according to the gate's form. Unknown fields stay text; the gate refuses them.
fn fields(form: &[Field], given: &[(String, String)]) -> BTreeMap<String, Json> {
    let kind_of = |name: &str| form.iter().find(|field| field.name == name).map_or(FieldKind::Text, |field| field.kind);
    given.iter().map(|(name, text)| (name.clone(), field_value(kind_of(name), text))).collect()
}

/// Parses the value of a field of a gate's form. Text that isn't valid for the kind stays text, so that the gate
/// refuses it with the name of the field.
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
        return "the gate has no fields; set your name with `--by`".to_owned();
    }
    let describe = |field: &Field| {
        let kind = match field.kind {
            FieldKind::Text if !field.choices.is_empty() => field.choices.join("|"),
            FieldKind::Text => "text".to_owned(),
            FieldKind::Number => "number".to_owned(),
            FieldKind::Boolean => "true|false".to_owned(),
        };
        format!("--field {}={kind}{}", field.name, if field.required { "" } else { " (optional)" })
    };
    format!("the gate's form: {}", fields.iter().map(describe).collect::<Vec<_>>().join(" "))
}

/// The answers that a rehearsal gives automatically: as many approvals as required, with every required field filled
/// in.
pub(crate) fn rehearsed(gate: &Gate) -> Vec<Decision> {
    let sample = |field: &Field| match field.kind {
        FieldKind::Text => Json::String(field.choices.first().map_or("rehearsal", String::as_str).to_owned()),
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
        // Only stand-ins can have been affected, so an unresolved attempt may run again.
        finding: (gate.kind == GateKind::Unresolved).then_some(Finding::NotStarted),
    };
    let most = u32::try_from(range::APPROVALS.most).unwrap_or(u32::MAX);
    vec![decision; gate.approvals.clamp(1, most) as usize]
}
