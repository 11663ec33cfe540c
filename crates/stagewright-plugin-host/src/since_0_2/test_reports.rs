//! `test-reports`.

use stagewright_engine::{TestCase, TestOutcome};
use wasmtime::component::Resource;

use super::stagewright::test_reports::test_reports::{Host, HostTestCase, TestOutcome as WitOutcome};
use super::stagewright::types::types::Position;
use super::types::file_place;
use crate::attempt::Attempt;

impl HostTestCase for Attempt {
    async fn new(&mut self, suite: String, name: String, outcome: WitOutcome) -> wasmtime::Result<Resource<TestCase>> {
        let outcome = match outcome {
            WitOutcome::Passed => TestOutcome::Passed,
            WitOutcome::Failed => TestOutcome::Failed,
            WitOutcome::Errored => TestOutcome::Errored,
            WitOutcome::Skipped => TestOutcome::Skipped,
        };
        let size = suite.len() + name.len();
        let (duration, message, output, place, failures) = (None, None, None, None, 0);
        self.handles.push_sized(TestCase { suite, name, outcome, duration, message, output, place, failures }, size)
    }

    async fn duration_ms(&mut self, case: Resource<TestCase>, duration: u64) -> wasmtime::Result<()> {
        self.handles.get_mut(&case)?.duration = Some(duration);
        Ok(())
    }

    async fn message(&mut self, case: Resource<TestCase>, message: String) -> wasmtime::Result<()> {
        let size = message.len();
        self.handles.grow(&case, size)?.message = Some(message);
        Ok(())
    }

    async fn output(&mut self, case: Resource<TestCase>, output: String) -> wasmtime::Result<()> {
        let size = output.len();
        self.handles.grow(&case, size)?.output = Some(output);
        Ok(())
    }

    async fn file(
        &mut self,
        case: Resource<TestCase>,
        path: String,
        position: Option<Position>,
    ) -> wasmtime::Result<()> {
        let size = path.len();
        self.handles.grow(&case, size)?.place = file_place(&path, position);
        Ok(())
    }

    async fn failures(&mut self, case: Resource<TestCase>, count: u32) -> wasmtime::Result<()> {
        self.handles.get_mut(&case)?.failures = count;
        Ok(())
    }

    async fn report(&mut self, case: Resource<TestCase>) -> wasmtime::Result<()> {
        let case = self.handles.get(&case)?.clone();
        self.tests.report(case).await;
        Ok(())
    }

    async fn drop(&mut self, case: Resource<TestCase>) -> wasmtime::Result<()> {
        self.handles.delete(case)?;
        Ok(())
    }
}

impl Host for Attempt {}
