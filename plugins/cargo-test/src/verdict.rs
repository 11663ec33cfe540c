//! Turns the results into findings, and decides whether the stage fails.

use stagewright_sdk::text::count;
use stagewright_sdk::{Diagnostic, Error, ErrorCode};

use crate::config::{Config, Runner};
use crate::reader::RunnerOutput;
use crate::results::{Results, Suite, Test, Verdict};

/// How many lines of a failed test's output its finding has. The log and the JUnit report have more.
const SHOWN: usize = 8;

/// A finding for each test that failed, and for each executable that didn't finish.
pub(crate) fn problems(results: &Results) -> Vec<Diagnostic> {
    results
        .suites
        .iter()
        .flat_map(|suite| {
            let failed = suite.tests.iter().filter(|test| test.is_failed());
            failed.map(|test| failed_test(suite, test)).chain(broken_executable(suite))
        })
        .collect()
}

/// The reason why the stage fails; none when it succeeds.
pub(crate) fn failure(config: &Config, output: &RunnerOutput) -> Option<Error> {
    let RunnerOutput { status, results, compile, stderr_tail } = output;
    if !compile.packages().is_empty() && !status.success() {
        let message = format!("`{}` doesn't compile", compile.packages().join("`, `"));
        return Some(Error::failed(message).causes(compile.first()));
    }
    let (passed, failed) = (results.passed(), results.failed());
    if failed > 0 {
        let names = results.suites.iter().flat_map(|suite| &suite.tests).filter(|test| test.is_failed());
        let total = count(passed + failed, "test");
        return Some(Error::failed(format!("{failed} of {total} failed")).causes(names.map(|test| &test.name)));
    }
    let nothing_ran = passed == 0;
    // Newer versions of nextest exit with an error when there are no tests; `allow-empty` decides here instead.
    let reported_empty = nothing_ran && config.runner == Runner::Nextest && status.code == Some(NEXTEST_NO_TESTS);
    if !status.success() && !reported_empty {
        let error = Error::new(ErrorCode::FailedPrecondition, format!("cargo ended with {status}, but no test failed"));
        let error = error.causes(stderr_tail);
        let nextest_missing =
            config.runner == Runner::Nextest && stderr_tail.iter().any(|line| line.contains("no such command"));
        return Some(if nextest_missing {
            error.help("install cargo-nextest, or remove `runner = \"nextest\"`")
        } else {
            error
        });
    }
    if nothing_ran && !config.allow_empty {
        let help = "check the filters in `args` and `test-args`; if no tests are expected, set `allow-empty = true`";
        return Some(Error::failed("no tests ran").help(help));
    }
    None
}

/// The exit code of nextest when there are no tests.
const NEXTEST_NO_TESTS: i32 = 4;

fn failed_test(suite: &Suite, test: &Test) -> Diagnostic {
    let output = test.output.lines();
    let panic = Panic::find(output);
    let why = match (test.verdict, &panic) {
        (Verdict::Unfinished, _) => "it didn't finish".to_owned(),
        (_, Some(panic)) => format!("{} ({})", panic.message, panic.place),
        // Without a panic message, the last lines are the most likely to have the reason.
        (_, None) => in_a_sentence(&output[output.len().saturating_sub(SHOWN)..]),
    };
    let problem = Diagnostic::error("test-failed", format!("test `{}` of {} failed: {why}", test.name, suite.name));
    match panic {
        Some(panic) => problem.at(panic.file),
        None => problem,
    }
}

fn in_a_sentence(lines: &[String]) -> String {
    let lines: Vec<&str> = lines.iter().map(|line| line.trim()).filter(|line| !line.is_empty()).collect();
    lines.join("; ")
}

fn broken_executable(suite: &Suite) -> Option<Diagnostic> {
    let message =
        format!("the tests of {} didn't finish: their executable crashed, or a test made it exit", suite.name);
    let help = "run it with `test-args = [\"--test-threads=1\", \"--nocapture\"]` to see which test ran last";
    suite.is_broken().then(|| Diagnostic::error("test-crashed", message).help(help))
}

/// `thread 'name' (123) panicked at src/lib.rs:5:9:`, and the message on the lines after it.
struct Panic {
    file: String,
    /// File, line and column.
    place: String,
    message: String,
}

impl Panic {
    fn find(output: &[String]) -> Option<Panic> {
        let index = output.iter().position(|line| line.starts_with("thread '") && line.contains(" panicked at "))?;
        let (_, place) = output[index].rsplit_once(" panicked at ")?;
        let place = place.trim_end_matches(':');
        let file = place.rsplitn(3, ':').nth(2)?;
        let rest = &output[index + 1..];
        let is_after = |line: &String| line.is_empty() || line.starts_with("note: ") || line == "stack backtrace:";
        let length = rest.iter().position(is_after).unwrap_or(rest.len()).min(SHOWN);
        Some(Panic { file: file.to_owned(), place: place.to_owned(), message: in_a_sentence(&rest[..length]) })
    }
}
