//! `environment`.

use stagewright_engine::ReleaseNote;

use super::stagewright::stage::environment::Host;
use crate::attempt::Attempt;
use crate::call::CallResult;

impl Host for Attempt {
    async fn fence(&mut self) -> wasmtime::Result<Option<u64>> {
        Ok(self.environment.fence())
    }

    async fn current(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(self.environment.current()?)
    }

    async fn last_known_good(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(self.environment.last_known_good()?)
    }

    async fn released(&mut self, artifact: String, url: Option<String>) -> CallResult<()> {
        let note = ReleaseNote { artifact, url, ..ReleaseNote::default() };
        Ok(self.environment.record(&note, self.log.masker())?)
    }
}
