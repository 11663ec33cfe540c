//! `source`.

use stagewright_engine::SourceView;

use super::Answer;
use super::stagewright::source::source::Host;
use crate::attempt::Attempt;

impl Attempt {
    /// The engine passes it on to every stage whose plugin imports the interface.
    fn source(&self) -> wasmtime::Result<&SourceView> {
        let source = self.context.request().source.as_deref();
        source.ok_or_else(|| wasmtime::format_err!("the attempt was requested without the run's source"))
    }
}

/// None for an empty text, which the engine has where there is no repository.
fn known(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

impl Host for Attempt {
    async fn commit(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(known(&self.source()?.git.commit))
    }

    async fn reference(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(known(&self.source()?.trigger.reference))
    }

    async fn branch(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(self.source()?.git.branch.clone())
    }

    async fn tag(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(self.source()?.git.tag.clone())
    }

    async fn dirty(&mut self) -> wasmtime::Result<bool> {
        Ok(self.source()?.git.dirty)
    }

    async fn trigger(&mut self) -> wasmtime::Result<String> {
        Ok(self.source()?.trigger.name.clone())
    }

    async fn actor(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(known(&self.source()?.trigger.actor))
    }

    async fn changed_files(&mut self, since: Option<String>) -> Answer<Vec<String>> {
        let base = self.source()?.base.clone();
        let changed = self.changes.since(since, base).await;
        self.answer(changed)
    }

    async fn commits(&mut self, since: Option<String>, most: u32) -> Answer<String> {
        self.read_history = true;
        let head = known(&self.source()?.git.commit);
        let commits = self.changes.commits(head, since, most).await;
        self.answer(commits)
    }

    async fn repository(&mut self) -> Answer<Option<String>> {
        self.read_history = true;
        let address = self.changes.repository().await;
        self.answer(address)
    }
}
