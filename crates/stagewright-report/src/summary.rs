//! Text that readers for people share: the summary at the end of a run, findings, and suggested commands.

use std::collections::BTreeMap;

use stagewright_engine::{Failure, FailureKind, Fidelity, GateKind, Level, Outcome, Problem, Release, Stream};

use crate::explanation::FailureExplanation;
use crate::printable::{escaped, prose};
use crate::style::{StyledLine, Tone, outcome_tone, symbol};
use crate::text::{duration, first_line, pad, shell_word, stages};
use crate::view::{Deployed, RunView, StageStatus, StageView};
use crate::{gate, measured, words};

/// The most failed tests and findings of a stage that the summary repeats. They were shown when they were reported, and the
/// log has all of them.
const MOST_REPEATED: usize = 10;

/// The summary of a run that has ended or is suspended: failures, the table of stages, the result, the release that each
/// environment now runs, and commands to continue with.
pub fn closing(view: &RunView) -> Vec<StyledLine> {
    let mut lines = Vec::new();
    for stage in view.failed() {
        lines.push(StyledLine::new(Tone::Neutral, ""));
        lines.extend(failure_block(stage));
    }
    for stage in view.not_compensated() {
        lines.push(StyledLine::new(Tone::Neutral, ""));
        lines.extend(undo_block(stage));
    }
    lines.push(StyledLine::new(Tone::Neutral, ""));
    lines.extend(table(view));
    lines.push(StyledLine::new(Tone::Neutral, counts(view)));
    lines.push(conclusion(view));
    lines.extend(view.deployed().into_values().map(|deployed| release_line(view, deployed)));
    let steps = next_steps(view);
    if !steps.is_empty() {
        lines.push(StyledLine::new(Tone::Neutral, ""));
        lines.push(StyledLine::new(Tone::Strong, "Next steps:"));
        lines.extend(steps.into_iter().map(|step| StyledLine::new(Tone::Neutral, format!("  {step}"))));
    }
    lines
}

/// The failure of a stage, with the end of its log unless findings or tests explain it.
pub fn failure_block(stage: &StageView) -> Vec<StyledLine> {
    let outcome = stage.conclusion().map_or("failed", Outcome::as_str);
    let mut lines = vec![StyledLine::new(Tone::Bad, format!("{} {outcome}", escaped(&stage.summary.id)))];
    let explanation = FailureExplanation::of(stage);
    match stage.failure() {
        Some(failure) => push_failure(failure, &explanation.causes, &mut lines),
        None => stage.reason.iter().for_each(|reason| push_indented(Tone::Neutral, "", reason, &mut lines)),
    }
    let finding_line =
        |problem: &&Problem| StyledLine::new(level_tone(problem.level), format!("  {}", problem_text(problem)));
    let (denials, findings): (Vec<_>, Vec<_>) =
        explanation.findings.iter().partition(|problem| problem.grant.is_some());
    let tests = explanation.tests.iter().map(|case| measured::failed_test(case));
    let tests = tests.map(|test| StyledLine::new(Tone::Bad, format!("  {test}")));
    let mut reported = tests.chain(findings.into_iter().map(finding_line));
    lines.extend(reported.by_ref().take(MOST_REPEATED));
    match reported.count() {
        0 => {}
        more => lines.push(StyledLine::new(Tone::Muted, format!("  and {more} more"))),
    }
    // Each has the line that grants what was denied, so none is left out.
    lines.extend(denials.into_iter().map(finding_line));
    lines.extend(end_of_log(stage, &explanation));
    lines
}

/// Why a stage could not be compensated, with the end of its log; empty if its compensation didn't fail.
fn undo_block(stage: &StageView) -> Vec<StyledLine> {
    let Some((outcome, failure)) = stage.undo_failure() else { return Vec::new() };
    let head = format!("{} could not be compensated ({})", escaped(&stage.summary.id), outcome.as_str());
    let mut lines = vec![StyledLine::new(Tone::Bad, head)];
    if let Some(failure) = failure {
        push_failure(failure, &failure.causes.iter().map(String::as_str).collect::<Vec<_>>(), &mut lines);
    }
    lines.extend(end_of_log(stage, &FailureExplanation::of(stage)));
    lines
}

