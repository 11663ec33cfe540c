//! The results as JUnit XML, a format that most CI servers read.

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
    let mut junit = TestSuite::new(allowed(&suite.name));
    junit.set_time(seconds(suite.seconds));
    junit.add_test_cases(suite.tests.iter().map(|test| test_case(suite, test)));
    if suite.is_broken() {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
        status.set_message("the executable didn't finish");
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
    let mut case = TestCase::new(allowed(&test.name), status);
    case.set_classname(allowed(&suite.name));
    if let Some(time) = test.seconds {
        case.set_time(seconds(time));
    }
    case
}

fn failure(kind: NonSuccessKind, test: &Test) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    if !test.output.lines().is_empty() {
        status.set_description(allowed(&test.output.lines().join("\n")));
    }
    status
}

/// Removes the two characters that XML 1.0 forbids but [`quick_junit::XmlString`] keeps. It removes control characters and
/// terminal sequences itself.
fn allowed(text: &str) -> String {
    text.replace(['\u{fffe}', '\u{ffff}'], "")
}

/// Zero for a value that isn't a valid duration.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Output;

    #[test]
    fn no_character_makes_the_report_invalid() {
        let mut test = Test::new("t\u{ffff}\u{1}", Verdict::Failed);
        test.output = Output::default();
        test.output.push("\u{1b}[31mvisible\u{1b}[0m");
        // Few long lines, because only the first lines of a test's output are kept.
        let all: Vec<char> = (char::MIN..=char::MAX).filter(|&character| character != '\n').collect();
        all.chunks(8192).for_each(|line| test.output.push(&line.iter().collect::<String>()));
        let suite = Suite { name: "s\u{fffe}".to_owned(), tests: vec![test], ..Suite::default() };
        let report = render(&Results { suites: vec![suite] });
        let is_forbidden = |character: char| matches!(character, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}');
        assert_eq!(report.find(is_forbidden), None);
        assert!(report.contains(">visible\n") && !report.contains("[31m"));
        let read = Report::deserialize_from_str(&report).unwrap();
        assert_eq!(read.test_suites[0].test_cases[0].name.as_str(), "t");
    }
}
