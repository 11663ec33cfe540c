//! Lines for people, for output that isn't a terminal: CI systems, files, pipes.
//!
//! Every line has the same columns: seconds since the start, stage, mark, text. The mark is `*` for an event. For a log
//! line it is `|` for standard output, `!` for standard error, `>` for the plugin and `#` for the engine.

use std::io;

use stagewright_engine::{Event, EventKind, Failure, Finding, LogChunk, Observer, Outcome, RolloutPhase, Timestamp};

use crate::explanation::tests_without_finding;
use crate::printable::{Block, Printable, escaped, prose};
use crate::printer::{ObserverOutput, Printer};
use crate::reader::{RunReader, past_summary};
use crate::summary::{self, problem_text, stream_mark};
use crate::text;
use crate::text::{duration, first_line, pad};
use crate::view::{RunView, StageView, stage_of};
use crate::{gate, markdown, measured, words};

/// The most columns that the stage takes.
const WIDEST_STAGE: usize = 28;

/// Writes a line for each event, and a summary at the end.
pub struct Plain {
    view: RunView,
    output: ObserverOutput,
}

impl Plain {
    /// Writes to `printer`, and flushes it after each event.
    pub fn new(printer: Printer) -> Plain {
        Plain { view: RunView::default(), output: ObserverOutput::new(printer) }
    }

    /// The first write error since the last call. Nothing is written after an error.
    pub fn take_result(&mut self) -> io::Result<()> {
        self.output.take_result()
    }
}

impl RunReader for Plain {
    fn catch_up(&mut self, past: &[Event]) {
        let block = past_block(&mut self.view, past);
        self.output.block(&block);
    }
}

/// A summary of the past events of a resumed run, in the same columns as the events that follow.
pub(crate) fn past_block(view: &mut RunView, past: &[Event]) -> Block {
    let lines = past_summary(view, past);
    let columns = Columns::new(view, None, view.last);
    lines.iter().map(|line| columns.line('*', line)).collect()
}

impl Observer for Plain {
    fn on_event(&mut self, event: &Event) {
        self.view.apply(event);
        let mut block: Block = event_lines(&self.view, event).into_iter().collect();
        if matches!(event.kind, EventKind::RunEnded { .. } | EventKind::RunSuspended { .. }) {
            block.extend(summary::closing(&self.view).into_iter().map(|line| line.text));
        }
        self.output.block(&block);
    }

    fn on_lines(&mut self, chunk: &LogChunk<'_>) {
        self.view.apply_lines(chunk);
        let head =
            Columns::new(&self.view, self.view.stage(chunk.stage), chunk.at).line(stream_mark(chunk.stream), "x");
        let head = Printable::new(head.as_str().strip_suffix('x').unwrap_or_default());
        let mut block = Block::with_capacity(chunk.lines.size() + chunk.lines.count() * head.as_str().len());
        chunk.lines.iter().for_each(|line| block.push_headed(&head, line));
        self.output.block(&block);
    }
}

/// The lines for an event. `view` has applied it already.
pub(crate) fn event_lines(view: &RunView, event: &Event) -> Vec<Printable> {
    let stage = stage_of(&event.kind).and_then(|index| view.stage(index));
    let columns = Columns::new(view, stage, event.at);
    if let EventKind::Log { stream, line, .. } = &event.kind {
        return vec![columns.line(stream_mark(*stream), &prose(line))];
    }
    let mut lines = run_lines(view, event);
    if let Some(stage) = stage {
        lines.extend(stage_lines(view, stage, event));
    }
    lines.iter().map(|text| columns.line('*', text)).collect()
}

/// The lines for an event of the run as a whole.
fn run_lines(view: &RunView, event: &Event) -> Vec<String> {
    match &event.kind {
        EventKind::RunStarted { .. } => vec![words::opening(view)],
        EventKind::RunResumed { reason, changed, .. } => {
            let resumed = format!("resumed: {}", first_line(reason));
            [resumed].into_iter().chain(changed.iter().map(words::changed)).collect()
        }
        EventKind::CancelRequested { how, reason } => vec![words::cancelling(*how, reason)],
        EventKind::GroupAwaited { group, holder } => vec![words::group_awaited(group, holder)],
        EventKind::GroupJoined { group, replaced } => vec![words::group_joined(group, replaced)],
        EventKind::GroupLeft { group } => vec![format!("released the group {}", first_line(group))],
        EventKind::SignalKept { signal } => vec![words::signal_kept(signal)],
        EventKind::SignalRefused { token, by, reason } => vec![words::signal_refused(token, by, reason)],
        EventKind::RunSuspended { .. } => vec!["suspended at its open gates".to_owned()],
        EventKind::RunEnded { conclusion } => vec![format!("run {}", conclusion.as_str())],
        _ => Vec::new(),
    }
}

