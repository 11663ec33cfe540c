//! What an attempt measured: results of tests, and figures.

use serde::{Deserialize, Serialize};

use super::FilePlace;

/// The result of one test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TestCase {
    /// The suite that it belongs to.
    pub suite: String,
    /// Its name within the suite.
    pub name: String,
    /// The result.
    pub outcome: TestOutcome,
    /// How long it took, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<u64>,
    /// Why it failed or was skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What it printed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Where it is defined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<FilePlace>,
    /// How often it failed before this result. A test that passed after failures is flaky.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failures: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// The result of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TestOutcome {
    /// It passed.
    Passed,
    /// What it checked is wrong.
    Failed,
    /// It couldn't check anything, for example because it crashed.
    Errored,
    /// It wasn't run.
    Skipped,
}

/// A test that failed in an earlier run, to be run again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FailedTest {
    /// The suite that it belongs to.
    pub suite: String,
    /// Its name within the suite.
    pub name: String,
    /// The file of the workspace in which it is defined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

impl TestOutcome {
    /// Whether it makes its suite fail.
    pub fn is_failure(self) -> bool {
        matches!(self, TestOutcome::Failed | TestOutcome::Errored)
    }
}

/// A figure of a stage, to compare between runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: f64,
    /// The unit, as in `bytes` or `%`; empty for a count.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unit: String,
}
