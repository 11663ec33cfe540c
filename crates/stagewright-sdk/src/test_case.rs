//! A test, as it is reported and as it is selected.

use std::time::Duration;

use crate::Position;

use crate::bindings::imports::test_reports::TestOutcome;

/// A test that failed in an earlier run, as it was reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedTest {
    /// The executable, file or class that it belongs to.
    pub suite: String,
    /// Its name in the suite.
    pub name: String,
    /// The file of the workspace in which it is defined.
    pub file: Option<String>,
}

/// The result of a test, to be reported with [`TestCase::report`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestCase {
    /// The executable, file or class that it belongs to.
    pub suite: String,
    /// Its name in the suite.
    pub name: String,
    /// Its result.
    pub outcome: TestOutcome,
    /// How long it took; none if that is unknown.
    pub duration: Option<Duration>,
    /// Why it failed or was skipped.
    pub message: Option<String>,
    /// What it printed.
    pub output: Option<String>,
    /// The file of the workspace in which it is defined, and the place in it.
    pub file: Option<(String, Option<Position>)>,
    /// How often it failed before the outcome. A case that passed after failures is flaky.
    pub failures: u32,
}

impl TestCase {
    /// A result without details.
    pub fn new(suite: impl Into<String>, name: impl Into<String>, outcome: TestOutcome) -> TestCase {
        TestCase {
            suite: suite.into(),
            name: name.into(),
            outcome,
            duration: None,
            message: None,
            output: None,
            file: None,
            failures: 0,
        }
    }

    /// Sets how long it took.
    #[must_use]
    pub fn duration(self, duration: Duration) -> TestCase {
        TestCase { duration: Some(duration), ..self }
    }

    /// Sets why it failed or was skipped.
    #[must_use]
    pub fn message(self, message: impl Into<String>) -> TestCase {
        TestCase { message: Some(message.into()), ..self }
    }

    /// Sets what it printed.
    #[must_use]
    pub fn output(self, output: impl Into<String>) -> TestCase {
        TestCase { output: Some(output.into()), ..self }
    }

    /// Sets the file of the workspace in which it is defined, and the place in it.
    #[must_use]
    pub fn file(self, path: impl Into<String>, position: Option<Position>) -> TestCase {
        TestCase { file: Some((path.into(), position)), ..self }
    }

    /// Sets how often it failed before the outcome.
    #[must_use]
    pub fn failures(self, failures: u32) -> TestCase {
        TestCase { failures, ..self }
    }
}