/// The lines for an event of `stage`.
fn stage_lines(view: &RunView, stage: &StageView, event: &Event) -> Vec<String> {
    let text = match &event.kind {
        EventKind::TestsSelected { from, tests, .. } => words::tests_selected(from, tests.len()),
        EventKind::OutputsInherited { from, outputs, .. } => words::inherited(from, outputs.keys()),
        EventKind::EnvironmentAwaited { environment, holder, .. } => words::environment_awaited(environment, holder),
        // The attempt has started long before, and continues after a wait.
        EventKind::AttemptStarted { .. } if stage.wait.is_some() => return Vec::new(),
        EventKind::AttemptStarted { attempt, fence, .. } => started(stage, *attempt, *fence),
        EventKind::EffectIntended { what, .. } => format!("about to: {}", first_line(what)),
        EventKind::RecoveryStarted { attempt, .. } => words::recovery_started(*attempt),
        EventKind::Recovered { attempt, finding, by, .. } => words::recovered(*attempt, finding, by.as_deref()),
        // The wait that follows says it.
        EventKind::RolloutProgressed { rollout, .. } if rollout.phase == RolloutPhase::Paused => return Vec::new(),
        EventKind::RolloutProgressed { rollout, .. } => words::rollout(rollout),
        EventKind::ReleaseRecorded { release, .. } => words::release(view, release),
        EventKind::ReleaseConfirmed { .. } => {
            format!("release marked good; {} can be rolled back to it", gate::environment(stage))
        }
        EventKind::UndoStarted { fence, .. } => {
            let why = words::undo_cause(view, stage).map(|why| format!(" because {why}")).unwrap_or_default();
            format!("compensating{why}{}", token(*fence))
        }
        EventKind::UndoEnded { outcome, failure, .. } => {
            words::undo_ended(*outcome, failure.as_ref(), words::undo_took(stage, event.at))
        }
        EventKind::CacheLookedUp { hit_from: Some(run), .. } => format!("cached: {}", words::cached(run)),
        EventKind::ArtifactPublished { artifact, .. } => words::published(artifact),
        EventKind::Summary { markdown, .. } => return markdown::lines(markdown),
        EventKind::Problem { problem, .. } => problem_text(problem),
        EventKind::TestsReported { cases, .. } => {
            return tests_without_finding(stage, cases).map(measured::failed_test).collect();
        }
        EventKind::MetricsReported { metrics, .. } => measured::metrics(metrics),
        EventKind::GateOpened { .. } if stage.repeats_wait() => return Vec::new(),
        EventKind::GateOpened { gate, .. } => {
            let mut lines = vec![format!("waiting: {}", first_line(&gate.message))];
            lines.extend(gate::terms(stage, gate, event.at));
            lines.extend(gate::commands(view, stage, gate).into_iter().map(|command| format!("  {command}")));
            return lines;
        }
        EventKind::GateElapsed { .. } if stage.wait.is_some() => return Vec::new(),
        EventKind::GateSignalled { signal, .. } => words::signalled(signal),
        EventKind::GateElapsed { .. } => "the freeze has ended".to_owned(),
        EventKind::GateDecided { decision, .. } => words::decided(decision),
        EventKind::DecisionRefused { by, reason, .. } => words::decision_refused(by, reason),
        EventKind::AttemptEnded { attempt, outcome, failure, .. } => {
            attempt_ended(stage, *attempt, *outcome, failure.as_ref())
        }
        EventKind::RetryScheduled { attempt, after, .. } => {
            format!("attempt {attempt} starts in {}", duration(*after))
        }
        EventKind::StageEnded { outcome, conclusion, .. } => {
            return stage_ended(stage, *outcome, *conclusion).into_iter().collect();
        }
        _ => return Vec::new(),
    };
    vec![text]
}

struct Columns {
    offset: u64,
    stage: String,
}

impl Columns {
    fn new(view: &RunView, stage: Option<&StageView>, at: Timestamp) -> Columns {
        let name = stage.map(|stage| escaped(&stage.summary.id)).unwrap_or_default();
        Columns { offset: at.since(view.started), stage: pad(&name, view.widest.min(WIDEST_STAGE)) }
    }

    fn line(&self, mark: char, text: &str) -> Printable {
        let Columns { offset, stage } = self;
        text!("{:>6}.{:03} {stage} {mark} {text}", offset / 1000, offset % 1000).trimmed()
    }
}

fn started(stage: &StageView, attempt: u32, fence: Option<u64>) -> String {
    let again = if attempt > 1 { format!(", attempt {attempt}") } else { String::new() };
    let environment =
        stage.summary.environment.as_ref().map(|name| format!(" on {}", escaped(name))).unwrap_or_default();
    format!("started {}{environment}{again}{}", escaped(&stage.summary.uses), token(fence))
}

/// The fencing token of the environment, for the end of a line.
fn token(fence: Option<u64>) -> String {
    fence.map(|fence| format!(" (token {fence})")).unwrap_or_default()
}

fn attempt_ended(stage: &StageView, attempt: u32, outcome: Outcome, failure: Option<&Failure>) -> String {
    let again = if attempt > 1 { format!(" (attempt {attempt})") } else { String::new() };
    let why = failure.filter(|failure| !stage.reports(failure));
    let why = why.map(|failure| format!(": {}", first_line(&failure.message))).unwrap_or_default();
    format!("{} after {}{again}{why}", outcome.as_str(), duration(stage.attempt_until(Timestamp::default())))
}

/// The line for the end of a stage; none if the end of its last attempt said the same.
fn stage_ended(stage: &StageView, outcome: Outcome, conclusion: Outcome) -> Option<String> {
    if outcome != conclusion && outcome != Outcome::Skipped {
        return Some(format!("counts as {} (continue-on-error)", conclusion.as_str()));
    }
    let is_recovered = matches!(stage.recovered, Some(Finding::Applied(_) | Finding::Failed(_)));
    let ended_by_attempt = stage.attempt > 0
        && !is_recovered
        && stage.unsuccessful.last().is_none_or(|last| last.attempt != stage.attempt || last.outcome == outcome);
    let why = stage.reason.as_ref().map(|reason| format!(": {}", first_line(reason))).unwrap_or_default();
    (!ended_by_attempt).then(|| format!("{}{why}", outcome.as_str()))
}
