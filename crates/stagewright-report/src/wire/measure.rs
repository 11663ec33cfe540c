//! Results of tests, and figures.

use stagewright_api as api;
use stagewright_engine::{FailedTest, Metric, TestCase, TestOutcome};

use super::ToWire;

impl ToWire for TestCase {
    type Wire = api::TestCaseEntry;

    fn to_wire(&self) -> api::TestCaseEntry {
        let TestCase { suite, name, outcome, duration, message, output, place, failures } = self;
        api::TestCaseEntry {
            suite: suite.clone(),
            name: name.clone(),
            outcome: outcome.to_wire(),
            duration: *duration,
            message: message.clone(),
            output: output.clone(),
            place: place.to_wire(),
            failures: *failures,
        }
    }
}

impl ToWire for TestOutcome {
    type Wire = api::TestOutcomeName;

    fn to_wire(&self) -> api::TestOutcomeName {
        match self {
            TestOutcome::Passed => api::TestOutcomeName::Passed,
            TestOutcome::Failed => api::TestOutcomeName::Failed,
            TestOutcome::Errored => api::TestOutcomeName::Errored,
            TestOutcome::Skipped => api::TestOutcomeName::Skipped,
        }
    }
}

impl ToWire for FailedTest {
    type Wire = api::FailedTestEntry;

    fn to_wire(&self) -> api::FailedTestEntry {
        let FailedTest { suite, name, file } = self;
        api::FailedTestEntry { suite: suite.clone(), name: name.clone(), file: file.clone() }
    }
}

impl ToWire for Metric {
    type Wire = api::MetricEntry;

    fn to_wire(&self) -> api::MetricEntry {
        let Metric { name, value, unit } = self;
        api::MetricEntry { name: name.clone(), value: *value, unit: unit.clone() }
    }
}
