//! Texts about results of tests, and about figures.

use stagewright_engine::{FilePlace, Metric, TestCase, TestOutcome, TextRange};
use stagewright_model::count;

use crate::printable::{escaped, prose};
use crate::text::first_line;

/// The line for a test that failed.
pub(crate) fn failed_test(case: &TestCase) -> String {
    let verb = if case.outcome == TestOutcome::Errored { "errored" } else { "failed" };
    let message = case.message.as_deref().map(|message| format!(": {}", first_line(message))).unwrap_or_default();
    let place = case.place.as_ref().map(|at| format!(" ({})", file_place(at))).unwrap_or_default();
    format!("test {verb}: {}{message}{place}", title(case))
}

/// The suite and the name of a test.
pub(crate) fn title(case: &TestCase) -> String {
    match case.suite.is_empty() {
        true => prose(&case.name).into_owned(),
        false => format!("{}: {}", prose(&case.suite), prose(&case.name)),
    }
}

/// How many tests passed, as in `3 of 4 tests passed, 1 flaky`; none if there were none.
pub(crate) fn tests(cases: &[TestCase]) -> Option<String> {
    let number = |of: fn(&TestCase) -> bool| cases.iter().filter(|case| of(case)).count();
    let run = number(|case| case.outcome != TestOutcome::Skipped);
    if cases.is_empty() {
        return None;
    }
    let passed = number(|case| case.outcome == TestOutcome::Passed);
    let flaky = number(|case| case.outcome == TestOutcome::Passed && case.failures > 0);
    let mut text = match passed == run {
        true => format!("{} passed", count(passed, "test")),
        false => format!("{passed} of {} passed", count(run, "test")),
    };
    for (number, what) in [(flaky, "flaky"), (cases.len() - run, "skipped")] {
        if number > 0 {
            text.push_str(&format!(", {number} {what}"));
        }
    }
    Some(text)
}

/// All figures in one line.
pub(crate) fn metrics(metrics: &[Metric]) -> String {
    let text = |Metric { name, value, unit }: &Metric| match unit.as_str() {
        "" => format!("{} {value}", escaped(name)),
        unit => format!("{} {value} {}", escaped(name), escaped(unit)),
    };
    metrics.iter().map(text).collect::<Vec<_>>().join(", ")
}

/// A place in a file, as in `src/lib.rs:8:5`.
pub(crate) fn place(path: &str, range: Option<TextRange>) -> String {
    let mut text = escaped(path).into_owned();
    if let Some(TextRange { line, column, .. }) = range {
        text.push_str(&format!(":{line}"));
        column.iter().for_each(|column| text.push_str(&format!(":{column}")));
    }
    text
}

/// The place of a failure.
pub(crate) fn file_place(at: &FilePlace) -> String {
    place(&at.path, at.range)
}
