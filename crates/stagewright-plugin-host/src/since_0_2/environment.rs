//! `environment`.

use stagewright_engine::ReleaseNote;
use wasmtime::component::Resource;

use super::Answer;
use super::stagewright::environment::environment::{Host, HostDeployment};
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

    async fn standing(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(self.environment.standing()?)
    }

    async fn would(&mut self, what: String) -> wasmtime::Result<()> {
        self.environment.would(&what, self.log.masker());
        Ok(())
    }

    async fn restored(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(self.environment.restored()?)
    }

    async fn good_release(&mut self, environment: String) -> Answer<Option<String>> {
        self.read_history = true;
        let release = self.environment.good_release(environment).await;
        self.answer(release)
    }

    async fn rollout(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(self.environment.rollout()?)
    }

    async fn record_rollout(&mut self, rollout: String) -> Answer<()> {
        let recorded = self.environment.record_rollout(&rollout, &self.effects, self.log.masker()).await;
        self.answer(recorded)
    }
}

impl HostDeployment for Attempt {
    async fn new(&mut self, artifact: String) -> wasmtime::Result<Resource<ReleaseNote>> {
        let size = artifact.len();
        self.handles.push_sized(ReleaseNote { artifact, ..ReleaseNote::default() }, size)
    }

    async fn url(&mut self, deployment: Resource<ReleaseNote>, url: String) -> wasmtime::Result<()> {
        let size = url.len();
        self.handles.grow(&deployment, size)?.url = Some(url);
        Ok(())
    }

    async fn part(&mut self, deployment: Resource<ReleaseNote>, name: String, text: String) -> wasmtime::Result<()> {
        let size = name.len() + text.len();
        self.handles.grow(&deployment, size)?.parts.insert(name, text);
        Ok(())
    }

    async fn report(&mut self, deployment: Resource<ReleaseNote>) -> Answer<()> {
        let note = self.handles.get(&deployment)?;
        let recorded = self.environment.record(note, self.log.masker());
        self.answer(recorded)
    }

    async fn drop(&mut self, deployment: Resource<ReleaseNote>) -> wasmtime::Result<()> {
        self.handles.delete(deployment)?;
        Ok(())
    }
}