fn push_failure(failure: &Failure, causes: &[&str], lines: &mut Vec<StyledLine>) {
    push_indented(Tone::Neutral, "", &failure.message, lines);
    let place = failure.place.as_deref().map(measured::file_place);
    place.iter().for_each(|place| push_indented(Tone::Neutral, "at ", place, lines));
    causes.iter().for_each(|cause| push_indented(Tone::Neutral, "because: ", cause, lines));
    failure.help.iter().for_each(|help| push_indented(Tone::Warning, "help: ", help, lines));
}

fn push_indented(tone: Tone, head: &str, text: &str, lines: &mut Vec<StyledLine>) {
    for (index, part) in text.lines().enumerate() {
        let head = if index == 0 { head } else { "" };
        lines.push(StyledLine::new(tone, format!("  {head}{}", prose(part))));
    }
}

fn end_of_log(stage: &StageView, explanation: &FailureExplanation<'_>) -> Vec<StyledLine> {
    let further = &explanation.tail;
    let head = if explanation.has_whole_tail(stage) {
        "  end of its log:"
    } else {
        "  end of its log, without the lines above:"
    };
    let head = (!further.is_empty()).then(|| StyledLine::new(Tone::Muted, head));
    let lines = further
        .iter()
        .map(|line| StyledLine::new(Tone::Muted, format!("    {} {}", stream_mark(line.stream), prose(&line.text))));
    head.into_iter().chain(lines).collect()
}

/// What an environment runs at the end of the run.
fn release_line(view: &RunView, deployed: &Deployed) -> StyledLine {
    if deployed.compensated {
        let environment = escaped(&deployed.release.environment);
        return StyledLine::new(Tone::Warning, format!("the deploy of this run to {environment} was compensated"));
    }
    if view.stage(deployed.stage).is_some_and(|stage| stage.undo_failure().is_some()) {
        let Release { environment, artifact, fence, .. } = &deployed.release;
        let (environment, artifact) = (escaped(environment), escaped(artifact));
        let text =
            format!("the state of {environment} is unknown: {artifact} (token {fence}) could not be compensated");
        return StyledLine::new(Tone::Bad, text);
    }
    let proven = if deployed.confirmed { ", known good" } else { "" };
    StyledLine::new(Tone::Strong, format!("{}{proven}", words::release(view, &deployed.release)))
}

/// A table of all stages in plan order: result, attempts, duration, and a note where the result needs one.
pub fn table(view: &RunView) -> Vec<StyledLine> {
    let columns = view.widest.max(5);
    let rehearsal = if view.rehearsal { format!("{:<10} ", "rehearsal") } else { String::new() };
    let head = format!("  {} {:<12} {rehearsal}{:>8} {:>9}", pad("stage", columns), "result", "attempts", "duration");
    let mut lines = vec![StyledLine::new(Tone::Strong, head)];
    for stage in &view.stages {
        let (mark, tone) = symbol(stage);
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "–".to_owned());
        let attempts = or_dash((stage.attempt > 0).then(|| stage.attempt.to_string()));
        let took = or_dash(stage.has_run.then(|| duration(stage.busy_until(view.last))));
        let result = result(stage);
        let rehearsal = if view.rehearsal { format!("{:<10} ", fidelity(stage)) } else { String::new() };
        let text = format!(
            "{mark} {} {:<12} {rehearsal}{attempts:>8} {took:>9}  {}",
            pad(&escaped(&stage.summary.id), columns),
            result,
            note(view, stage)
        );
        lines.push(StyledLine::new(tone, text.trim_end()));
    }
    lines
}

