//! `environment`.

use super::Answer;
use super::stagewright::environment::environment::Host;
use crate::attempt::Attempt;

impl Host for Attempt {
    async fn fence(&mut self) -> wasmtime::Result<Option<u64>> {
        Ok(self.environment.fence())
    }

    async fn settings(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(self.environment.settings())
    }

    async fn current(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(self.environment.current()?)
    }

    async fn last_known_good(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(self.environment.last_known_good()?)
    }

    async fn released(&mut self, artifact: String, url: Option<String>) -> Answer<()> {
        let recorded = self.environment.record(&artifact, url.as_deref(), self.log.masker());
        self.answer(recorded)
    }
}
