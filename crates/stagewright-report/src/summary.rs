//! What readers for people have in common: durations, the closing words of a run, and what to do next.

use std::collections::BTreeMap;

use stagewright_engine::{Gate, Level, Outcome, Problem, Stream, Timestamp};

use crate::style::{Line, Tone, outcome_tone, symbol};
use crate::text::{pad, printable, shell_word, width};
use crate::view::{RunView, StageView, Status};

/// Milliseconds for people: `320 ms`, `4.2 s`, `1m 04s`, `2h 05m`, `3d 04h`.
pub fn duration(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match seconds {
        0 => format!("{milliseconds} ms"),
        1..60 => format!("{seconds}.{} s", milliseconds % 1000 / 100),
        60..3_600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {:02}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d {:02}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// The words at the end of a run, or where it is suspended: failures, the table of stages, the result, what to do.
pub fn closing(view: &RunView) -> Vec<Line> {
    let mut lines = Vec::new();
    for stage in view.failed() {
        lines.push(Line::new(Tone::Neutral, ""));
        lines.extend(failure_block(stage));
    }
    lines.push(Line::new(Tone::Neutral, ""));
    lines.extend(table(view));
    lines.push(Line::new(Tone::Neutral, counts(view)));
    lines.push(conclusion(view));
    let steps = next_steps(view);
    if !steps.is_empty() {
        lines.push(Line::new(Tone::Neutral, ""));
        lines.push(Line::new(Tone::Strong, "What to do next:"));
        lines.extend(steps.into_iter().map(|step| Line::new(Tone::Neutral, format!("  {step}"))));
    }
    lines
}

/// What went wrong in a stage, with the end of its log.
pub fn failure_block(stage: &StageView) -> Vec<Line> {
    let outcome = stage.conclusion().map_or("failed", Outcome::as_str);
    let mut lines = vec![Line::new(Tone::Bad, format!("{} {outcome}", printable(&stage.summary.id)))];
    let mut tell = |tone, head: &str, text: &str| {
        for (index, part) in text.lines().enumerate() {
            let head = if index == 0 { head } else { "" };
            lines.push(Line::new(tone, format!("  {head}{}", printable(part))));
        }
    };
    match stage.failure() {
        Some(failure) => {
            tell(Tone::Neutral, "", &failure.message);
            failure.causes.iter().for_each(|cause| tell(Tone::Neutral, "because: ", cause));
            failure.help.iter().for_each(|help| tell(Tone::Warning, "help: ", help));
        }
        None => stage.reason.iter().for_each(|reason| tell(Tone::Neutral, "", reason)),
    }
    for problem in &stage.problems {
        lines.push(Line::new(level_tone(problem.level), format!("  {}", problem_text(problem))));
    }
    if !stage.tail.is_empty() {
        lines.push(Line::new(Tone::Muted, "  the end of its log:"));
    }
    for line in &stage.tail {
        lines.push(Line::new(Tone::Muted, format!("    {} {}", stream_mark(line.stream), printable(&line.text))));
    }
    lines
}

/// Every stage in plan order: result, attempts, duration, and why when that isn't plain.
pub fn table(view: &RunView) -> Vec<Line> {
    let columns = view.stages.iter().map(|stage| width(&printable(&stage.summary.id))).max().unwrap_or(0).max(5);
    let head = format!("  {} {:<12} {:>8} {:>9}", pad("stage", columns), "result", "attempts", "duration");
    let mut lines = vec![Line::new(Tone::Strong, head)];
    for stage in &view.stages {
        let (mark, tone) = symbol(&stage.status);
        let (attempts, took) = match stage.attempt {
            0 => ("–".to_owned(), "–".to_owned()),
            attempt => (attempt.to_string(), duration(stage.busy_until(view.last))),
        };
        let result = result(stage);
        let text = format!(
            "{mark} {} {:<12} {attempts:>8} {took:>9}  {}",
            pad(&printable(&stage.summary.id), columns),
            result,
            note(stage)
        );
        lines.push(Line::new(tone, text.trim_end()));
    }
    lines
}

fn result(stage: &StageView) -> &'static str {
    match &stage.status {
        Status::Pending => "not run",
        Status::Running => "running",
        Status::Waiting(_) => "waiting",
        Status::Retrying { .. } => "to be retried",
        Status::Ended { outcome, .. } => outcome.as_str(),
    }
}

fn note(stage: &StageView) -> String {
    match &stage.status {
        // A stage that was left out, or found nothing to do, says why itself.
        Status::Ended { outcome, conclusion } if outcome != conclusion && *outcome != Outcome::Skipped => {
            format!("counts as {} (continue-on-error)", conclusion.as_str())
        }
        Status::Waiting(gate) => first_line(&gate.message),
        Status::Ended { .. } => stage.reason.as_deref().map(first_line).unwrap_or_default(),
        Status::Pending | Status::Running | Status::Retrying { .. } => String::new(),
    }
}

fn counts(view: &RunView) -> String {
    let mut counts = BTreeMap::new();
    for shown in view.stages.iter().filter_map(|stage| stage.status.shown()) {
        *counts.entry(shown).or_insert(0) += 1;
    }
    let mut parts: Vec<String> =
        counts.into_iter().map(|(shown, count)| format!("{count} {}", shown.as_str())).collect();
    match view.waiting().count() {
        0 => {}
        waiting => parts.push(format!("{waiting} waiting")),
    }
    match view.stages.len() - view.done() - view.waiting().count() {
        0 => {}
        open => parts.push(format!("{open} not run")),
    }
    format!("{}: {}", stages(view.stages.len()), parts.join(", "))
}

/// `1 stage`, `3 stages`.
pub(crate) fn stages(count: usize) -> String {
    format!("{count} stage{}", if count == 1 { "" } else { "s" })
}

fn conclusion(view: &RunView) -> Line {
    let run = format!("run {} of {}", printable(view.run_id()), printable(&view.pipeline));
    let took = duration(view.last.since(view.started));
    match view.conclusion {
        Some(conclusion) => {
            let why = match &view.cancel {
                Some((_, reason)) if conclusion == Outcome::Cancelled => format!(": {}", first_line(reason)),
                _ => String::new(),
            };
            Line::new(outcome_tone(conclusion), format!("{run} {} after {took}{why}", conclusion.as_str()))
        }
        None => Line::new(Tone::Warning, format!("{run} waits for an answer; so far it took {took}")),
    }
}

/// Commands to type, with what they are for. Empty when all is well.
pub fn next_steps(view: &RunView) -> Vec<String> {
    let run = shell_word(view.run_id());
    let mut steps: Vec<String> = Vec::new();
    if view.conclusion.is_none() {
        for (stage, _) in view.waiting() {
            steps.extend(gate_commands(view, stage));
        }
    }
    for stage in view.failed().filter(|stage| stage.attempt > 0) {
        steps.push(format!("stagewright logs {run} {}", shell_word(&stage.summary.id)));
    }
    let unfinished = view.conclusion.is_some_and(|conclusion| conclusion != Outcome::Succeeded);
    if unfinished {
        steps.push(format!("stagewright resume {run}"));
    }
    steps
}

/// The two commands that answer a stage's gate.
pub(crate) fn gate_commands(view: &RunView, stage: &StageView) -> [String; 2] {
    ["approve", "reject"]
        .map(|verb| format!("stagewright {verb} {} {}", shell_word(view.run_id()), shell_word(&stage.summary.id)))
}

/// Who may answer a gate and until when, in a sentence.
pub(crate) fn gate_terms(gate: &Gate, now: Timestamp) -> String {
    let who = match gate.approvers.as_slice() {
        [] => "anybody".to_owned(),
        approvers => printable(&approvers.join(", ")).into_owned(),
    };
    let count =
        if gate.approvals > 1 { format!("{} approvals by ", gate.approvals) } else { "to be answered by ".into() };
    let until = gate.expires.map(|at| format!(", lapses in {}", duration(at.since(now)))).unwrap_or_default();
    format!("{count}{who}{until}")
}

/// A finding in one line.
pub(crate) fn problem_text(problem: &Problem) -> String {
    let level = match problem.level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Info => "note",
    };
    let place = problem.path.as_ref().map(|path| format!(" ({})", printable(path))).unwrap_or_default();
    let help = problem.help.as_ref().map(|help| format!("; {}", one_line(help))).unwrap_or_default();
    format!("{level} {}: {}{place}{help}", printable(&problem.code), one_line(&problem.message))
}

