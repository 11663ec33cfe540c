//! Reports each test as a case, and a finding for each failure.

use std::time::Duration;

use stagewright_sdk::test_reports::{TestCase, TestOutcome};
use stagewright_sdk::{Finding, Position, workspace};

use crate::config::Config;
use crate::results::{EXECUTABLE, Results, Suite, Test, Verdict};

/// How many lines of a failed test's output its finding has. The log and the test case have more.
const SHOWN: usize = 8;

pub(crate) fn report(config: &Config, results: &Results) {
    for suite in &results.suites {
        suite.tests.iter().for_each(|test| report_test(config, suite, test));
        if suite.is_broken() {
            report_crash(suite);
        }
    }
}

fn report_test(config: &Config, suite: &Suite, test: &Test) {
    let mut case = TestCase::new(
        &suite.name,
        &test.name,
        match test.verdict {
            Verdict::Passed => TestOutcome::Passed,
            Verdict::Ignored => TestOutcome::Skipped,
            Verdict::Failed => TestOutcome::Failed,
            Verdict::Unfinished => TestOutcome::Errored,
        },
    );
    case.duration = test.seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    case.failures = test.failures;
    if !test.is_failed() {
        return case.report();
    }
    let output = test.output.lines();
    let panic = Panic::find(output);
    case.file = panic.as_ref().and_then(|panic| panic.position(config));
    let why = match (test.verdict, &panic) {
        (Verdict::Unfinished, _) => "it didn't finish".to_owned(),
        (_, Some(panic)) if case.file.is_some() => panic.message.clone(),
        (_, Some(panic)) => format!("{} ({})", panic.message, panic.place),
        // Without a panic message, the last lines are the most likely to have the reason.
        (_, None) => in_a_sentence(&output[output.len().saturating_sub(SHOWN)..]),
    };
    let mut finding = Finding::error("test-failed", format!("test `{}` of {} failed: {why}", test.name, suite.name))
        .fingerprint(format!("{} {}", suite.name, test.name));
    if let Some((file, position)) = &case.file {
        finding = finding.file(file, *position);
    }
    finding.report();
    case.message(why).output(output.join("\n")).report();
}

fn report_crash(suite: &Suite) {
    let why = "their executable crashed, or a test made it exit";
    TestCase::new(&suite.name, EXECUTABLE, TestOutcome::Errored).message("the executable didn't finish").report();
    Finding::error("test-crashed", format!("the tests of {} didn't finish: {why}", suite.name))
        .fingerprint(&suite.name)
        .help("run it with `test-args = [\"--test-threads=1\", \"--nocapture\"]` to see which test ran last")
        .report();
}

fn in_a_sentence(lines: &[String]) -> String {
    let lines: Vec<&str> = lines.iter().map(|line| line.trim()).filter(|line| !line.is_empty()).collect();
    lines.join("; ")
}

/// `thread 'name' (123) panicked at src/lib.rs:5:9:`, and the message on the lines after it.
struct Panic<'a> {
    /// File, line and column.
    place: &'a str,
    message: String,
}

impl<'a> Panic<'a> {
    fn find(output: &'a [String]) -> Option<Panic<'a>> {
        let index = output.iter().position(|line| line.starts_with("thread '") && line.contains(" panicked at "))?;
        let (_, place) = output[index].rsplit_once(" panicked at ")?;
        let rest = &output[index + 1..];
        let is_after = |line: &String| line.is_empty() || line.starts_with("note: ") || line == "stack backtrace:";
        let length = rest.iter().position(is_after).unwrap_or(rest.len()).min(SHOWN);
        Some(Panic { place: place.trim_end_matches(':'), message: in_a_sentence(&rest[..length]) })
    }

    /// The file of the workspace in which it panicked; none for a file of a dependency, or one that can't be read. The path
    /// is relative to the root of Cargo's workspace, which is the folder of the manifest or one of its parents.
    fn position(&self, config: &Config) -> Option<(String, Option<Position>)> {
        let mut parts = self.place.rsplitn(3, ':');
        let (column, line, file) = (parts.next()?, parts.next()?, parts.next()?);
        let exists = |path: &String| workspace::glob(path).is_ok_and(|found| !found.is_empty());
        let path = [config.beside_manifest(file), file.to_owned()].into_iter().find(exists)?;
        Some((path, line.parse().ok().map(|line| Position { line, column: column.parse().ok() })))
    }
}
