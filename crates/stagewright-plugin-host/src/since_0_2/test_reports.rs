//! `test-reports`.

use stagewright_engine::{FailedTest, TestCase, TestOutcome};
use wasmtime::component::Resource;

use super::stagewright::test_reports::test_reports::{Host, HostFailedTest, HostTestCase, TestOutcome as WitOutcome};
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

impl HostFailedTest for Attempt {
    async fn suite(&mut self, test: Resource<FailedTest>) -> wasmtime::Result<String> {
        Ok(self.handles.get(&test)?.suite.clone())
    }

    async fn name(&mut self, test: Resource<FailedTest>) -> wasmtime::Result<String> {
        Ok(self.handles.get(&test)?.name.clone())
    }

    async fn file(&mut self, test: Resource<FailedTest>) -> wasmtime::Result<Option<String>> {
        Ok(self.handles.get(&test)?.file.clone())
    }

    async fn drop(&mut self, test: Resource<FailedTest>) -> wasmtime::Result<()> {
        self.handles.delete(test)?;
        Ok(())
    }
}

impl Host for Attempt {
    async fn failed_before(&mut self) -> wasmtime::Result<Option<Vec<Resource<FailedTest>>>> {
        let Some(tests) = self.context.request().failed_tests.clone() else { return Ok(None) };
        let handles = tests.into_iter().map(|test| {
            let size = test.suite.len() + test.name.len() + test.file.as_ref().map_or(0, String::len);
            self.handles.push_sized(test, size)
        });
        handles.collect::<wasmtime::Result<_>>().map(Some)
    }
}
