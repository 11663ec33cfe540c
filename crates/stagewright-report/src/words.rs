//! What readers for people say of events, in words that don't name the stage.

use indicatif::HumanBytes;
use stagewright_engine::{
    Artifact, Change, Decision, Failure, Finding, Gate, Interrupt, Outcome, Release, ReleaseOrigin, RunId, Timestamp,
};

use crate::printable::escaped;
use crate::text::{duration, first_line, stages};
use crate::view::{RunView, StageView};

pub(crate) fn opening(view: &RunView) -> String {
    let rehearsal = if view.rehearsal { ", as a rehearsal" } else { "" };
    let stages = stages(view.stages.len());
    format!(
        "run {} of {} ({}): {stages}{rehearsal}",
        escaped(view.run_id()),
        escaped(&view.pipeline),
        escaped(&view.file)
    )
}

/// Names of stages in a line that sums up; the rest are counted.
const MOST_NAMES: usize = 8;

/// The stages that don't run again when a run is continued, unless that is asked for.
pub(crate) fn done_earlier(view: &RunView) -> Option<String> {
    let is_done = |stage: &&StageView| stage.conclusion() == Some(Outcome::Succeeded);
    let names: Vec<_> = view.stages.iter().filter(is_done).map(|stage| escaped(&stage.summary.id)).collect();
    let more = names.len().saturating_sub(MOST_NAMES);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let listed = names.iter().take(MOST_NAMES).map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    (!names.is_empty()).then(|| format!("{} done earlier: {listed}{more}", stages(names.len())))
}

/// A gate that was opened earlier.
pub(crate) fn still_waiting(stage: &StageView, gate: &Gate) -> String {
    format!("{} waits: {}", escaped(&stage.summary.id), first_line(&gate.message))
}

/// What is no longer as it was when the run started.
pub(crate) fn changed(change: &Change) -> String {
    let Change { what, then, now } = change;
    let part = |text: &str| if text.is_empty() { "nothing".to_owned() } else { first_line(text) };
    format!("changed since the start, and accepted: {} was {}, is {}", first_line(what), part(then), part(now))
}

pub(crate) fn cancelling(how: Interrupt, reason: &str) -> String {
    let verb = match how {
        Interrupt::Graceful => "stopping",
        Interrupt::Kill => "killing what runs",
    };
    format!("{verb}: {}", first_line(reason))
}

pub(crate) fn published(artifact: &Artifact) -> String {
    let Artifact { name, digest, media_type, size } = artifact;
    format!("published {}: {}, {}, {}", first_line(name), HumanBytes(*size), first_line(media_type), escaped(digest))
}

pub(crate) fn group_awaited(group: &str, holder: &RunId) -> String {
    format!("waits for run {}, which has the group {}", escaped(&holder.0), first_line(group))
}

pub(crate) fn group_joined(group: &str, replaced: &[RunId]) -> String {
    let runs = replaced.iter().map(|run| escaped(&run.0)).collect::<Vec<_>>().join(", ");
    let asked = match replaced.len() {
        0 => String::new(),
        1 => format!("; run {runs} was asked to end"),
        _ => format!("; the runs {runs} were asked to end"),
    };
    format!("has the group {}{asked}", first_line(group))
}

pub(crate) fn environment_awaited(environment: &str, holder: &RunId) -> String {
    format!("waits for run {}, which has {}", escaped(&holder.0), escaped(environment))
}

pub(crate) fn decision_refused(by: &str, reason: &str) -> String {
    format!("the answer of {} doesn't count: {}", escaped(by), first_line(reason))
}

pub(crate) fn decided(decision: &Decision) -> String {
    let verb = match (&decision.finding, decision.approved) {
        (Some(_), _) => "settled",
        (None, true) => "approved",
        (None, false) => "rejected",
    };
    let rehearsed = if decision.rehearsed { " (rehearsed)" } else { "" };
    let reason = decision.reason.as_ref().map(|reason| format!(": {}", first_line(reason))).unwrap_or_default();
    format!("{verb} by {}{rehearsed}{reason}", escaped(&decision.by))
}

pub(crate) fn recovery_started(attempt: u32) -> String {
    format!("attempt {attempt} was broken off: asking what became of it")
}

pub(crate) fn recovered(attempt: u32, finding: &Finding, by: Option<&str>) -> String {
    let by = by.map(|by| format!(", says {}", escaped(by))).unwrap_or_default();
    let detail = |detail: &str| if detail.is_empty() { String::new() } else { format!(": {}", first_line(detail)) };
    match finding {
        Finding::NotStarted => format!("attempt {attempt} had no effect{by}: the stage runs again"),
        Finding::Applied(what) => format!("attempt {attempt} had its effect{by}{}", detail(what)),
        Finding::Failed(what) => format!("attempt {attempt} had its effect, which doesn't work{by}{}", detail(what)),
    }
}

/// What now runs where.
pub(crate) fn release(view: &RunView, release: &Release) -> String {
    let (now, again) = match release.origin {
        ReleaseOrigin::Deploy => (" now", ""),
        ReleaseOrigin::Rollback | ReleaseOrigin::Undo => ("", " again"),
    };
    // A rehearsal's stand-in must not be taken for the real thing.
    let rehearsed = if view.rehearsal { "rehearsed: " } else { "" };
    let url = release.url.as_ref().map(|url| format!(" at {}", escaped(url))).unwrap_or_default();
    format!(
        "{rehearsed}{}{now} runs {}{again}{url} (token {})",
        escaped(&release.environment),
        escaped(&release.artifact),
        release.fence
    )
}

/// Why a stage's effect is taken back: as in `smoke failed`.
pub(crate) fn undo_cause(view: &RunView, stage: &StageView) -> Option<String> {
    let because = stage.undo.as_ref()?.because?;
    let outcome = view.stage(because).and_then(StageView::conclusion).unwrap_or(Outcome::Failed);
    Some(format!("{} {}", escaped(&view.stage_id(because)), outcome.as_str()))
}

/// The end of an undo; `since` is when it began.
pub(crate) fn undo_ended(outcome: Outcome, failure: Option<&Failure>, took: u64) -> String {
    let why = failure.map(|failure| format!(": {}", first_line(&failure.message))).unwrap_or_default();
    match outcome {
        Outcome::Succeeded => format!("taken back after {}", duration(took)),
        Outcome::Skipped => format!("nothing to take back{why}"),
        _ => format!("could not be taken back ({}){why}", outcome.as_str()),
    }
}

/// Milliseconds that an undo which ended at `now` took.
pub(crate) fn undo_took(stage: &StageView, now: Timestamp) -> u64 {
    stage.undo.as_ref().map_or(0, |undo| now.since(undo.since))
}

/// Where the result of a stage comes from that had nothing to do.
pub(crate) fn cached(from: &RunId) -> String {
    format!("as in run {}", escaped(&from.0))
}

/// The names of inherited outputs.
pub(crate) fn inherited<'a>(from: &RunId, outputs: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<&str> = outputs.map(String::as_str).collect();
    let names = if names.is_empty() { String::new() } else { format!(": {}", escaped(&names.join(", "))) };
    format!("has its outputs from run {}{names}", escaped(&from.0))
}
