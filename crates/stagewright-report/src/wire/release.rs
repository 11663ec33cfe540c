//! Releases and artifacts.

use stagewright_api as api;
use stagewright_engine::{Artifact, Release, ReleaseOrigin, Rollout, RolloutPhase};

use super::ToWire;

impl ToWire for Release {
    type Wire = api::DeployedReleaseEntry;

    fn to_wire(&self) -> api::DeployedReleaseEntry {
        // The parts are for comparisons by the plugin that recorded them.
        let Release { environment, artifact, url, parts: _, fence, config, commit, by, origin } = self;
        api::DeployedReleaseEntry {
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
    type Wire = api::ReleaseOriginName;

    fn to_wire(&self) -> api::ReleaseOriginName {
        match self {
            ReleaseOrigin::Deploy => api::ReleaseOriginName::Deploy,
            ReleaseOrigin::Rollback => api::ReleaseOriginName::Rollback,
            ReleaseOrigin::Undo => api::ReleaseOriginName::Undo,
        }
    }
}

impl ToWire for Rollout {
    type Wire = api::RolloutEntry;

    fn to_wire(&self) -> api::RolloutEntry {
        // What the plugin keeps for itself isn't part of the contract.
        let Rollout { service, version, artifact, strategy, phase, step, steps, weight, message, state: _ } = self;
        api::RolloutEntry {
            service: service.clone(),
            version: version.clone(),
            artifact: artifact.clone(),
            strategy: strategy.clone(),
            phase: phase.to_wire(),
            step: *step,
            steps: *steps,
            weight: *weight,
            message: message.clone(),
        }
    }
}

impl ToWire for RolloutPhase {
    type Wire = api::RolloutPhaseName;

    fn to_wire(&self) -> api::RolloutPhaseName {
        match self {
            RolloutPhase::Progressing => api::RolloutPhaseName::Progressing,
            RolloutPhase::Paused => api::RolloutPhaseName::Paused,
            RolloutPhase::Completed => api::RolloutPhaseName::Completed,
            RolloutPhase::Aborted => api::RolloutPhaseName::Aborted,
            RolloutPhase::Degraded => api::RolloutPhaseName::Degraded,
        }
    }
}

impl ToWire for Artifact {
    type Wire = api::ArtifactEntry;

    fn to_wire(&self) -> api::ArtifactEntry {
        let Artifact { name, digest, media_type, size } = self;
        api::ArtifactEntry { name: name.clone(), digest: digest.clone(), media_type: media_type.clone(), size: *size }
    }
}
