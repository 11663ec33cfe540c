//! `registry`: images. The host transfers them, so that credentials never reach a guest.

use std::path::PathBuf;
use std::sync::Arc;

use super::effects::Effects;
use super::workspace::WorkspaceFiles;
use stagewright_model::WorkspacePath;

use crate::attempt::AttemptContext;
use crate::error::{CapabilityError, ErrorCode, causes_of};
use crate::policy::Policy;
use crate::registry::{
    Descriptor, ImageLocation, ImageReference, OciError, OciErrorKind, Registry, RegistryAccess, inside,
};
use crate::rehearsal::Rehearsal;

/// Access to image registries, for one attempt.
pub(crate) struct Images {
    pub(crate) registry: Arc<Registry>,
    pub(crate) policy: Arc<Policy>,
    pub(crate) workspace: WorkspaceFiles,
    pub(crate) root: PathBuf,
    pub(crate) rehearsal: Rehearsal,
    pub(crate) effects: Effects,
}

impl Images {
    pub(crate) fn for_attempt(attempt: &AttemptContext<'_>) -> Images {
        Images {
            registry: attempt.config().registry.clone(),
            policy: attempt.policy.clone(),
            workspace: attempt.workspace.clone(),
            root: attempt.files.clone(),
            rehearsal: attempt.rehearsal.clone(),
            effects: attempt.effects.clone(),
        }
    }

    /// The access for a reference: to the rehearsal's stand-in, unless the image is granted for real.
    fn access(&self, reference: &ImageReference) -> RegistryAccess<'_> {
        let is_real = self.rehearsal.is_real_image(&reference.repository());
        match self.rehearsal.run().filter(|_| !is_real) {
            Some(run) => RegistryAccess::rehearsed(&self.root, &run.0),
            None => RegistryAccess::real(&self.root),
        }
    }

    /// Ends the attempt if the rehearsal withholds the result, because it would be read from a remote registry.
    async fn or_withhold<T>(&self, result: Result<T, OciError>) -> Result<T, CapabilityError> {
        match result {
            Err(error) if error.kind == OciErrorKind::WithheldInRehearsal => {
                self.rehearsal.withhold(error.message).await
            }
            other => Ok(other?),
        }
    }

    /// Parses and checks a reference that is going to be read.
    async fn source(&self, reference: &str) -> Result<ImageReference, CapabilityError> {
        let mut reference: ImageReference = reference.parse()?;
        match &mut reference.location {
            ImageLocation::Layout { path } => *path = self.readable(path).await?,
            ImageLocation::Embedded { .. } | ImageLocation::Remote { .. } => {
                self.policy.image(&reference.repository())?;
            }
        }
        Ok(reference)
    }

    /// Parses and checks a reference that is going to be written.
    async fn target(&self, reference: &str) -> Result<ImageReference, CapabilityError> {
        let mut reference: ImageReference = reference.parse()?;
        match &mut reference.location {
            ImageLocation::Layout { path } => *path = self.writable(path).await?,
            ImageLocation::Embedded { .. } | ImageLocation::Remote { .. } => {
                self.policy.image(&reference.repository())?;
            }
        }
        Ok(reference)
    }

    /// The real path, relative to the workspace, of a folder that must be granted for reading.
    async fn readable(&self, path: &str) -> Result<String, CapabilityError> {
        self.policy.read(&WorkspacePath::parse(path)?)?;
        let (policy, path) = (self.policy.clone(), path.to_owned());
        let real = self.workspace.off_thread(move |files| {
            let real = files.folder(&path)?;
            policy.read(&real)?;
            Ok(real)
        });
        Ok(real.await?.shown().to_owned())
    }

    /// The real path, relative to the workspace, of a folder that must be granted for writing; it may not exist yet.
    async fn writable(&self, path: &str) -> Result<String, CapabilityError> {
        let path = path.to_owned();
        let real = self.workspace.off_thread(move |files| files.writable(&path)).await?;
        Ok(real.shown().to_owned())
    }

    pub(crate) async fn push(&self, layout: &str, reference: &str) -> Result<Descriptor, CapabilityError> {
        let (layout, reference) = (self.readable(layout).await?, self.target(reference).await?);
        self.announce("push", &reference).await?;
        Ok(self.registry.push(&inside(&self.root, &layout)?, &reference, self.access(&reference)).await?)
    }

    /// Announces the write to a registry. A layout is a folder of the workspace, so writing to one isn't an effect.
    async fn announce(&self, doing: &str, reference: &ImageReference) -> Result<(), CapabilityError> {
        match reference.location {
            ImageLocation::Layout { .. } => Ok(()),
            ImageLocation::Embedded { .. } | ImageLocation::Remote { .. } => {
                self.effects.announce(&format!("{doing} {reference}")).await
            }
        }
    }

    pub(crate) async fn resolve(&self, reference: &str) -> Result<Descriptor, CapabilityError> {
        let reference = self.source(reference).await?;
        self.or_withhold(self.registry.resolve(&reference, self.access(&reference)).await).await
    }

    pub(crate) async fn copy(&self, source: &str, destination: &str) -> Result<Descriptor, CapabilityError> {
        let (source, destination) = (self.source(source).await?, self.target(destination).await?);
        self.announce("copy to", &destination).await?;
        let (from, to) = (self.access(&source), self.access(&destination));
        self.or_withhold(self.registry.copy(&source, from, &destination, to).await).await
    }

    pub(crate) async fn pull(&self, reference: &str, layout: &str) -> Result<Descriptor, CapabilityError> {
        let (reference, layout) = (self.source(reference).await?, self.writable(layout).await?);
        let layout = inside(&self.root, &layout)?;
        self.or_withhold(self.registry.pull(&reference, &layout, self.access(&reference)).await).await
    }
}

