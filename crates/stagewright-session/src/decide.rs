//! `approve`, `reject` and `settle`: a person's answer to a gate, from any terminal.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use stagewright_engine::{
    Decision, DecisionError, EventKind, Field, FieldKind, Finding, Gate, GateKind, RunId, check_decision, still_missing,
};
use stagewright_model::list;
use stagewright_model::{PersonName, PersonNameError, range};
use stagewright_report::{Printer, captured, text};
use stagewright_store::{OpenGate, Store};

use crate::args::{self, DecideArgs, SettleArgs};
use crate::clock::SystemClock;
use crate::command::history::{apply, fold, stages_of};
use crate::error::CommandError;
use crate::exit::Exit;
use crate::git;
use crate::repository::Repository;

/// `approve` and `reject`.
pub(crate) fn decide(
    repository: &Repository,
    args: &DecideArgs,
    approved: bool,
    out: &mut Printer,
) -> Result<Exit, CommandError> {
    let mut store = Store::open(&repository.state)?;
    let run = store.find(&args.run)?;
    let open = choose(&store, &run, args.stage.as_deref())?;
    let decision = Decision {
        approved,
        fields: fields(&open.gate.fields, &args.fields)?,
        ..answer(repository, &open, args.by.as_deref(), args.reason.as_deref())?
    };
    let verb = if approved { "Approved" } else { "Rejected" };
    leave(repository, &mut store, &open, &decision, verb, out)
}

/// `settle`: what became of an attempt that was broken off.
pub(crate) fn settle(repository: &Repository, args: &SettleArgs, out: &mut Printer) -> Result<Exit, CommandError> {
    let mut store = Store::open(&repository.state)?;
    let run = store.find(&args.run)?;
    let open = choose(&store, &run, Some(&args.stage))?;
    let answer = answer(repository, &open, args.by.as_deref(), args.reason.as_deref())?;
    let said = args.reason.clone().unwrap_or_else(|| format!("{} says so", answer.by));
    let finding = match args.finding {
        args::Finding::NotStarted => Finding::NotStarted,
        args::Finding::Applied => Finding::Applied(said),
        args::Finding::Failed => Finding::Failed(said),
    };
    let decision = Decision { approved: true, finding: Some(finding), ..answer };
    leave(repository, &mut store, &open, &decision, "Settled", out)
}

fn answer(
    repository: &Repository,
    open: &OpenGate,
    by: Option<&str>,
    reason: Option<&str>,
) -> Result<Decision, CommandError> {
    let name = by.map_or_else(|| user(repository), str::to_owned);
    let by = PersonName::parse(&name).map_err(|error| {
        let refused = CommandError::usage(format!("{name:?} can't answer: {error}")).hint(PersonNameError::HELP);
        if by.is_some() { refused } else { refused.hint("say who answers: --by NAME") }
    })?;
    Ok(Decision {
        token: open.gate.token.clone(),
        capture: digest_of_files(&open.gate),
        by: by.to_string(),
        at: Some(SystemClock::timestamp()),
        reason: reason.map(str::to_owned),
        ..Decision::default()
    })
}

/// Names the files that an answer is about.
pub(crate) fn digest_of_files(gate: &Gate) -> Option<String> {
    gate.capture.as_ref().map(|capture| capture.digest.clone())
}