fn result(stage: &StageView) -> &'static str {
    match &stage.status {
        StageStatus::Pending => "not run",
        StageStatus::Running => "running",
        StageStatus::Recovering { .. } => "unresolved",
        StageStatus::Waiting(gate) if gate.kind == GateKind::Unresolved => "unresolved",
        StageStatus::AwaitingEnvironment { .. } | StageStatus::Waiting(_) => "waiting",
        StageStatus::Retrying { .. } => "retrying",
        StageStatus::Ended { .. } if stage.is_compensated() => "compensated",
        StageStatus::Ended { .. } if stage.undo_failure().is_some() => "undo failed",
        StageStatus::Ended { .. } if stage.is_cached().is_some() => "cached",
        StageStatus::Ended { outcome, .. } => outcome.as_str(),
    }
}

/// Real, stand-in or rehearsed; a dash for a stage that did nothing, and for journals that don't record it.
fn fidelity(stage: &StageView) -> &'static str {
    let did_something = stage.attempt > 0 || stage.conclusion().is_none();
    stage.fidelity().filter(|_| did_something).map_or("–", Fidelity::as_str)
}

fn note(view: &RunView, stage: &StageView) -> String {
    match &stage.status {
        StageStatus::Ended { .. } if stage.is_compensated() || stage.undo_failure().is_some() => {
            words::undo_cause(view, stage).map(|why| format!("because {why}")).unwrap_or_default()
        }
        // A skipped stage has a reason, which says more than that it counts as a success.
        StageStatus::Ended { outcome, conclusion } if outcome != conclusion && *outcome != Outcome::Skipped => {
            format!("counts as {} (continue-on-error)", conclusion.as_str())
        }
        StageStatus::Waiting(gate) => first_line(&gate.message),
        StageStatus::AwaitingEnvironment { holder } => words::environment_awaited(&gate::environment(stage), holder),
        StageStatus::Ended { .. } => {
            let cached = || stage.is_cached().map(words::cached);
            let tests = || measured::tests(&stage.tests);
            stage.reason.as_deref().map(first_line).or_else(tests).or_else(cached).unwrap_or_default()
        }
        StageStatus::Pending | StageStatus::Running | StageStatus::Recovering { .. } | StageStatus::Retrying { .. } => {
            String::new()
        }
    }
}

fn counts(view: &RunView) -> String {
    let mut outcomes = BTreeMap::new();
    let (mut compensated, mut not_compensated, mut cached) = (0, 0, 0);
    for stage in &view.stages {
        match stage.status.shown() {
            Some(_) if stage.is_compensated() => compensated += 1,
            Some(_) if stage.undo_failure().is_some() => not_compensated += 1,
            Some(_) if stage.is_cached().is_some() => cached += 1,
            Some(shown) => *outcomes.entry(shown).or_insert(0) += 1,
            None => {}
        }
    }
    let waiting = view.waiting().count();
    let others = [
        (cached, "cached"),
        (compensated, "compensated"),
        (not_compensated, "not compensated"),
        (waiting, "waiting"),
        (view.stages.len() - view.done() - waiting, "not run"),
    ];
    let outcomes = outcomes.into_iter().map(|(shown, count)| (count, shown.as_str()));
    let parts: Vec<String> =
        outcomes.chain(others).filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    format!("{}: {}", stages(view.stages.len()), parts.join(", "))
}

fn conclusion(view: &RunView) -> StyledLine {
    let run = format!("run {} of {}", escaped(view.run_id()), escaped(&view.pipeline));
    let took = duration(view.last.since(view.started));
    match view.conclusion {
        Some(conclusion) => {
            let why = match &view.cancel {
                Some((_, reason)) if conclusion == Outcome::Cancelled => format!(": {}", first_line(reason)),
                _ => String::new(),
            };
            StyledLine::new(outcome_tone(conclusion), format!("{run} {} after {took}{why}", conclusion.as_str()))
        }
        None => {
            let all_are = |kind| view.waiting().all(|(_, gate)| gate.kind == kind);
            let what = match () {
                () if all_are(GateKind::Freeze) => "the end of a freeze",
                () if all_are(GateKind::Wait) => "a signal",
                () => "an answer",
            };
            StyledLine::new(Tone::Warning, format!("{run} is waiting for {what} after {took}"))
        }
    }
}

