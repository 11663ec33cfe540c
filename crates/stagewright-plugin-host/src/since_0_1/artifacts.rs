//! `artifacts`.

use stagewright_engine::Artifact as Published;

use super::stagewright::stage::artifacts::{Artifact, Host};
use crate::attempt::Attempt;
use crate::call::CallResult;
use crate::capability::artifacts::Publication;

impl From<Published> for Artifact {
    fn from(published: Published) -> Artifact {
        let Published { name, digest, media_type, size } = published;
        Artifact { name, digest, media_type, size }
    }
}

impl Host for Attempt {
    async fn publish(&mut self, name: String, path: String, media_type: String) -> CallResult<Artifact> {
        let publication = Publication { name, path, media_type: Some(media_type) };
        Ok(self.publish_artifact(publication).await?.published.into())
    }

    async fn fetch(&mut self, name: String, path: String) -> CallResult<Artifact> {
        let (artifacts, before) = (self.artifacts.clone(), self.context.request().before.clone());
        Ok(self
            .workspace
            .off_thread(move |files| artifacts.fetch(files, &name, &path, &before))
            .await?
            .published
            .into())
    }
}
