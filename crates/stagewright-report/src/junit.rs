//! A run as a JUnit report, which most CI systems can show.
//!
//! The pipeline is a suite; every stage, and every cell of a matrix, is a test case. A stage that failed or was rejected
//! is a failure. A stage that couldn't do its work or couldn't be compensated is an error. A stage that didn't run, was
//! rehearsed or was compensated is skipped. A stage that succeeded after unsuccessful attempts is flaky.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, SerializeError, TestCase, TestCaseStatus, TestRerun, TestSuite};
use stagewright_engine::{self as engine, Failure, GateKind, Outcome, TestOutcome};

use crate::explanation::FailureExplanation;
use crate::printable::{escaped, prose};
use crate::summary::{problem_text, stream_mark};
use crate::text::first_line;
use crate::view::{RunView, StageStatus, StageView, UnsuccessfulAttempt};
use crate::words;

/// The most failed tries of a test that are listed.
const RERUNS: u32 = 100;

/// The report's XML. In the report of a run that hasn't ended, its unfinished stages are skipped.
///
/// # Errors
/// When the XML can't be serialised. No content of the run causes that: all text is escaped first.
pub fn junit(view: &RunView) -> Result<String, SerializeError> {
    let name = escaped(&view.pipeline);
    let mut suite = TestSuite::new(name.as_ref());
    suite.set_time(Duration::from_millis(view.last.since(view.started)));
    suite.add_property(("run", escaped(view.run_id()).as_ref()));
    suite.add_property(("file", escaped(&view.file).as_ref()));
    suite.add_property(("rehearsal", if view.rehearsal { "true" } else { "false" }));
    suite.add_test_cases(view.stages.iter().map(|stage| test_case(view, stage)));
    let mut report = Report::new(name.as_ref());
    report.set_time(Duration::from_millis(view.last.since(view.started)));
    report.add_test_suite(suite);
    report.add_test_suites(view.stages.iter().filter(|stage| !stage.tests.is_empty()).map(reported_tests));
    report.to_string()
}

fn test_case(view: &RunView, stage: &StageView) -> TestCase {
    let mut case = TestCase::new(escaped(&stage.summary.id), status(view, stage));
    case.set_classname(escaped(&format!("{}.{}", view.pipeline, stage.summary.name)));
    case.set_time(Duration::from_millis(stage.busy_until(view.last)));
    case.add_property(("uses", escaped(&stage.summary.uses).as_ref()));
    if !stage.tail.is_empty() {
        let lines: Vec<String> =
            stage.tail.iter().map(|line| format!("{} {}", stream_mark(line.stream), prose(&line.text))).collect();
        case.set_system_out(lines.join("\n"));
    }
    case
}

/// The tests that a stage ran, as a suite with the stage's name.
fn reported_tests(stage: &StageView) -> TestSuite {
    let mut suite = TestSuite::new(escaped(&stage.summary.id));
    suite.set_time(Duration::from_millis(stage.tests.iter().filter_map(|case| case.duration).sum()));
    suite.add_test_cases(stage.tests.iter().map(reported_test));
    suite
}

fn reported_test(test: &engine::TestCase) -> TestCase {
    let mut status = match test.outcome {
        TestOutcome::Passed => TestCaseStatus::success(),
        TestOutcome::Failed => TestCaseStatus::non_success(NonSuccessKind::Failure),
        TestOutcome::Errored => TestCaseStatus::non_success(NonSuccessKind::Error),
        TestOutcome::Skipped => TestCaseStatus::skipped(),
    };
    if let Some(message) = &test.message {
        match test.outcome {
            TestOutcome::Passed => {}
            TestOutcome::Skipped => {
                status.set_message(first_line(message));
            }
            TestOutcome::Failed | TestOutcome::Errored => {
                status.set_message(first_line(message));
                status.set_description(message.lines().map(prose).collect::<Vec<_>>().join("\n"));
            }
        }
    }
    if test.outcome != TestOutcome::Skipped {
        status.add_reruns((0..test.failures.min(RERUNS)).map(|_| TestRerun::new(NonSuccessKind::Failure)));
    }
    let mut case = TestCase::new(escaped(&test.name), status);
    case.set_classname(escaped(&test.suite));
    test.duration.iter().for_each(|duration| {
        case.set_time(Duration::from_millis(*duration));
    });
    if let Some(place) = &test.place {
        case.extra.insert("file".into(), escaped(&place.path).as_ref().into());
        place.range.iter().for_each(|range| {
            case.extra.insert("line".into(), range.line.to_string().into());
        });
    }
    if let Some(output) = &test.output {
        case.set_system_out(output.lines().map(prose).collect::<Vec<_>>().join("\n"));
    }
    case
}

