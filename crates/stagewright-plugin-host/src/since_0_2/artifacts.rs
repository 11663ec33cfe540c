//! `artifacts`.

use wasmtime::component::Resource;

use super::Answer;
use super::stagewright::artifacts::artifacts::{Host, HostArtifact, HostPublication};
use crate::attempt::Attempt;
use crate::call::CallError;
use crate::capability::artifacts::{NamedArtifact, Publication};

impl HostPublication for Attempt {
    async fn new(&mut self, name: String, path: String) -> wasmtime::Result<Resource<Publication>> {
        let size = name.len() + path.len();
        self.handles.push_sized(Publication { name, path, media_type: None }, size)
    }

    async fn media_type(&mut self, publication: Resource<Publication>, media_type: String) -> wasmtime::Result<()> {
        let size = media_type.len();
        self.handles.grow(&publication, size)?.media_type = Some(media_type);
        Ok(())
    }

    async fn publish(&mut self, publication: Resource<Publication>) -> Answer<Resource<NamedArtifact>> {
        let publication = self.handles.get(&publication)?.clone();
        let published = self.publish_artifact(publication).await;
        self.answer_with_handle(published)
    }

    async fn drop(&mut self, publication: Resource<Publication>) -> wasmtime::Result<()> {
        self.handles.delete(publication)?;
        Ok(())
    }
}

impl HostArtifact for Attempt {
    async fn name(&mut self, artifact: Resource<NamedArtifact>) -> wasmtime::Result<String> {
        Ok(self.handles.get(&artifact)?.published.name.clone())
    }

    async fn digest(&mut self, artifact: Resource<NamedArtifact>) -> wasmtime::Result<String> {
        Ok(self.handles.get(&artifact)?.published.digest.clone())
    }

    async fn media_type(&mut self, artifact: Resource<NamedArtifact>) -> wasmtime::Result<String> {
        Ok(self.handles.get(&artifact)?.published.media_type.clone())
    }

    async fn size(&mut self, artifact: Resource<NamedArtifact>) -> wasmtime::Result<u64> {
        Ok(self.handles.get(&artifact)?.published.size)
    }

    async fn stage_id(&mut self, artifact: Resource<NamedArtifact>) -> wasmtime::Result<String> {
        Ok(self.handles.get(&artifact)?.stage.clone())
    }

    async fn folder(&mut self, artifact: Resource<NamedArtifact>) -> wasmtime::Result<bool> {
        Ok(self.handles.get(&artifact)?.is_folder())
    }

    async fn drop(&mut self, artifact: Resource<NamedArtifact>) -> wasmtime::Result<()> {
        self.handles.delete(artifact)?;
        Ok(())
    }
}

impl Host for Attempt {
    async fn published(&mut self) -> Answer<Vec<Resource<NamedArtifact>>> {
        let (artifacts, before) = (self.artifacts.clone(), self.context.request().before.clone());
        let found = match self.workspace.off_thread(move |_| artifacts.of_stages(&before)).await {
            Ok(found) => found.into_iter().map(|artifact| Ok(self.handles.push(artifact)?)).collect(),
            Err(error) => Err(CallError::from(error)),
        };
        self.answer(found)
    }

    async fn fetch(&mut self, name: String, path: String) -> Answer<Resource<NamedArtifact>> {
        let (artifacts, before) = (self.artifacts.clone(), self.context.request().before.clone());
        let fetched = self.workspace.off_thread(move |files| artifacts.fetch(files, &name, &path, &before)).await;
        self.answer_with_handle(fetched)
    }
}
