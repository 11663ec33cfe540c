//! Sentences about events that readers for people share. The reader puts the name of the stage before them.

use indicatif::HumanBytes;
use stagewright_engine::{
    Artifact, Change, Decision, Failure, Finding, Gate, Interrupt, Outcome, Release, ReleaseOrigin, Rollout, RunId,
    Signal, Timestamp,
};

use crate::printable::escaped;
use crate::text::{duration, first_line, stages};
use crate::view::{RunView, StageView};

pub(crate) fn opening(view: &RunView) -> String {
    let rehearsal = match (view.learning, view.rehearsal) {
        (true, _) => ", on a copy, to learn what they use",
        (false, true) => ", as a rehearsal",
        (false, false) => "",
    };
    let stages = stages(view.stages.len());
    format!(
        "run {} of {} ({}): {stages}{rehearsal}",
        escaped(view.run_id()),
        escaped(&view.pipeline),
        escaped(&view.file)
    )
}

/// The most stages that a summary names; the rest are only counted.
const MOST_NAMES: usize = 8;

/// The stages of a resumed run that have succeeded already.
pub(crate) fn done_earlier(view: &RunView) -> Option<String> {
    let is_done = |stage: &&StageView| stage.conclusion() == Some(Outcome::Succeeded);
    let names: Vec<_> = view.stages.iter().filter(is_done).map(|stage| escaped(&stage.summary.id)).collect();
    let more = names.len().saturating_sub(MOST_NAMES);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let listed = names.iter().take(MOST_NAMES).map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    (!names.is_empty()).then(|| format!("{} already succeeded: {listed}{more}", stages(names.len())))
}

/// A gate that was opened before the run was resumed, and is still open.
pub(crate) fn still_waiting(stage: &StageView, gate: &Gate) -> String {
    format!("{} is waiting: {}", escaped(&stage.summary.id), first_line(&gate.message))
}

/// A difference from the start of the run that was accepted on resume.
pub(crate) fn changed(change: &Change) -> String {
    format!("accepted change: {}", first_line(&change.to_string()))
}

pub(crate) fn cancelling(how: Interrupt, reason: &str) -> String {
    let verb = match how {
        Interrupt::Graceful => "cancelling",
        Interrupt::Kill => "killing all running stages",
    };
    format!("{verb}: {}", first_line(reason))
}

pub(crate) fn published(artifact: &Artifact) -> String {
    let Artifact { name, digest, media_type, size } = artifact;
    format!("published {}: {}, {}, {}", first_line(name), HumanBytes(*size), first_line(media_type), escaped(digest))
}

pub(crate) fn group_awaited(group: &str, holder: &RunId) -> String {
    format!("waiting for run {}, which holds the group {}", escaped(&holder.0), first_line(group))
}

pub(crate) fn group_joined(group: &str, replaced: &[RunId]) -> String {
    let runs = replaced.iter().map(|run| escaped(&run.0)).collect::<Vec<_>>().join(", ");
    let cancelled = match replaced.len() {
        0 => String::new(),
        1 => format!("; requested cancellation of run {runs}"),
        _ => format!("; requested cancellation of runs {runs}"),
    };
    format!("acquired the group {}{cancelled}", first_line(group))
}

pub(crate) fn environment_awaited(environment: &str, holder: &RunId) -> String {
    format!("waiting for run {}, which holds {}", escaped(&holder.0), escaped(environment))
}

pub(crate) fn decision_refused(by: &str, reason: &str) -> String {
    format!("refused the answer of {}: {}", escaped(by), first_line(reason))
}

/// The signal that ended a wait.
pub(crate) fn signalled(signal: &Signal) -> String {
    format!("continues after a signal by {}", escaped(&signal.by))
}

pub(crate) fn signal_kept(signal: &Signal) -> String {
    format!("kept a signal by {} for {}, which no stage waits for yet", escaped(&signal.by), escaped(&signal.token))
}

pub(crate) fn signal_refused(token: &str, by: &str, reason: &str) -> String {
    format!("refused the signal of {} for {}: {}", escaped(by), escaped(token), first_line(reason))
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
    format!("attempt {attempt} was interrupted: determining its outcome")
}

