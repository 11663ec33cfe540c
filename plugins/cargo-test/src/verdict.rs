//! Decides whether the stage fails.

use stagewright_sdk::Error;
use stagewright_sdk::text::count;

use crate::config::{Config, Runner};
use crate::reader::RunnerOutput;

/// The reason why the stage fails; none when it succeeds.
/// `is_selection`: whether only the tests that failed before were run.
pub(crate) fn failure(config: &Config, output: &RunnerOutput, is_selection: bool) -> Option<Error> {
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
        let error = Error::failed(format!("cargo ended with {status}, but no test failed"));
        let error = error.causes(stderr_tail);
        let nextest_missing =
            config.runner == Runner::Nextest && stderr_tail.iter().any(|line| line.contains("no such command"));
        return Some(if nextest_missing {
            error.help("install cargo-nextest, or remove `runner = \"nextest\"`")
        } else {
            error
        });
    }
    if nothing_ran && is_selection {
        let help = "they may have been renamed or removed; run all tests to see which there are";
        return Some(Error::failed("none of the tests that failed before was found").help(help));
    }
    if nothing_ran && !config.allow_empty {
        let help = "check the filters in `args` and `test-args`; if no tests are expected, set `allow-empty = true`";
        return Some(Error::failed("no tests ran").help(help));
    }
    None
}

/// The exit code of nextest when there are no tests.
const NEXTEST_NO_TESTS: i32 = 4;
