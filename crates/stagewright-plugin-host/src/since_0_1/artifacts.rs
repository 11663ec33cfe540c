//! `artifacts`.

use stagewright_engine::Artifact as Published;

use super::stagewright::stage::artifacts::{Artifact, Host};
use crate::attempt::Attempt;
use crate::call::CallResult;
use crate::error::{CapabilityError, ErrorCode};

impl From<Published> for Artifact {
    fn from(published: Published) -> Artifact {
        let Published { name, digest, media_type, size } = published;
        Artifact { name, digest, media_type, size }
    }
}

impl Host for Attempt {
    async fn publish(&mut self, name: String, path: String, media_type: String) -> CallResult<Artifact> {
        // Both are journalled and shown with the run.
        if [&name, &media_type].into_iter().any(|text| self.log.masker().finds_in(text)) {
            let message = "the artifact's name or media type contains a secret";
            return Err(CapabilityError::new(ErrorCode::InvalidArgument, message).with_help("choose another").into());
        }
        let artifacts = self.artifacts.clone();
        Ok(self.workspace.off_thread(move |files| artifacts.publish(files, &name, &path, &media_type)).await?.into())
    }

    async fn fetch(&mut self, name: String, path: String) -> CallResult<Artifact> {
        let artifacts = self.artifacts.clone();
        Ok(self.workspace.off_thread(move |files| artifacts.fetch(files, &name, &path)).await?.into())
    }
}
