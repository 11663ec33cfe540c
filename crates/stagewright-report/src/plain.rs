//! Lines for people, where there is no terminal to redraw: CI systems, files, pipes.
//!
//! Every line has the same columns: seconds since the start, stage, a mark, text. The mark is `*` for what the engine
//! did, and for log lines `|` standard output, `!` standard error, `>` the plugin, `#` the engine.

use std::fmt::Write as _;
use std::io::{self, Write};

use stagewright_engine::{Event, EventKind, Failure, Interrupt, Observer, Outcome, Timestamp};

use crate::output::Output;
use crate::summary::{self, duration, first_line, gate_commands, gate_terms, problem_text, stream_mark};
use crate::text::{pad, printable, width};
use crate::view::{RunView, StageView, stage_of};

/// The stage column grows no wider.
const WIDEST_STAGE: usize = 28;

/// Writes a line an event, and the closing words at the end.
pub struct Plain {
    view: RunView,
    output: Output,
}

impl Plain {
    /// Onto `writer`. Each event is written and flushed at once.
    pub fn new(writer: Box<dyn Write + Send>) -> Plain {
        Plain { view: RunView::default(), output: Output::new(writer) }
    }

    /// The first error of the writer since the last call, after which nothing more was written.
    pub fn take_result(&mut self) -> io::Result<()> {
        self.output.take_result()
    }
}

impl Observer for Plain {
    fn on_event(&mut self, event: &Event) {
        self.view.apply(event);
        let mut text = String::new();
        for line in event_lines(&self.view, event) {
            let _ = writeln!(text, "{line}");
        }
        if matches!(event.kind, EventKind::RunEnded { .. } | EventKind::RunSuspended { .. }) {
            for line in summary::closing(&self.view) {
                let _ = writeln!(text, "{}", line.text);
            }
        }
        self.output.write(&text);
    }
}

/// The lines that tell of one event that `view` has just taken in.
pub(crate) fn event_lines(view: &RunView, event: &Event) -> Vec<String> {
    let stage = stage_of(&event.kind).and_then(|index| view.stage(index));
    let columns = Columns::of(view, stage, event.at);
    if let EventKind::Log { stream, line, .. } = &event.kind {
        return vec![columns.line(stream_mark(*stream), &printable(line))];
    }
    let mut lines = Vec::new();
    let mut tell = |text: String| lines.push(columns.line('*', &text));
    match (&event.kind, stage) {
        (EventKind::RunStarted { .. }, _) => tell(opening(view)),
        (EventKind::RunResumed { reason, .. }, _) => tell(format!("resumed: {}", first_line(reason))),
        (EventKind::CancelRequested { how, reason }, _) => tell(cancelling(*how, reason)),
        (EventKind::RunSuspended { .. }, _) => tell("suspended: only gates are left".to_owned()),
        (EventKind::RunEnded { conclusion }, _) => tell(format!("run {}", conclusion.as_str())),
        (EventKind::AttemptStarted { attempt, .. }, Some(stage)) => tell(started(stage, *attempt)),
        (EventKind::Summary { markdown, .. }, _) => {
            markdown.lines().for_each(|line| tell(printable(line).into_owned()));
        }
        (EventKind::Problem { problem, .. }, _) => tell(problem_text(problem)),
        (EventKind::GateOpened { gate, .. }, Some(stage)) => {
            tell(format!("waits: {}", first_line(&gate.message)));
            tell(gate_terms(gate, event.at));
            gate_commands(view, stage).into_iter().for_each(|command| tell(format!("  {command}")));
        }
        (EventKind::GateDecided { decision, .. }, _) => tell(decided(decision)),
        (EventKind::AttemptEnded { attempt, outcome, failure, .. }, Some(stage)) => {
            tell(attempt_ended(stage, *attempt, *outcome, failure.as_ref()));
        }
        (EventKind::RetryScheduled { attempt, after, .. }, _) => {
            tell(format!("attempt {attempt} follows in {}", duration(*after)));
        }
        (EventKind::StageEnded { outcome, conclusion, .. }, Some(stage)) => {
            if let Some(text) = stage_ended(stage, *outcome, *conclusion) {
                tell(text);
            }
        }
        _ => {}
    }
    lines
}

struct Columns {
    offset: u64,
    stage: String,
}

impl Columns {
    fn of(view: &RunView, stage: Option<&StageView>, at: Timestamp) -> Columns {
        let widest = view.stages.iter().map(|stage| width(&printable(&stage.summary.id))).max().unwrap_or(0);
        let name = stage.map(|stage| printable(&stage.summary.id)).unwrap_or_default();
        Columns { offset: at.since(view.started), stage: pad(&name, widest.min(WIDEST_STAGE)) }
    }

    fn line(&self, mark: char, text: &str) -> String {
        let Columns { offset, stage } = self;
        let line = format!("{:>6}.{:03} {stage} {mark} {text}", offset / 1000, offset % 1000);
        line.trim_end().to_owned()
    }
}

pub(crate) fn opening(view: &RunView) -> String {
    let rehearsal = if view.rehearsal { ", as a rehearsal" } else { "" };
    let stages = summary::stages(view.stages.len());
    format!(
        "run {} of {} ({}): {stages}{rehearsal}",
        printable(view.run_id()),
        printable(&view.pipeline),
        printable(&view.file)
    )
}

pub(crate) fn cancelling(how: Interrupt, reason: &str) -> String {
    let verb = match how {
        Interrupt::Graceful => "stopping",
        Interrupt::Kill => "killing what runs",
    };
    format!("{verb}: {}", first_line(reason))
}

fn started(stage: &StageView, attempt: u32) -> String {
    let again = if attempt > 1 { format!(", attempt {attempt}") } else { String::new() };
    let environment =
        stage.summary.environment.as_ref().map(|name| format!(" on {}", printable(name))).unwrap_or_default();
    format!("started {}{environment}{again}", printable(&stage.summary.uses))
}

pub(crate) fn decided(decision: &stagewright_engine::Decision) -> String {
    let verb = if decision.approved { "approved" } else { "rejected" };
    let rehearsed = if decision.rehearsed { " (rehearsed)" } else { "" };
    let reason = decision.reason.as_ref().map(|reason| format!(": {}", first_line(reason))).unwrap_or_default();
    format!("{verb} by {}{rehearsed}{reason}", printable(&decision.by))
}

fn attempt_ended(stage: &StageView, attempt: u32, outcome: Outcome, failure: Option<&Failure>) -> String {
    let again = if attempt > 1 { format!(" (attempt {attempt})") } else { String::new() };
    let why = failure.map(|failure| format!(": {}", first_line(&failure.message))).unwrap_or_default();
    format!("{} after {}{again}{why}", outcome.as_str(), duration(stage.attempt_until(Timestamp::default())))
}

/// What the end of the stage adds to that of its last attempt.
fn stage_ended(stage: &StageView, outcome: Outcome, conclusion: Outcome) -> Option<String> {
    if outcome != conclusion && outcome != Outcome::Skipped {
        return Some(format!("counts as {} (continue-on-error)", conclusion.as_str()));
    }
    let ended_by_attempt = stage.attempt > 0
        && stage.unsuccessful.last().is_none_or(|last| last.attempt != stage.attempt || last.outcome == outcome);
    let why = stage.reason.as_ref().map(|reason| format!(": {}", first_line(reason))).unwrap_or_default();
    (!ended_by_attempt).then(|| format!("{}{why}", outcome.as_str()))
}
