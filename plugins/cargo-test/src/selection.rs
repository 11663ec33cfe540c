//! Selects the tests that failed before: the arguments for the test executables.

use std::collections::BTreeSet;

use stagewright_sdk::log;
use stagewright_sdk::test_reports::FailedTest;

use crate::results::{DOC_TESTS, EXECUTABLE};

/// What libtest and rustdoc append to the names of tests that they expect to fail, or don't run.
const REMARKS: [&str; 4] = [" - should panic", " - compile fail", " - compile", " - no run"];

/// The arguments after `--`, which select at least these tests; none if it isn't known which tests to run.
pub(crate) fn arguments(tests: &[FailedTest]) -> Option<Vec<String>> {
    if let Some(crashed) = tests.iter().find(|test| test.name == EXECUTABLE) {
        log::warn(format!("all tests run again: it is unknown which tests of {} failed", crashed.suite));
        return None;
    }
    // rustdoc splits its arguments at spaces, and the names of its tests have some: only their file can be given, which is
    // the beginning of the name.
    let is_doc_test = |test: &&FailedTest| test.suite.ends_with(DOC_TESTS);
    let names = tests.iter().map(|test| {
        let name = REMARKS.iter().find_map(|remark| test.name.strip_suffix(remark)).unwrap_or(&test.name);
        let file = name.split_once(" - ").map(|(file, _)| file).filter(|_| is_doc_test(&test));
        file.unwrap_or(name).to_owned()
    });
    let exact = (!tests.iter().any(|test| is_doc_test(&test))).then(|| "--exact".to_owned());
    Some(exact.into_iter().chain(names.collect::<BTreeSet<_>>()).collect())
}

#[cfg(test)]
mod tests {
    use stagewright_sdk::fake::FakeHost;

    use super::*;

    fn selected(tests: &[(&str, &str)]) -> Option<Vec<String>> {
        let test = |(suite, name): &(&str, &str)| FailedTest {
            suite: (*suite).to_owned(),
            name: (*name).to_owned(),
            file: None,
        };
        let tests = tests.iter().map(test).collect::<Vec<_>>();
        FakeHost::new().with(|| arguments(&tests)).0
    }

    #[test]
    fn tests_are_selected_by_their_exact_names() {
        let unit = [("app", "tests::b - should panic"), ("app", "tests::a"), ("app::it", "tests::a")];
        assert_eq!(selected(&unit).unwrap(), ["--exact", "tests::a", "tests::b"]);
    }

    #[test]
    fn doc_tests_are_selected_by_their_file() {
        let tests = [("app (doc-tests)", "src/lib.rs - one (line 1)"), ("app", "tests::a")];
        assert_eq!(selected(&tests).unwrap(), ["src/lib.rs", "tests::a"]);
    }

    #[test]
    fn all_tests_run_if_an_executable_crashed() {
        assert_eq!(selected(&[("app", "tests::a"), ("crash", EXECUTABLE)]), None);
    }
}