impl From<OciError> for CapabilityError {
    fn from(error: OciError) -> CapabilityError {
        let (retryable, causes) = (error.kind.is_retryable().then_some(true), causes_of(&error));
        CapabilityError {
            retryable,
            causes,
            help: error.help,
            ..CapabilityError::new(code_of(error.kind), error.message)
        }
    }
}

pub(crate) fn code_of(kind: OciErrorKind) -> ErrorCode {
    match kind {
        OciErrorKind::InvalidReference | OciErrorKind::InvalidManifest => ErrorCode::InvalidArgument,
        OciErrorKind::NotFound => ErrorCode::NotFound,
        OciErrorKind::Unauthenticated => ErrorCode::Unauthenticated,
        OciErrorKind::Denied => ErrorCode::PermissionDenied,
        OciErrorKind::DigestMismatch | OciErrorKind::UnusableContent | OciErrorKind::Rejected => {
            ErrorCode::FailedPrecondition
        }
        OciErrorKind::TooLarge | OciErrorKind::RateLimited => ErrorCode::ResourceExhausted,
        OciErrorKind::Unavailable => ErrorCode::Unavailable,
        OciErrorKind::TimedOut => ErrorCode::DeadlineExceeded,
        OciErrorKind::WithheldInRehearsal => ErrorCode::Withheld,
        OciErrorKind::Disk | OciErrorKind::Internal => ErrorCode::Internal,
    }
}

#[cfg(test)]
mod tests {
    use cap_std::ambient_authority;
    use cap_std::fs::Dir;
    use stagewright_model::Permissions;

    use super::*;
    use crate::testing::Backends;

    #[tokio::test]
    async fn images_and_folders_need_separate_grants() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("image")).unwrap();
        std::fs::create_dir_all(folder.path().join("private")).unwrap();
        let permissions = Permissions {
            registry: vec!["local/app".parse().unwrap()],
            read: vec!["image".parse().unwrap()],
            write: vec!["out".parse().unwrap()],
            ..Permissions::default()
        };
        let policy = Arc::new(Policy::new("stages.push", &permissions, &Default::default(), Arc::default()));
        let root = Arc::new(Dir::open_ambient_dir(folder.path(), ambient_authority()).unwrap());
        let images = Images {
            registry: Backends::new(folder.path()).registry,
            workspace: WorkspaceFiles::new(root, policy.clone(), 1000),
            policy,
            root: folder.path().to_owned(),
            rehearsal: Rehearsal::none(),
            effects: crate::testing::TestLog::new().effects(),
        };
        let denied = [
            images.push("private", "local/app:1").await,
            images.push("image", "local/other:1").await,
            images.resolve("ghcr.io/acme/app:1").await,
            images.copy("local/app:1", "local/other:1").await,
            images.copy("oci:private", "local/app:1").await,
            images.pull("local/app:1", "image").await,
        ];
        for result in denied {
            assert_eq!(result.unwrap_err().code, ErrorCode::PermissionDenied);
        }
        // The engine refuses the effect, so the registry isn't reached.
        let refused = Err(stagewright_engine::EffectRefused::Unrecorded);
        let (effects, announced) =
            crate::testing::TestLog::new().effects_with_verdict(stagewright_engine::Call::Run, refused);
        let unrecorded = Images {
            effects,
            registry: images.registry.clone(),
            workspace: images.workspace.clone(),
            policy: images.policy.clone(),
            root: images.root.clone(),
            rehearsal: Rehearsal::none(),
        };
        assert_eq!(unrecorded.push("image", "local/app:1").await.unwrap_err().code, ErrorCode::Internal);
        assert_eq!(unrecorded.copy("local/app:1", "local/app:2").await.unwrap_err().code, ErrorCode::Internal);
        assert_eq!(*announced.lock().unwrap(), ["push local/app:1", "copy to local/app:2"]);
        // Granted, so that the error comes from the registry.
        assert_eq!(images.resolve("local/app:1").await.unwrap_err().code, ErrorCode::NotFound);
        assert_eq!(images.pull("local/app:1", "out/layout").await.unwrap_err().code, ErrorCode::NotFound);
    }
}
