//! The results as JUnit XML, the one format that every CI server reads.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use crate::results::{Results, Suite, Test, Verdict};

pub(crate) fn render(results: &Results) -> String {
    let mut report = Report::new("cargo-test");
    report.set_time(seconds(results.seconds()));
    report.add_test_suites(results.suites.iter().map(test_suite));
    report.to_string().expect("writing into memory can't fail")
}

fn test_suite(suite: &Suite) -> TestSuite {
    let mut junit = TestSuite::new(suite.name.as_str());
    junit.set_time(seconds(suite.seconds));
    junit.add_test_cases(suite.tests.iter().map(|test| test_case(suite, test)));
    if suite.is_broken() {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
        status.set_message("the executable came to no end");
        junit.add_test_case(TestCase::new("(executable)", status));
    }
    junit
}

fn test_case(suite: &Suite, test: &Test) -> TestCase {
    let status = match test.verdict {
        Verdict::Passed => TestCaseStatus::success(),
        Verdict::Ignored => TestCaseStatus::skipped(),
        Verdict::Failed => failure(NonSuccessKind::Failure, test),
        Verdict::Unfinished => failure(NonSuccessKind::Error, test),
    };
    let mut case = TestCase::new(test.name.as_str(), status);
    case.set_classname(suite.name.as_str());
    if let Some(time) = test.seconds {
        case.set_time(seconds(time));
    }
    case
}

fn failure(kind: NonSuccessKind, test: &Test) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    if !test.output.lines().is_empty() {
        status.set_description(test.output.lines().join("\n"));
    }
    status
}

/// What isn't a time is none.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}
