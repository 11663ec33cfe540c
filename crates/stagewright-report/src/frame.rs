//! The part of the terminal output that is redrawn in place, as pure text.

use stagewright_engine::{GateKind, Timestamp};

use crate::printable::{escaped, prose};
use crate::style::{Painted, StyledLine, Tone, symbol};
use crate::text::{duration, first_line, pad, stages, truncate, width};
use crate::view::{GroupView, RunView, StageStatus, StageView};
use crate::{gate, words};

/// Frames of the spinner; it advances every 100 ms.
const SPINNER: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];

/// The most stages that get a line of their own; the rest are only counted.
const MOST_STAGES: usize = 12;

/// The most columns that a stage's name takes.
const WIDEST_STAGE: usize = 32;

/// One line for each stage that is running, waiting, about to be retried or being compensated, and one for the run. No
/// line is wider than `columns`. Empty before the run starts, once it has ended, and while it is suspended at gates.
pub fn frame(view: &RunView, now: Timestamp, columns: usize, color: bool) -> Vec<Painted> {
    if view.run.is_none() || view.conclusion.is_some() || view.suspended {
        return Vec::new();
    }
    let active: Vec<&StageView> = view.stages.iter().filter(|stage| is_active(stage)).collect();
    let names = active.iter().map(|stage| width(&escaped(&stage.summary.id))).max().unwrap_or(0).min(WIDEST_STAGE);
    let mut lines: Vec<Painted> =
        active.iter().take(MOST_STAGES).map(|stage| stage_line(stage, now, names, columns, color)).collect();
    if active.len() > MOST_STAGES {
        let text = format!("  … and {} more", active.len() - MOST_STAGES);
        lines.push(StyledLine::new(Tone::Muted, truncate(&text, columns)).painted(color));
    }
    lines.push(run_line(view, now, columns, color));
    lines
}

fn is_active(stage: &StageView) -> bool {
    match stage.status {
        StageStatus::Pending => false,
        StageStatus::Ended { .. } => stage.undone_since().is_some(),
        _ => true,
    }
}

fn stage_line(stage: &StageView, now: Timestamp, names: usize, columns: usize, color: bool) -> Painted {
    let (mark, tone) = match stage.status {
        StageStatus::Running | StageStatus::Recovering { .. } => (spinner(now), Tone::Neutral),
        _ => symbol(stage),
    };
    let name = pad(&escaped(&stage.summary.id), names);
    let (time, text) = match &stage.status {
        StageStatus::Waiting(gate) => {
            let is_wait = gate.kind == GateKind::Wait;
            let left = gate.until.filter(|_| is_wait).map(|until| duration(until.since(now))).unwrap_or_default();
            (left, format!("waiting: {}", first_line(&gate.message)))
        }
        StageStatus::Retrying { at } => {
            (duration(at.since(now)), format!("until attempt {} starts", stage.attempt.saturating_add(1)))
        }
        StageStatus::AwaitingEnvironment { holder } => {
            (String::new(), words::environment_awaited(&gate::environment(stage), holder))
        }
        StageStatus::Recovering { since } => (
            duration(now.since(*since)),
            with_progress(&format!("determining the outcome of attempt {}", stage.attempt), stage),
        ),
        StageStatus::Ended { .. } => {
            let since = stage.undone_since().unwrap_or(now);
            (duration(now.since(since)), with_progress("compensating", stage))
        }
        StageStatus::Pending | StageStatus::Running => (duration(stage.attempt_until(now)), progress_text(stage)),
    };
    let head = truncate(&format!("{mark} {name} {time:>8}  "), columns).into_owned();
    let text = truncate(&text, columns.saturating_sub(width(&head))).into_owned();
    let text = text.trim_end();
    let head = if text.is_empty() { head.trim_end() } else { &head };
    StyledLine::new(tone, head).painted(color).then(&StyledLine::new(Tone::Muted, text).painted(color))
}

fn with_progress(what: &str, stage: &StageView) -> String {
    match progress_text(stage) {
        progress if progress.is_empty() => what.to_owned(),
        progress => format!("{what}: {progress}"),
    }
}

/// The progress that the attempt last reported; if it reported none, its last log line.
fn progress_text(stage: &StageView) -> String {
    match (&stage.progress, stage.tail.back()) {
        (Some(progress), _) => {
            let count = match progress.total {
                Some(total) => format!("{}/{total} ", progress.current),
                None if progress.current > 0 => format!("{} ", progress.current),
                None => String::new(),
            };
            format!("{count}{}", first_line(&progress.message))
        }
        (None, Some(line)) => prose(&line.text).into_owned(),
        (None, None) => String::new(),
    }
}

fn run_line(view: &RunView, now: Timestamp, columns: usize, color: bool) -> Painted {
    let failed = view.failed().count();
    let mut parts = vec![format!("{}/{}", view.done(), stages(view.stages.len()))];
    if failed > 0 {
        parts.push(format!("{failed} failed"));
    }
    if let Some(GroupView { name, holder: Some(holder) }) = &view.group {
        parts.push(words::group_awaited(name, holder));
    }
    if view.cancel.is_some() {
        parts.push("cancelling".to_owned());
    }
    parts.push(duration(now.since(view.started)));
    let rehearsal = if view.rehearsal { " (rehearsal)" } else { "" };
    let text = format!("{}{rehearsal}: {}", escaped(&view.pipeline), parts.join(", "));
    let tone = if failed > 0 { Tone::Bad } else { Tone::Strong };
    StyledLine::new(tone, truncate(&text, columns)).painted(color)
}

fn spinner(now: Timestamp) -> &'static str {
    SPINNER[usize::try_from(now.0 / 100 % 10).unwrap_or(0)]
}