/// Commands that answer open gates, show logs of failures, or continue the run. Empty after a success.
pub fn next_steps(view: &RunView) -> Vec<String> {
    let run = shell_word(view.run_id());
    let mut steps: Vec<String> = Vec::new();
    if view.conclusion.is_none() {
        for (stage, gate) in view.waiting() {
            steps.extend(gate::commands(view, stage, gate));
        }
        steps.extend(view.waiting().filter_map(|(_, gate)| gate::resumption(view, gate)));
        steps.dedup();
    }
    for stage in view.failed().filter(|stage| stage.attempt > 0) {
        steps.push(format!("stagewright logs {run} {}", shell_word(&stage.summary.id)));
    }
    for stage in view.not_compensated() {
        steps.push(format!("stagewright logs {run} {}", shell_word(&stage.summary.id)));
        if let Some(environment) = &stage.summary.environment {
            steps.push(format!("stagewright rollback {}", shell_word(environment)));
        }
    }
    if !view.learning && view.failed().any(|stage| stage.tests.iter().any(|case| case.outcome.is_failure())) {
        steps.push(format!("stagewright rerun {run} --failed-tests"));
    }
    let unfinished = view.conclusion.is_some_and(|conclusion| conclusion != Outcome::Succeeded);
    if unfinished {
        steps.extend(resumption(view, &run));
    }
    steps
}

/// How an unfinished run can go on: a stage that was denied something, or has a wrong configuration, fails in the same way
/// again unless the pipeline file is changed, and the change is accepted.
fn resumption(view: &RunView, run: &str) -> Vec<String> {
    let lacks_grants = view.failed().any(|stage| stage.problems.iter().any(|problem| problem.grant.is_some()));
    let kinds = view.failed().filter_map(|stage| Some(stage.failure()?.kind));
    let needs_change = kinds.into_iter().any(|kind| matches!(kind, FailureKind::Denied | FailureKind::Configuration));
    let grant = lacks_grants.then(|| format!("stagewright grant --run {run}"));
    if view.learning {
        return grant.into_iter().collect();
    }
    let accept = if lacks_grants || needs_change { " --accept-changes" } else { "" };
    grant.into_iter().chain([format!("stagewright resume {run}{accept}")]).collect()
}

/// A finding as one line.
pub(crate) fn problem_text(problem: &Problem) -> String {
    let level = match problem.level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Info => "note",
    };
    let place = problem.path.as_ref().map(|path| format!(" ({})", measured::place(path, problem.range)));
    let place = place.unwrap_or_default();
    let help = problem.help.as_ref().map(|help| format!("; {}", one_line(help))).unwrap_or_default();
    format!("{level} {}: {}{place}{help}", escaped(&problem.code), one_line(&problem.message))
}

pub(crate) fn level_tone(level: Level) -> Tone {
    match level {
        Level::Error => Tone::Bad,
        Level::Warning => Tone::Warning,
        Level::Info => Tone::Muted,
    }
}

/// The mark before a log line: `|` standard output, `!` standard error, `>` the plugin, `#` the engine.
pub(crate) fn stream_mark(stream: Stream) -> char {
    match stream {
        Stream::Stdout => '|',
        Stream::Stderr => '!',
        Stream::Plugin => '>',
        Stream::Engine => '#',
    }
}

/// All lines of `text` joined into one, made printable.
fn one_line(text: &str) -> String {
    text.lines().map(prose).collect::<Vec<_>>().join(" ")
}
