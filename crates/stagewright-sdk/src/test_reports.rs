//! The results of tests, case by case.

use crate::host::test_reports as host;

pub use crate::bindings::imports::test_reports::TestOutcome;
pub use crate::test_case::{FailedTest, TestCase};

/// Those of the stage's tests that failed in an earlier run, for a run that repeats only these; none when all tests are to
/// run. A stage that can't select some of its tests runs more of them.
///
/// Since version 0.2.2 of the contract: a plugin that calls it needs an engine that has it.
pub fn failed_before() -> Option<Vec<FailedTest>> {
    Some(host::failed_before()?.into_iter().map(FailedTest::from).collect())
}
