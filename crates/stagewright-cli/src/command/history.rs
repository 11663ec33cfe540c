//! `runs` and `show`: read the store.

use stagewright_api as api;
use stagewright_engine::{GateKind, Outcome};
use stagewright_model::list;
use stagewright_report::wire::ToWire as _;
use stagewright_report::{Printer, duration, text};
use stagewright_session::Session;
use stagewright_store::{RunFilter, RunPhase, RunRow, Store};

use crate::args::{RunsArgs, ShowArgs};
use crate::error::CommandError;
use crate::exit::Exit;
use crate::screen;
use crate::time::readable;

/// Characters of an abbreviated digest, `sha256:` included.
const SHORT: usize = 19;

/// `runs`.
pub(crate) fn runs(session: &Session, args: &RunsArgs, out: &mut Printer) -> Result<Exit, CommandError> {
    let store = session.read_only_store()?;
    let limit = (!args.waiting).then_some(args.limit);
    let mut rows = store.list(&RunFilter { pipeline: args.pipeline.clone(), limit })?;
    if args.waiting {
        rows.retain(|row| !row.waiting.is_empty());
        rows.truncate(args.limit as usize);
    }
    if args.json {
        let rows = rows.iter().map(|row| entry(&store, row)).collect::<Result<Vec<_>, _>>()?;
        out.json(&rows)?;
        return Ok(Exit::Success);
    }
    if rows.is_empty() {
        out.line(text!("No runs yet. Start one with `stagewright run`."))?;
    }
    // These columns are only as wide as their content, so that a line with a detail fits on most terminals.
    let pipelines = rows.iter().map(|row| row.pipeline.chars().count()).max().unwrap_or(0);
    let states = rows.iter().map(|row| state_name(row.state).len()).max().unwrap_or(0);
    for row in &rows {
        let detail = match (&row.failed_stage, row.waiting.as_slice()) {
            (_, [_, ..]) => format!("waits at {}", waiting(&store, row)?),
            (Some(stage), []) => format!("at {stage}"),
            (None, []) => String::new(),
        };
        let line = text!(
            "{:<20}  {:<pipelines$}  {:<19}  {:<states$}  {:>8}  {}{}",
            row.id.0,
            row.pipeline,
            readable(row.started),
            state_name(row.state),
            duration(row.duration()),
            detail,
            if row.rehearsal { " (rehearsal)" } else { "" },
        );
        out.line(line.trimmed())?;
    }
    Ok(Exit::Success)
}

/// The stages at open gates, each with the digest of the files that an approval would cover, or with the token that it
/// waits for.
fn waiting(store: &Store, row: &RunRow) -> Result<String, CommandError> {
    let gates = store.open_gates(&row.id)?;
    let with_detail = |stage: &String| {
        let gate = gates.iter().find(|open| open.stage_id == *stage).map(|open| &open.gate);
        let token = gate.filter(|gate| gate.kind == GateKind::Wait).map(|gate| format!("for {}", gate.token));
        let capture = gate.and_then(|gate| gate.capture.as_ref());
        let digest = capture.map(|capture| capture.digest.chars().take(SHORT).collect::<String>());
        digest.or(token).map_or_else(|| stage.clone(), |detail| format!("{stage} ({detail})"))
    };
    Ok(list(row.waiting.iter().map(with_detail).collect::<Vec<_>>()).to_string())
}

/// The JSON form of a run.
fn entry(store: &Store, row: &RunRow) -> Result<api::RunEntry, CommandError> {
    let RunRow { id, pipeline, file, rehearsal, source, started, last, state, failed_stage, waiting } = row;
    let gates = if waiting.is_empty() { Vec::new() } else { store.open_gates(id)? };
    let captures = gates.iter().filter_map(|open| Some((open.stage_id.clone(), open.gate.capture.as_ref()?.to_wire())));
    let waits = gates.iter().filter(|open| open.gate.kind == GateKind::Wait);
    let tokens = waits.map(|open| (open.stage_id.clone(), open.gate.token.clone()));
    Ok(api::RunEntry {
        run: id.to_wire(),
        pipeline: pipeline.clone(),
        file: file.clone(),
        rehearsal: *rehearsal,
        started: started.to_wire(),
        last: last.to_wire(),
        state: status(*state),
        failed_stage: failed_stage.clone(),
        waiting: waiting.clone(),
        captures: captures.collect(),
        tokens: tokens.collect(),
        source: source.to_wire(),
    })
}

fn status(state: RunPhase) -> api::RunStatus {
    match state {
        RunPhase::Running => api::RunStatus::Running,
        RunPhase::Waiting => api::RunStatus::Waiting,
        RunPhase::Interrupted => api::RunStatus::Interrupted,
        RunPhase::Ended(outcome) => api::RunStatus::Ended(outcome.to_wire()),
    }
}

fn state_name(state: RunPhase) -> &'static str {
    match state {
        RunPhase::Running => "running",
        RunPhase::Waiting => "waiting",
        RunPhase::Interrupted => "interrupted",
        RunPhase::Ended(outcome) => outcome.as_str(),
    }
}

/// `show`: replays the output of a run from its journal.
pub(crate) fn show(session: &Session, args: &ShowArgs) -> Result<Exit, CommandError> {
    let store = session.read_only_store()?;
    let run = store.find(&args.run)?;
    let (mut reader, written) = screen::lines(args.format);
    store.replay(&run, |event| reader.on_event(event))?;
    written.take()?;
    Ok(Exit::Success)
}

/// The exit code for a run's conclusion; none for a run that is suspended.
pub(crate) fn exit_of(conclusion: Option<Outcome>) -> Exit {
    match conclusion {
        None => Exit::Waiting,
        Some(Outcome::Succeeded | Outcome::Skipped | Outcome::Rehearsed) => Exit::Success,
        Some(Outcome::Cancelled) => Exit::Cancelled,
        Some(Outcome::Rejected) => Exit::Rejected,
        Some(Outcome::Failed | Outcome::Errored | Outcome::TimedOut | Outcome::Lost | Outcome::Inconclusive) => {
            Exit::RunFailed
        }
    }
}
