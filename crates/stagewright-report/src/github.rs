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

use stagewright_engine::{Event, EventKind, Failure, Gate, GateKind, Level, Observer, Problem, Timestamp};
use stagewright_model::{StageIndex, count};

use crate::gate;
use crate::plain::{event_lines, past_block};
use crate::printable::{Block, Printable, prose, without_commands};
use crate::printer::{ObserverOutput, Printer};
use crate::reader::RunReader;
use crate::summary;
use crate::text;
use crate::view::{RunView, StageView, stage_of};

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
        if let Some((stage, what)) = ended_plugin_call(&event.kind) {
            let id = self.view.stage_id(stage);
            self.group(stage, &format!("{id}, {what}"), &mut block);
        }
        block.extend(event_lines(&self.view, event));
        match (&event.kind, stage_of(&event.kind).and_then(|index| self.view.stage(index))) {
            (EventKind::Problem { problem, .. }, Some(stage)) => block.push_command(&problem_command(stage, problem)),
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
fn ended_plugin_call(event: &EventKind) -> Option<(StageIndex, String)> {
    match event {
        EventKind::AttemptEnded { stage, attempt, .. } => Some((*stage, format!("attempt {attempt}"))),
        EventKind::Recovered { stage, attempt, .. } => Some((*stage, format!("outcome of attempt {attempt}"))),
        EventKind::GateOpened { stage, attempt, gate } if gate.kind == GateKind::Unresolved => {
            Some((*stage, format!("outcome of attempt {attempt}")))
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
    let message = failure.map_or_else(|| outcome.as_str().to_owned(), failure_text);
    Some(text!("::error title={}::{}", property(&title), data(&message)))
}

fn failure_text(failure: &Failure) -> String {
    let lines = [&failure.message].into_iter().chain(&failure.causes).chain(&failure.help);
    lines.cloned().collect::<Vec<_>>().join("\n")
}

fn problem_command(stage: &StageView, problem: &Problem) -> Printable {
    let command = match problem.level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Info => "notice",
    };
    let title = format!("{}: {}", stage.summary.id, problem.code);
    let file = problem.path.as_ref().map(|path| location(path, &problem.message)).unwrap_or_default();
    let help = problem.help.as_ref().map(|help| format!("\n{help}")).unwrap_or_default();
    text!("::{command} {file}title={}::{}", property(&title), data(&format!("{}{help}", problem.message)))
}

/// The `file`, `line` and `col` properties of a finding. Line and column are read from the text that follows the file's
/// name in the form `:LINE:COLUMN`, which many programs write: first in the finding's path, else in its message.
fn location(path: &str, message: &str) -> String {
    let (file, own) = split_numbers(path);
    let mentions = message.match_indices(file).map(|(start, _)| &message[start + file.len()..]);
    let numbers = own.or_else(|| mentions.filter_map(leading_numbers).next());
    let mut properties = format!("file={},", property(file));
    if let Some((line, column)) = numbers {
        properties.push_str(&format!("line={line},"));
        column.iter().for_each(|column| properties.push_str(&format!("col={column},")));
    }
    properties
}

/// A line, and a column if it is known; both from 1.
type Numbers = (u32, Option<u32>);

/// Splits `src/lib.rs:8:5` into the file and the numbers.
fn split_numbers(path: &str) -> (&str, Option<Numbers>) {
    let colons = path.match_indices(':').map(|(at, _)| at);
    let mut places = colons.filter_map(|at| {
        let (numbers, rest) = numbers(&path[at..])?;
        (at > 0 && rest.is_empty()).then_some((&path[..at], Some(numbers)))
    });
    places.next().unwrap_or((path, None))
}

fn leading_numbers(text: &str) -> Option<Numbers> {
    numbers(text).map(|(numbers, _)| numbers)
}

/// Parses `:8` or `:8:5` at the start of `text`. Returns the numbers and the rest of `text`.
fn numbers(text: &str) -> Option<(Numbers, &str)> {
    let (line, rest) = number(text)?;
    match number(rest) {
        Some((column, rest)) => Some(((line, Some(column)), rest)),
        None => Some(((line, None), rest)),
    }
}

fn number(text: &str) -> Option<(u32, &str)> {
    let digits = text.strip_prefix(':')?;
    let end = digits.find(|character: char| !character.is_ascii_digit()).unwrap_or(digits.len());
    let number = digits[..end].parse().ok().filter(|&number| number > 0)?;
    Some((number, &digits[end..]))
}

fn failure_command(stage: &StageView) -> Printable {
    let outcome = stage.conclusion().map_or("failed", |conclusion| conclusion.as_str());
    let title = format!("{} {outcome}", stage.summary.id);
    let message = stage.failure().map(failure_text).or_else(|| stage.reason.clone()).unwrap_or_else(|| title.clone());
    text!("::error title={}::{}", property(&title), data(&message))
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
    fn line_and_column_are_read_from_the_path_or_else_from_the_message() {
        for (path, message, properties) in [
            ("src/lib.rs", "it failed (src/lib.rs:8:51)", "file=src/lib.rs,line=8,col=51,"),
            ("src/lib.rs", "it failed at src/lib.rs:8: no", "file=src/lib.rs,line=8,"),
            ("src/lib.rs:3", "of src/lib.rs:8", "file=src/lib.rs,line=3,"),
            ("src/lib.rs:3:1", "", "file=src/lib.rs,line=3,col=1,"),
            ("src/lib.rs", "src/lib.rs is wrong, and src/lib.rs:0", "file=src/lib.rs,"),
            ("with.run", "at 5:3", "file=with.run,"),
            ("a:b", "", "file=a%3Ab,"),
        ] {
            assert_eq!(location(path, message), properties, "{path:?} {message:?}");
        }
    }
}
