//! The log of a GitHub Actions job: a group for each attempt, and annotations for findings, failures, attempts whose
//! outcome is unknown, and stages that could not be compensated.
//!
//! Stages run concurrently and groups don't nest, so the log lines of an attempt are held until it has ended. The text
//! of a stage can't become a workflow command: [`Block`] escapes every line that this module didn't write.
//!
//! Format: "Workflow commands for GitHub Actions" in GitHub's documentation; the escapes are those of the runner's
//! `ActionCommand`.

use std::collections::{HashMap, VecDeque};
use std::io;

use stagewright_engine::{
    Event, EventKind, Failure, Gate, GateKind, Level, Observer, Problem, TestCase, TextRange, Timestamp,
};
use stagewright_model::{StageIndex, count};

use crate::explanation::{further_causes, tests_without_finding};
use crate::plain::{event_lines, past_block};
use crate::printable::{Block, Printable, prose, without_commands};
use crate::printer::{ObserverOutput, Printer};
use crate::reader::RunReader;
use crate::summary;
use crate::text;
use crate::view::{RunView, StageView, stage_of};
use crate::{gate, measured};

/// The most log lines that are held for one attempt. Of a longer log, the first lines are dropped.
const HELD_LINES: usize = 10_000;

/// Writes workflow commands.
pub struct Github {
    view: RunView,
    output: ObserverOutput,
    held: HashMap<StageIndex, HeldLog>,
}

#[derive(Default)]
struct HeldLog {
    lines: VecDeque<Printable>,
    left_out: u64,
}

impl Github {
    /// Writes to `printer`, and flushes it after each event.
    pub fn new(printer: Printer) -> Github {
        Github { view: RunView::default(), output: ObserverOutput::new(printer), held: HashMap::new() }
    }

    /// The first write error since the last call. Nothing is written after an error.
    pub fn take_result(&mut self) -> io::Result<()> {
        self.output.take_result()
    }

    fn hold(&mut self, stage: StageIndex, event: &Event) {
        let held = self.held.entry(stage).or_default();
        if held.lines.len() == HELD_LINES {
            held.lines.pop_front();
            held.left_out += 1;
        }
        held.lines.extend(event_lines(&self.view, event));
    }

    fn group(&mut self, stage: StageIndex, title: &str, block: &mut Block) {
        let Some(held) = self.held.remove(&stage) else { return };
        block.push_command(&text!("::group::{}", data(title)));
        if held.left_out > 0 {
            block.push(&text!("({} left out; see `stagewright logs`)", count(held.left_out, "line")));
        }
        block.extend(held.lines);
        block.push_command(&text!("::endgroup::"));
    }
}

impl RunReader for Github {
    fn catch_up(&mut self, past: &[Event]) {
        let block = past_block(&mut self.view, past);
        self.output.block(&block);
    }
}

impl Observer for Github {
    fn on_event(&mut self, event: &Event) {
        self.view.apply(event);
        if let EventKind::Log { stage, .. } = event.kind {
            return self.hold(stage, event);
        }
        let mut block = Block::default();
        if let Some((stage, what)) = ended_plugin_call(&self.view, &event.kind) {
            let id = self.view.stage_id(stage);
            self.group(stage, &format!("{id}, {what}"), &mut block);
        }
        block.extend(event_lines(&self.view, event));
        match (&event.kind, stage_of(&event.kind).and_then(|index| self.view.stage(index))) {
            (EventKind::Problem { problem, .. }, Some(stage)) => block.push_command(&problem_command(stage, problem)),
            (EventKind::TestsReported { cases, .. }, Some(stage)) => {
                let failed = tests_without_finding(stage, cases);
                failed.for_each(|case| block.push_command(&test_command(stage, case)));
            }
            // A failure that repeats a finding gets no annotation of its own.
            (EventKind::StageEnded { .. }, Some(stage))
                if self.view.failed().any(|failed| failed == stage)
                    && !stage.failure().is_some_and(|failure| stage.reports(failure)) =>
            {
                block.push_command(&failure_command(stage));
            }
            (EventKind::GateOpened { gate, .. }, Some(stage)) if gate.kind == GateKind::Unresolved => {
                block.push_command(&unresolved_command(&self.view, stage, gate, event.at));
            }
            (EventKind::UndoEnded { .. }, Some(stage)) => {
                undo_command(stage).iter().for_each(|command| block.push_command(command));
            }
            (EventKind::RunEnded { .. } | EventKind::RunSuspended { .. }, _) => {
                block.extend(summary::closing(&self.view).into_iter().map(|line| line.text));
            }
            _ => {}
        }
        self.output.block(&block);
    }
}

