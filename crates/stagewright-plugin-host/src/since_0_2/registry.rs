//! `registry`.

use wasmtime::component::Resource;

use super::Answer;
use super::stagewright::registry::registry::{Host, HostDescriptor};
use crate::attempt::Attempt;
use crate::registry::Descriptor;

impl HostDescriptor for Attempt {
    async fn media_type(&mut self, descriptor: Resource<Descriptor>) -> wasmtime::Result<String> {
        Ok(self.handles.get(&descriptor)?.media_type.clone())
    }

    async fn digest(&mut self, descriptor: Resource<Descriptor>) -> wasmtime::Result<String> {
        Ok(self.handles.get(&descriptor)?.digest.clone())
    }

    async fn size(&mut self, descriptor: Resource<Descriptor>) -> wasmtime::Result<u64> {
        Ok(self.handles.get(&descriptor)?.size)
    }

    async fn drop(&mut self, descriptor: Resource<Descriptor>) -> wasmtime::Result<()> {
        self.handles.delete(descriptor)?;
        Ok(())
    }
}

impl Host for Attempt {
    async fn push(&mut self, layout: String, reference: String) -> Answer<Resource<Descriptor>> {
        let done = self.images.push(&layout, &reference).await;
        self.answer_with_handle(done)
    }

    async fn resolve(&mut self, reference: String) -> Answer<Resource<Descriptor>> {
        let done = self.images.resolve(&reference).await;
        self.answer_with_handle(done)
    }

    async fn copy(&mut self, source: String, destination: String) -> Answer<Resource<Descriptor>> {
        let done = self.images.copy(&source, &destination).await;
        self.answer_with_handle(done)
    }

    async fn pull(&mut self, reference: String, layout: String) -> Answer<Resource<Descriptor>> {
        let done = self.images.pull(&reference, &layout).await;
        self.answer_with_handle(done)
    }
}
