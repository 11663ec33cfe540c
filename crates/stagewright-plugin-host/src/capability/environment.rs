//! `environment`: the releases of the environment that a stage acts on, and the one that the attempt records.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value as Json, json};
use stagewright_engine::{AttemptRequest, EnvironmentView, ReleaseNote, Rollout};

use crate::attempt::AttemptContext;
use crate::blocking::blocking;
use crate::capability::effects::Effects;
use crate::error::{CapabilityError, ErrorCode};
use crate::mask::Masker;
use crate::releases::{ReleaseLedger, ReleasesUnknown};

/// The environment that an attempt acts on, if any.
pub(crate) struct StageEnvironment {
    request: Arc<AttemptRequest>,
    releases: Arc<dyn ReleaseLedger>,
    recorded: Option<ReleaseNote>,
    would: Option<String>,
}

/// The most bytes of all parts of a release.
const PARTS: usize = 256 << 10;

impl StageEnvironment {
    pub(crate) fn for_attempt(attempt: &AttemptContext<'_>) -> StageEnvironment {
        StageEnvironment::new(attempt.request.clone(), attempt.config().releases.clone())
    }

    fn new(request: Arc<AttemptRequest>, releases: Arc<dyn ReleaseLedger>) -> StageEnvironment {
        StageEnvironment { request, releases, recorded: None, would: None }
    }

    pub(crate) fn fence(&self) -> Option<u64> {
        self.request.environment.as_ref().and_then(|view| view.fence)
    }

    /// The environment's settings in the pipeline file, as JSON; none for a stage without an environment.
    pub(crate) fn settings(&self) -> Option<String> {
        let EnvironmentView { name, target, url, config, protected, .. } = self.request.environment.as_ref()?;
        let settings = json!({ "name": name, "target": target, "url": url, "config": config, "protected": protected });
        Some(settings.to_string())
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

    /// The newest known-good release of an environment that another run deployed, as JSON.
    pub(crate) async fn good_release(&self, environment: String) -> Result<Option<String>, CapabilityError> {
        let (releases, run) = (Arc::clone(&self.releases), self.request.run.clone());
        let found = blocking(move || releases.good_release(&environment, &run)).await?;
        let release = found.map_err(|ReleasesUnknown { message, help }| CapabilityError {
            help,
            ..CapabilityError::new(ErrorCode::FailedPrecondition, message)
        })?;
        as_json(release.as_ref(), "a release")
    }

    /// The release that serves in the real environment, as JSON.
    pub(crate) fn standing(&self) -> Result<Option<String>, CapabilityError> {
        match self.request.environment.as_ref().and_then(|view| view.standing.as_ref()) {
            Some(standing) => as_json(Some(standing), "a release"),
            None if self.request.rehearsal.is_some() => Ok(None),
            None => self.current(),
        }
    }

    /// Says what the attempt would do, if it weren't a rehearsal.
    pub(crate) fn would(&mut self, what: &str, masker: &Masker) {
        if self.request.rehearsal.is_some() {
            self.would = Some(masker.text(what));
        }
    }

    /// What the attempt would do, if it is one of a rehearsal and has said so.
    pub(crate) fn described(&self) -> Option<&str> {
        self.would.as_deref()
    }

    pub(crate) fn record(&mut self, note: &ReleaseNote, masker: &Masker) -> Result<(), CapabilityError> {
        let ReleaseNote { artifact, url, parts } = note;
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
        let size: usize = parts.iter().map(|(name, text)| name.len() + text.len()).sum();
        if size > PARTS {
            let message = format!("the parts of a release have {size} bytes, at most {PARTS} are recorded");
            return Err(CapabilityError::new(ErrorCode::ResourceExhausted, message));
        }
        self.recorded = Some(ReleaseNote {
            artifact: masker.text(artifact),
            url: url.as_ref().map(|url| masker.text(url)),
            parts: parts.iter().map(|(name, text)| (masker.text(name), masker.text(text))).collect(),
        });
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
    use std::collections::BTreeMap;

    use super::*;
    use crate::testing::{NoReleases, request};

    fn environment(fence: Option<u64>) -> StageEnvironment {
        let view = EnvironmentView { name: "staging".into(), fence, ..EnvironmentView::default() };
        StageEnvironment::new(Arc::new(AttemptRequest { environment: Some(view), ..request() }), Arc::new(NoReleases))
    }

    #[test]
    fn a_release_needs_a_fence_and_is_masked() {
        let masker = Masker::default();
        masker.add("hunter22", false);
        let mut acting = environment(Some(7));
        assert_eq!(acting.take(), None);
        let note = |artifact: &str| ReleaseNote { artifact: artifact.into(), ..ReleaseNote::default() };
        acting.record(&note("local/app@sha256:1"), &masker).unwrap();
        let parts = |text: &str| BTreeMap::from([("deployment/web".to_owned(), text.to_owned())]);
        let second = ReleaseNote {
            url: Some("http://hunter22@x".into()),
            parts: parts("password: hunter22"),
            ..note("local/app@sha256:2")
        };
        acting.record(&second, &masker).unwrap();
        let masked = ReleaseNote {
            url: Some("http://***@x".into()),
            parts: parts("password: ***"),
            ..note("local/app@sha256:2")
        };
        assert_eq!(acting.take(), Some(masked));
        let error = acting.record(&note(" "), &masker).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidArgument);
        let large = ReleaseNote { parts: parts(&"x".repeat(PARTS)), ..note("local/app@sha256:1") };
        assert_eq!(acting.record(&large, &masker).unwrap_err().code, ErrorCode::ResourceExhausted);
        let error = environment(None).record(&note("local/app@sha256:1"), &masker).unwrap_err();
        assert_eq!(error.code, ErrorCode::FailedPrecondition);
    }
}
