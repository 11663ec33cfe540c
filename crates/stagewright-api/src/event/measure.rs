//! What a stage measured.

use serde::{Deserialize, Serialize};

use super::FilePlaceEntry;

/// The result of one test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TestCaseEntry {
    /// The suite that it belongs to.
    pub suite: String,
    /// Its name within the suite.
    pub name: String,
    /// The result.
    pub outcome: TestOutcomeName,
    /// How long it took, in milliseconds. Left out when it isn't known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<u64>,
    /// Why it failed or was skipped. Left out when it isn't known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What it printed. Left out when it printed nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Where it is defined. Left out when it isn't known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<FilePlaceEntry>,
    /// How often it failed before this result: a test that passed after failures is flaky.
    pub failures: u32,
}

/// The result of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TestOutcomeName {
    /// It passed.
    Passed,
    /// What it checked is wrong.
    Failed,
    /// It couldn't check anything, for example because it crashed.
    Errored,
    /// It wasn't run.
    Skipped,
}

/// A test that failed in an earlier run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FailedTestEntry {
    /// The suite that it belongs to.
    pub suite: String,
    /// Its name within the suite.
    pub name: String,
    /// The file of the workspace in which it is defined. Left out when it isn't known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// A figure of a stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MetricEntry {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: f64,
    /// The unit, as in `bytes` or `%`; empty for a count.
    pub unit: String,
}