/// The stage whose plugin has just returned from a call, and a title for the log of that call.
fn ended_plugin_call(view: &RunView, event: &EventKind) -> Option<(StageIndex, String)> {
    match event {
        EventKind::AttemptEnded { stage, attempt, .. } => Some((*stage, format!("attempt {attempt}"))),
        EventKind::Recovered { stage, attempt, .. } => Some((*stage, format!("outcome of attempt {attempt}"))),
        EventKind::GateOpened { stage, attempt, gate } if gate.kind == GateKind::Unresolved => {
            Some((*stage, format!("outcome of attempt {attempt}")))
        }
        // The log until the wait, which can be long. The logs of polls that found nothing new are held until its end.
        EventKind::GateOpened { stage, attempt, gate }
            if gate.kind == GateKind::Wait && !view.stage(*stage).is_some_and(StageView::repeats_wait) =>
        {
            Some((*stage, format!("attempt {attempt}")))
        }
        EventKind::UndoEnded { stage, .. } => Some((*stage, "compensation".to_owned())),
        _ => None,
    }
}

/// The annotation for an attempt whose outcome only a person can determine, with the commands that record it.
fn unresolved_command(view: &RunView, stage: &StageView, gate: &Gate, now: Timestamp) -> Printable {
    let title = format!("{} has an unknown outcome", stage.summary.id);
    let mut lines = vec![gate.message.clone()];
    lines.extend(gate::terms(stage, gate, now));
    lines.extend(gate::commands(view, stage, gate));
    text!("::error title={}::{}", property(&title), data(&lines.join("\n")))
}

fn undo_command(stage: &StageView) -> Option<Printable> {
    let (outcome, failure) = stage.undo_failure()?;
    let title = format!("{} was not compensated", stage.summary.id);
    let with_causes =
        |failure: &Failure| failure_text(failure, &failure.causes.iter().map(String::as_str).collect::<Vec<_>>());
    let message = failure.map_or_else(|| outcome.as_str().to_owned(), with_causes);
    Some(text!("::error title={}::{}", property(&title), data(&message)))
}

fn failure_text(failure: &Failure, causes: &[&str]) -> String {
    let lines = [failure.message.as_str()].into_iter().chain(causes.iter().copied()).chain(failure.help.as_deref());
    lines.collect::<Vec<_>>().join("\n")
}

fn problem_command(stage: &StageView, problem: &Problem) -> Printable {
    let command = match problem.level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Info => "notice",
    };
    let title = format!("{}: {}", stage.summary.id, problem.code);
    let file = problem.path.as_ref().map(|path| location(path, problem.range)).unwrap_or_default();
    let help = problem.help.as_ref().map(|help| format!("\n{help}")).unwrap_or_default();
    text!("::{command} {file}title={}::{}", property(&title), data(&format!("{}{help}", problem.message)))
}

/// The properties of an annotation that say where it belongs.
fn location(path: &str, range: Option<TextRange>) -> String {
    let mut properties = format!("file={},", property(path));
    if let Some(TextRange { line, column, end_line, end_column }) = range {
        properties.push_str(&format!("line={line},"));
        for (name, number) in [("endLine", end_line), ("col", column), ("endColumn", end_column)] {
            number.iter().for_each(|number| properties.push_str(&format!("{name}={number},")));
        }
    }
    properties
}

/// The annotation for a test that failed.
fn test_command(stage: &StageView, case: &TestCase) -> Printable {
    let title = format!("{}: {}", stage.summary.id, measured::title(case));
    let file = case.place.as_ref().map(|at| location(&at.path, at.range)).unwrap_or_default();
    let message = case.message.as_deref().unwrap_or("failed");
    text!("::error {file}title={}::{}", property(&title), data(message))
}

fn failure_command(stage: &StageView) -> Printable {
    let outcome = stage.conclusion().map_or("failed", |conclusion| conclusion.as_str());
    let title = format!("{} {outcome}", stage.summary.id);
    // What findings and tests say has annotations of its own.
    let failure = stage.failure().map(|failure| failure_text(failure, &further_causes(stage)));
    let message = failure.or_else(|| stage.reason.clone()).unwrap_or_else(|| title.clone());
    let failed = stage.failure().and_then(|failure| failure.place.as_deref());
    let file = failed.map(|at| location(&at.path, at.range)).unwrap_or_default();
    text!("::error {file}title={}::{}", property(&title), data(&message))
}

/// Escapes the text of a command; line ends are kept as `%0A`.
fn data(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(|line| prose(line).replace('%', "%25")).collect();
    without_commands(&lines.join("%0A")).into_owned()
}

/// Escapes the value of a command's property.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_the_properties_that_are_known() {
        let range = TextRange { line: 3, column: Some(1), end_line: Some(4), end_column: Some(9) };
        assert_eq!(location("src/lib.rs", Some(range)), "file=src/lib.rs,line=3,endLine=4,col=1,endColumn=9,");
        let line = TextRange { line: 3, column: None, end_line: None, end_column: None };
        assert_eq!(location("a:b", Some(line)), "file=a%3Ab,line=3,");
        assert_eq!(location("with.run", None), "file=with.run,");
    }
}
