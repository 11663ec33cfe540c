//! Releases and artifacts.

use stagewright_api as api;
use stagewright_engine::{Artifact, Release, ReleaseOrigin};

use super::ToWire;

impl ToWire for Release {
    type Wire = api::Release;

    fn to_wire(&self) -> api::Release {
        let Release { environment, artifact, url, fence, config, commit, by, origin } = self;
        api::Release {
            environment: environment.clone(),
            artifact: artifact.clone(),
            url: url.clone(),
            fence: *fence,
            config: config.clone(),
            commit: commit.clone(),
            by: by.clone(),
            origin: origin.to_wire(),
        }
    }
}

impl ToWire for ReleaseOrigin {
    type Wire = api::ReleaseOrigin;

    fn to_wire(&self) -> api::ReleaseOrigin {
        match self {
            ReleaseOrigin::Deploy => api::ReleaseOrigin::Deploy,
            ReleaseOrigin::Rollback => api::ReleaseOrigin::Rollback,
            ReleaseOrigin::Undo => api::ReleaseOrigin::Undo,
        }
    }
}

impl ToWire for Artifact {
    type Wire = api::Artifact;

    fn to_wire(&self) -> api::Artifact {
        let Artifact { name, digest, media_type, size } = self;
        api::Artifact { name: name.clone(), digest: digest.clone(), media_type: media_type.clone(), size: *size }
    }
}
