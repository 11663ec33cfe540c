//! `outputs`.

use super::Answer;
use super::stagewright::outputs::outputs::Host;
use crate::attempt::Attempt;

impl Host for Attempt {
    async fn set(&mut self, name: String, value: String) -> Answer<()> {
        let set = self.outputs.set(&name, &value, self.log.masker());
        self.answer(set)
    }

    async fn summary(&mut self, markdown: String) -> wasmtime::Result<()> {
        if let Some(markdown) = self.outputs.admit_summary(&markdown, self.log.masker()) {
            self.log.summary(markdown).await;
        }
        Ok(())
    }
}