/// Records the answer, if the gate takes it; the process that drives the run takes it up, or the next `resume`.
fn leave(
    repository: &Repository,
    store: &mut Store,
    open: &OpenGate,
    decision: &Decision,
    verb: &str,
    out: &mut Printer,
) -> Result<Exit, CommandError> {
    let (run, stage) = (&open.run, &open.stage_id);
    let stages: Vec<String> = stages_of(store, run)?.into_iter().map(|stage| stage.id.clone()).collect();
    let missing = store.put_decision(run, open.stage, decision, |events, waiting| {
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
        Ok::<_, CommandError>(still_missing(state.stage(open.stage)))
    })??;
    let files = open.gate.capture.as_ref().filter(|capture| decision.approved && capture.files > 0).map(captured);
    let files = files.map(|files| text!(", for {files}")).unwrap_or_default();
    let waits = missing.is_some();
    let missing = missing.map(|missing| text!(": {missing}")).unwrap_or_default();
    out.line(text!("{verb}: {stage} of run {run}, by {}{files}{missing}.", decision.by))?;
    if !waits && Store::open(&repository.state)?.claim(run).is_ok() {
        out.line(text!("No process drives the run. Go on with it: stagewright resume {run}"))?;
    }
    Ok(Exit::Success)
}

fn refused(open: &OpenGate, error: &DecisionError) -> CommandError {
    let (run, stage) = (&open.run, &open.stage_id);
    let refused = CommandError::not_ready(format!("this answer to `{stage}` can't be taken: {error}"));
    match error {
        DecisionError::NotSettled => settle_commands(run, stage).into_iter().fold(refused, CommandError::hint),
        DecisionError::NoDoubt => refused.hint(format!("answer with: stagewright approve {run} {stage}")),
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

/// The three answers to the question what became of an attempt.
fn settle_commands(run: &RunId, stage: &str) -> [String; 3] {
    [
        format!("its effect is there: stagewright settle {run} {stage} applied"),
        format!("its effect is not there, and it may run again: stagewright settle {run} {stage} not-started"),
        format!("its effect is there and doesn't work: stagewright settle {run} {stage} failed"),
    ]
}

fn choose(store: &Store, run: &RunId, stage: Option<&str>) -> Result<OpenGate, CommandError> {
    let mut open = store.open_gates(run)?;
    let waiting = list(open.iter().map(|gate| &gate.stage_id));
    if let Some(wanted) = stage {
        open.retain(|gate| gate.stage_id == wanted);
    }
    match (open.len(), waiting.is_empty()) {
        (1, _) => Ok(open.remove(0)),
        (_, true) => Err(CommandError::not_ready(format!("run {run} waits for nobody"))
            .hint("`stagewright runs --waiting` lists the runs that do")),
        (0, _) => Err(CommandError::not_ready(format!("`{}` of run {run} doesn't wait", stage.unwrap_or_default()))
            .hint(format!("these do: {waiting}"))),
        _ => Err(CommandError::usage(format!("which stage of run {run}?")).hint(format!("these wait: {waiting}"))),
    }
}

/// Reads `NAME=VALUE` by the types of the gate's form. What the form doesn't know is left to the gate to refuse.
fn fields(form: &[Field], given: &[String]) -> Result<BTreeMap<String, Json>, CommandError> {
    given
        .iter()
        .map(|pair| {
            let Some((name, text)) = pair.split_once('=') else {
                return Err(CommandError::usage(format!("`--field {pair}` isn't NAME=VALUE")));
            };
            let kind = form.iter().find(|field| field.name == name).map_or(FieldKind::Text, |field| field.kind);
            Ok((name.to_owned(), value(kind, text)))
        })
        .collect()
}

/// Text that isn't of the kind stays text, for the gate to refuse by name.
pub(crate) fn value(kind: FieldKind, text: &str) -> Json {
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

/// Who sits at the terminal: git's `user.name`, else `$USER`.
pub(crate) fn user(repository: &Repository) -> String {
    git::user_name(&repository.root)
        .or_else(|| repository.environment.get("USER").cloned())
        .unwrap_or_else(|| "somebody".to_owned())
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
        capture: digest_of_files(gate),
        rehearsed: true,
        // Stand-ins alone were touched.
        finding: (gate.kind == GateKind::Doubt).then_some(Finding::NotStarted),
    };
    let most = u32::try_from(range::APPROVALS.most).unwrap_or(u32::MAX);
    vec![decision; gate.approvals.clamp(1, most) as usize]
}
