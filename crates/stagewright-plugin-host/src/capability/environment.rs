//! `environment`: the releases of the environment that a stage acts on, and the one that the attempt records.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value as Json, json};
use stagewright_engine::{AttemptRequest, EnvironmentView, ReleaseNote, Rollout};

use crate::attempt::AttemptContext;
use crate::capability::effects::Effects;
use crate::error::{CapabilityError, ErrorCode};
use crate::mask::Masker;

/// The environment that an attempt acts on, if any.
#[derive(Debug)]
pub(crate) struct StageEnvironment {
    request: Arc<AttemptRequest>,
    recorded: Option<ReleaseNote>,
}

impl StageEnvironment {
    pub(crate) fn for_attempt(attempt: &AttemptContext<'_>) -> StageEnvironment {
        StageEnvironment::new(attempt.request.clone())
    }

    pub(crate) fn new(request: Arc<AttemptRequest>) -> StageEnvironment {
        StageEnvironment { request, recorded: None }
    }

    pub(crate) fn fence(&self) -> Option<u64> {
        self.request.environment.as_ref().and_then(|view| view.fence)
    }

    /// The environment's settings in the pipeline file, as JSON; none for a stage without an environment.
    pub(crate) fn settings(&self) -> Option<String> {
        let EnvironmentView { name, target, url, config, .. } = self.request.environment.as_ref()?;
        Some(json!({ "name": name, "target": target, "url": url, "config": config }).to_string())
    }

    /// The current release, as JSON.
    pub(crate) fn current(&self) -> Result<Option<String>, CapabilityError> {
        let view = self.request.environment.as_ref();
        as_json(view.and_then(|view| view.current.as_ref()), "a release")
    }

    /// The last release that was marked good, as JSON.
    pub(crate) fn last_known_good(&self) -> Result<Option<String>, CapabilityError> {
        let view = self.request.environment.as_ref();
        as_json(view.and_then(|view| view.last_known_good.as_ref()), "a release")
    }

    /// The release that the run restores, as JSON.
    pub(crate) fn restored(&self) -> Result<Option<String>, CapabilityError> {
        let view = self.request.environment.as_ref();
        as_json(view.and_then(|view| view.restored.as_ref()), "a release")
    }

    pub(crate) fn record(&mut self, artifact: &str, url: Option<&str>, masker: &Masker) -> Result<(), CapabilityError> {
        if self.fence().is_none() {
            let message = "could not record a release: the stage doesn't act on an environment";
            return Err(CapabilityError::new(ErrorCode::FailedPrecondition, message)
                .with_help("add to the stage: environment = \"staging\""));
        }
        if artifact.trim().is_empty() {
            return Err(CapabilityError::new(
                ErrorCode::InvalidArgument,
                "the artifact of a release must not be empty",
            ));
        }
        self.recorded = Some(ReleaseNote { artifact: masker.text(artifact), url: url.map(|url| masker.text(url)) });
        Ok(())
    }

    /// How far the stage's rollout was when it was last recorded in this run, as JSON.
    pub(crate) fn rollout(&self) -> Result<Option<String>, CapabilityError> {
        as_json(self.request.rollout.as_deref(), "a rollout")
    }

    /// Records how far the stage's rollout is. It is durable once this returns.
    pub(crate) async fn record_rollout(
        &mut self,
        rollout: &str,
        effects: &Effects,
        masker: &Masker,
    ) -> Result<(), CapabilityError> {
        let invalid = |message: String| CapabilityError::new(ErrorCode::InvalidArgument, message);
        if self.fence().is_none() {
            let message = "could not record a rollout: the stage doesn't act on an environment";
            return Err(CapabilityError::new(ErrorCode::FailedPrecondition, message)
                .with_help("add to the stage: environment = \"staging\""));
        }
        let json: Json =
            serde_json::from_str(rollout).map_err(|error| invalid(format!("a rollout isn't JSON: {error}")))?;
        let rollout: Rollout =
            serde_json::from_value(masker.json(&json)).map_err(|error| invalid(format!("invalid rollout: {error}")))?;
        rollout.check().map_err(|error| invalid(error.to_string()))?;
        effects.record_rollout(rollout).await
    }

    /// Takes the release that the attempt recorded, if any.
    pub(crate) fn take(&mut self) -> Option<ReleaseNote> {
        self.recorded.take()
    }
}

fn as_json(record: Option<&impl Serialize>, what: &str) -> Result<Option<String>, CapabilityError> {
    record.map(serde_json::to_string).transpose().map_err(|error| {
        CapabilityError::new(ErrorCode::Internal, format!("could not serialize {what}")).caused_by(&error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::request;

    fn environment(fence: Option<u64>) -> StageEnvironment {
        let view = EnvironmentView { name: "staging".into(), fence, ..EnvironmentView::default() };
        StageEnvironment::new(Arc::new(AttemptRequest { environment: Some(view), ..request() }))
    }

    #[test]
    fn a_release_needs_a_fence_and_is_masked() {
        let masker = Masker::default();
        masker.add("hunter22", false);
        let mut acting = environment(Some(7));
        assert_eq!(acting.take(), None);
        acting.record("local/app@sha256:1", None, &masker).unwrap();
        acting.record("local/app@sha256:2", Some("http://hunter22@x"), &masker).unwrap();
        let note = ReleaseNote { artifact: "local/app@sha256:2".into(), url: Some("http://***@x".into()) };
        assert_eq!(acting.take(), Some(note));
        let error = acting.record(" ", None, &masker).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidArgument);
        let error = environment(None).record("local/app@sha256:1", None, &masker).unwrap_err();
        assert_eq!(error.code, ErrorCode::FailedPrecondition);
    }
}
