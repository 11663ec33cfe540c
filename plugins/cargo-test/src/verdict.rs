//! What the results mean for the stage, and what people are told of them.

use stagewright_sdk::text::count;
use stagewright_sdk::{Diagnostic, Error, ErrorCode};

use crate::config::{Config, Runner};
use crate::reader::Heard;
use crate::results::{Results, Suite, Test, Verdict};

/// Lines of a failing test's output in its finding; the log and the JUnit report have all.
const SHOWN: usize = 8;

/// A finding for each test that failed, and for each executable that came to no end.
pub(crate) fn problems(results: &Results) -> Vec<Diagnostic> {
    results
        .suites
        .iter()
        .flat_map(|suite| {
            suite.tests.iter().filter(|test| test.is_failed()).map(|test| of_test(suite, test)).chain(of_suite(suite))
        })
        .collect()
}

/// Why the stage fails; none when it doesn't.
pub(crate) fn judge(config: &Config, heard: &Heard) -> Option<Error> {
    let Heard { status, results, compile, last_words } = heard;
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
    // Newer versions of nextest make an error of it themselves.
    let says_so = nothing_ran && config.runner == Runner::Nextest && status.code == Some(NEXTEST_NO_TESTS);
    if !status.success() && !says_so {
        let error = Error::new(ErrorCode::FailedPrecondition, format!("cargo ended with {status}, and no test failed"));
        let error = error.causes(last_words);
        let nextest_missing =
            config.runner == Runner::Nextest && last_words.iter().any(|line| line.contains("no such command"));
        return Some(if nextest_missing {
            error.help("install cargo-nextest, or drop `runner = \"nextest\"`")
        } else {
            error
        });
    }
    if nothing_ran && !config.allow_empty {
        let help = "a filter in `args` or `test-args` may fit none; if that is meant, set `allow-empty = true`";
        return Some(Error::failed("no test ran").help(help));
    }
    None
}

/// Its exit code when there was nothing to run.
const NEXTEST_NO_TESTS: i32 = 4;

fn of_test(suite: &Suite, test: &Test) -> Diagnostic {
    let output = test.output.lines();
    let panic = Panic::find(output);
    let why = match (test.verdict, &panic) {
        (Verdict::Unfinished, _) => "it came to no end".to_owned(),
        (_, Some(panic)) => format!("{} ({})", panic.message, panic.place),
        // What it said last is nearest to why.
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

fn of_suite(suite: &Suite) -> Option<Diagnostic> {
    let message = format!("the tests of {} came to no end: their executable crashed, or exited by itself", suite.name);
    let help = "run it with `test-args = [\"--test-threads=1\", \"--nocapture\"]` to see which test was the last";
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