pub(crate) fn recovered(attempt: u32, finding: &Finding, by: Option<&str>) -> String {
    let by = by.map(|by| format!(", according to {}", escaped(by))).unwrap_or_default();
    let detail = |detail: &str| if detail.is_empty() { String::new() } else { format!(": {}", first_line(detail)) };
    match finding {
        Finding::NotStarted => format!("attempt {attempt} had no effect{by}: the stage runs again"),
        Finding::Applied(what) => format!("attempt {attempt} took effect{by}{}", detail(what)),
        Finding::Failed(what) => format!("attempt {attempt} took effect but doesn't work{by}{}", detail(what)),
    }
}

/// How far a rollout is.
pub(crate) fn rollout(rollout: &Rollout) -> String {
    let Rollout { service, version, strategy, phase, step, steps, weight, message, .. } = rollout;
    let message = if message.is_empty() { String::new() } else { format!(": {}", first_line(message)) };
    format!(
        "{} of {} {}, step {step} of {steps}, {weight}% of the requests go to {}{message}",
        escaped(strategy),
        escaped(service),
        phase.as_str(),
        escaped(version)
    )
}

/// The release that an environment runs.
pub(crate) fn release(view: &RunView, release: &Release) -> String {
    let (now, again) = match release.origin {
        ReleaseOrigin::Deploy => (" now", ""),
        ReleaseOrigin::Rollback | ReleaseOrigin::Undo => ("", " again"),
    };
    // In a rehearsal the release runs on a stand-in of the environment. Without the prefix, the line of a rehearsal could
    // be mistaken for a deploy to production.
    let rehearsed = if view.rehearsal { "rehearsed: " } else { "" };
    let url = release.url.as_ref().map(|url| format!(" at {}", escaped(url))).unwrap_or_default();
    format!(
        "{rehearsed}{}{now} runs {}{again}{url} (token {})",
        escaped(&release.environment),
        escaped(&release.artifact),
        release.fence
    )
}

/// Why a stage is compensated, as in `smoke failed`.
pub(crate) fn undo_cause(view: &RunView, stage: &StageView) -> Option<String> {
    let because = stage.undo.as_ref()?.because?;
    let outcome = view.stage(because).and_then(StageView::conclusion).unwrap_or(Outcome::Failed);
    Some(format!("{} {}", escaped(&view.stage_id(because)), outcome.as_str()))
}

/// The end of a compensation that took `took` milliseconds.
pub(crate) fn undo_ended(outcome: Outcome, failure: Option<&Failure>, took: u64) -> String {
    let why = failure.map(|failure| format!(": {}", first_line(&failure.message))).unwrap_or_default();
    match outcome {
        Outcome::Succeeded => format!("compensated after {}", duration(took)),
        Outcome::Skipped => format!("nothing to compensate{why}"),
        _ => format!("could not be compensated ({}){why}", outcome.as_str()),
    }
}

/// Milliseconds that the compensation of a stage took, if it ended at `now`.
pub(crate) fn undo_took(stage: &StageView, now: Timestamp) -> u64 {
    stage.undo.as_ref().map_or(0, |undo| now.since(undo.since))
}

/// The origin of a cached result.
pub(crate) fn cached(from: &RunId) -> String {
    format!("as in run {}", escaped(&from.0))
}

/// The selection of a stage's tests.
pub(crate) fn tests_selected(from: &RunId, tests: usize) -> String {
    let tests = if tests == 1 { "the test".to_owned() } else { format!("the {tests} tests") };
    format!("runs only {tests} that failed in run {}", escaped(&from.0))
}

/// The outputs that a skipped stage inherits from an earlier run, by name.
pub(crate) fn inherited<'a>(from: &RunId, outputs: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<&str> = outputs.map(String::as_str).collect();
    let names = if names.is_empty() { String::new() } else { format!(": {}", escaped(&names.join(", "))) };
    format!("inherited its outputs from run {}{names}", escaped(&from.0))
}