pub(crate) fn level_tone(level: Level) -> Tone {
    match level {
        Level::Error => Tone::Bad,
        Level::Warning => Tone::Warning,
        Level::Info => Tone::Muted,
    }
}

/// `|` standard output, `!` standard error, `>` the plugin, `#` the engine.
pub(crate) fn stream_mark(stream: Stream) -> char {
    match stream {
        Stream::Stdout => '|',
        Stream::Stderr => '!',
        Stream::Plugin => '>',
        Stream::Engine => '#',
    }
}

/// The first line of `text`, made printable.
pub(crate) fn first_line(text: &str) -> String {
    printable(text.lines().next().unwrap_or_default()).into_owned()
}

/// All lines of `text` as one, made printable.
fn one_line(text: &str) -> String {
    printable(&text.lines().collect::<Vec<_>>().join(" ")).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_change_their_unit() {
        let shown = [0, 320, 999, 1_000, 4_250, 59_999, 60_000, 64_000, 3_599_999, 3_600_000, 7_500_000, 273_600_000];
        let expected = [
            "0 ms", "320 ms", "999 ms", "1.0 s", "4.2 s", "59.9 s", "1m 00s", "1m 04s", "59m 59s", "1h 00m", "2h 05m",
            "3d 04h",
        ];
        assert_eq!(shown.map(duration), expected);
    }
}