fn status(view: &RunView, stage: &StageView) -> TestCaseStatus {
    let (StageStatus::Ended { outcome, .. }, Some(conclusion)) = (&stage.status, stage.status.shown()) else {
        return skipped(match &stage.status {
            StageStatus::Waiting(gate) if gate.kind == GateKind::Freeze => "waiting for the end of a freeze",
            StageStatus::Waiting(gate) if gate.kind == GateKind::Unresolved => "outcome unknown, waiting to be settled",
            StageStatus::Waiting(gate) if gate.kind == GateKind::Wait => {
                return skipped(&format!("waiting: {}", first_line(&gate.message)));
            }
            StageStatus::Waiting(_) => "waiting for an answer",
            StageStatus::AwaitingEnvironment { .. } => "waiting for another run",
            StageStatus::Recovering { .. } => "outcome unknown",
            _ => "did not run",
        });
    };
    if stage.is_compensated() {
        let why = words::undo_cause(view, stage).map(|why| format!(" because {why}")).unwrap_or_default();
        return skipped(&format!("succeeded, then was compensated{why}"));
    }
    if let Some((outcome, failure)) = stage.undo_failure() {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
        status.set_type("undo-failed");
        status.set_message(words::undo_ended(outcome, failure, 0));
        failure.into_iter().for_each(|failure| {
            status.set_description(failure_text(failure));
        });
        return status;
    }
    match conclusion {
        Outcome::Succeeded => {
            let mut status = TestCaseStatus::success();
            if *outcome == Outcome::Succeeded {
                status.add_reruns(stage.unsuccessful.iter().map(rerun));
            }
            status
        }
        Outcome::Skipped | Outcome::Cancelled | Outcome::Rehearsed => {
            skipped(stage.reason.as_deref().unwrap_or(conclusion.as_str()))
        }
        Outcome::Failed
        | Outcome::Errored
        | Outcome::TimedOut
        | Outcome::Lost
        | Outcome::Rejected
        | Outcome::Inconclusive => {
            let mut status = TestCaseStatus::non_success(kind(conclusion));
            status.set_type(conclusion.as_str());
            status.set_message(message(stage));
            status.set_description(description(stage));
            let earlier = stage.unsuccessful.len().saturating_sub(1);
            status.add_reruns(stage.unsuccessful[..earlier].iter().map(rerun));
            status
        }
    }
}

fn skipped(why: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::skipped();
    status.set_message(prose(why));
    status
}

fn kind(outcome: Outcome) -> NonSuccessKind {
    match outcome {
        Outcome::Failed | Outcome::Rejected => NonSuccessKind::Failure,
        _ => NonSuccessKind::Error,
    }
}

fn rerun(attempt: &UnsuccessfulAttempt) -> TestRerun {
    let mut rerun = TestRerun::new(kind(attempt.outcome));
    rerun.set_type(attempt.outcome.as_str());
    if let Some(failure) = &attempt.failure {
        rerun.set_message(first_line(&failure.message));
        rerun.set_description(failure_text(failure));
    }
    rerun
}

fn message(stage: &StageView) -> String {
    let message = stage.failure().map(|failure| failure.message.as_str()).or(stage.reason.as_deref());
    first_line(message.unwrap_or_default())
}

fn description(stage: &StageView) -> String {
    let explanation = FailureExplanation::of(stage);
    let failure = stage.failure().map(|failure| text_with(failure, &explanation.causes));
    failure.into_iter().chain(explanation.findings.into_iter().map(problem_text)).collect::<Vec<_>>().join("\n")
}

fn failure_text(failure: &Failure) -> String {
    text_with(failure, &failure.causes.iter().map(String::as_str).collect::<Vec<_>>())
}

fn text_with(failure: &Failure, causes: &[&str]) -> String {
    let causes = causes.iter().map(|cause| format!("because: {cause}"));
    let help = failure.help.iter().map(|help| format!("help: {help}"));
    let lines: Vec<String> = [failure.message.clone()].into_iter().chain(causes).chain(help).collect();
    lines.iter().flat_map(|text| text.lines()).map(prose).collect::<Vec<_>>().join("\n")
}
