//! `service`: supervised processes on this machine, as releases of an environment.
//!
//! A service outlives its attempt only if the attempt promotes it: a release that was neither promoted nor discarded is
//! discarded when the attempt ends, however it ends. The `service` grant covers pulling the image.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use stagewright_process::supervisor::Phase;
use tokio::task::JoinHandle;

use super::effects::Effects;
use super::registry::code_of;
use super::secrets::SecretHandle;
use stagewright_model::WorkspacePath;

use crate::attempt::AttemptContext;
use crate::error::{CapabilityError, ErrorCode, causes_of};
use crate::log::AttemptLog;
use crate::net::OwnOrigins;
use crate::policy::Policy;
use crate::registry::{ImageLocation, ImageReference};
use crate::rehearsal::Rehearsal;
use crate::service::{Current, Instance, ReleaseSpec, ServiceError, ServiceErrorKind, ServiceManager};

/// How long the end of an attempt waits until releases are discarded. If it takes longer, that goes on in the background.
const DISCARD: Duration = Duration::from_millis(500);

/// A release that a guest is building.
#[derive(Clone, Debug)]
pub struct ReleaseBuilder {
    pub(crate) service: String,
    image: String,
    pub(crate) args: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) port: u16,
    pub(crate) keep: u32,
    pub(crate) stop_grace: Duration,
    /// The error of a builder method, none of which has a result of its own: `start` returns it.
    refused: Option<CapabilityError>,
}

impl ReleaseBuilder {
    pub(crate) fn new(service: String, image: String) -> ReleaseBuilder {
        ReleaseBuilder {
            service,
            image,
            args: Vec::new(),
            env: BTreeMap::new(),
            port: 0,
            keep: 3,
            stop_grace: Duration::from_secs(10),
            refused: None,
        }
    }

    /// Adds a secret, which must be allowed for a program with the service's name.
    pub(crate) fn secret_env(&mut self, name: String, secret: &SecretHandle) {
        match secret.for_program(&self.service) {
            Ok(value) => {
                self.env.insert(name, value.to_owned());
            }
            Err(error) => {
                self.refused.get_or_insert(error);
            }
        }
    }
}

/// A guest's handle of a started release.
#[derive(Clone, Debug)]
pub struct InstanceHandle {
    /// The index among the attempt's instances.
    index: usize,
    pub(crate) record: Current,
}

/// The current release, as guests get it in JSON.
#[derive(Serialize)]
struct CurrentRelease {
    #[serde(flatten)]
    current: Current,
    state: Phase,
}

/// The services of one attempt.
pub(crate) struct Services {
    /// The capture of the workspace, if the attempt works on one.
    pub(crate) files: Option<PathBuf>,
    pub(crate) manager: Arc<ServiceManager>,
    pub(crate) policy: Arc<Policy>,
    pub(crate) own: OwnOrigins,
    pub(crate) log: AttemptLog,
    pub(crate) environment: Option<String>,
    /// The attempt's fence for the environment.
    pub(crate) fence: Option<u64>,
    pub(crate) rehearsal: Rehearsal,
    pub(crate) effects: Effects,
    pub(crate) started: StartedReleases,
}

/// The releases that the attempt has started.
#[derive(Default)]
pub(crate) struct StartedReleases {
    /// None for a release that was promoted or discarded.
    instances: Vec<Option<Instance>>,
    /// The start in progress. It runs in a task of its own: when the guest is stopped, the future that waits for it is
    /// dropped, and only the task knows a process that has been started meanwhile and must be discarded.
    starting: Option<JoinHandle<Result<Instance, ServiceError>>>,
}

impl Services {
    pub(crate) fn for_attempt(attempt: &AttemptContext<'_>) -> Services {
        let environment = attempt.request.environment.as_ref();
        Services {
            files: attempt.request.folder.clone(),
            manager: attempt.config().services.clone(),
            policy: attempt.policy.clone(),
            own: attempt.own_origins.clone(),
            log: attempt.log.clone(),
            environment: environment.map(|environment| environment.name.clone()),
            fence: environment.and_then(|environment| environment.fence),
            rehearsal: attempt.rehearsal.clone(),
            effects: attempt.effects.clone(),
            started: StartedReleases::default(),
        }
    }

    pub(crate) async fn start(&mut self, release: ReleaseBuilder) -> Result<InstanceHandle, CapabilityError> {
        self.policy.service(&release.service)?;
        if let Some(refused) = release.refused {
            return Err(refused);
        }
        let image: ImageReference = release.image.parse()?;
        if let ImageLocation::Layout { path } = &image.location {
            self.policy.read(&WorkspacePath::parse(path)?)?;
        }
        let environment = self.environment()?.to_owned();
        self.effects.announce(&format!("start a release of {} in {environment}", release.service)).await?;
        let spec = ReleaseSpec {
            environment,
            service: release.service,
            image: release.image,
            files: self.files.clone(),
            args: release.args,
            env: release.env.into_iter().collect(),
            port: release.port,
            keep: release.keep as usize,
            stop_grace: release.stop_grace,
            rehearsal: self.rehearsal.run().map(|run| run.0.clone()),
            fence: self.fence,
        };
        let manager = self.manager.clone();
        let starting = self.started.starting.insert(tokio::spawn(async move { manager.start(spec).await }));
        let started = starting.await;
        self.started.starting = None;
        let instance = started.map_err(|error| {
            CapabilityError::new(ErrorCode::Internal, "starting a release was interrupted").caused_by(&error)
        })??;
        let record = instance.record().clone();
        self.own.add_release(&record.address, instance.endpoint());
        self.started.instances.push(Some(instance));
        Ok(InstanceHandle { index: self.started.instances.len() - 1, record })
    }

    pub(crate) async fn current(&self, service: &str) -> Result<Option<String>, CapabilityError> {
        self.policy.service(service)?;
        let environment = self.environment()?;
        let rehearsal = self.rehearsal.run().map(|run| run.0.as_str());
        let Some(current) = self.manager.current(environment, service, rehearsal).await? else { return Ok(None) };
        let state = self.manager.phase(environment, service, &current, rehearsal).await?;
        let json = serde_json::to_string(&CurrentRelease { current, state });
        json.map(Some).map_err(|error| {
            CapabilityError::new(ErrorCode::Internal, "could not serialize the current release").caused_by(&error)
        })
    }

    fn environment(&self) -> Result<&str, CapabilityError> {
        self.environment.as_deref().ok_or_else(|| {
            CapabilityError::new(ErrorCode::FailedPrecondition, "the stage has no environment to deploy to")
                .with_help("add to the stage: environment = \"staging\"")
        })
    }

    pub(crate) async fn phase(&self, handle: &InstanceHandle) -> Result<Phase, CapabilityError> {
        Ok(self.instance(handle)?.phase().await?)
    }

    pub(crate) async fn log_tail(&self, handle: &InstanceHandle, lines: usize) -> Result<String, CapabilityError> {
        Ok(self.instance(handle)?.log_tail(lines).await?)
    }

    fn instance(&self, handle: &InstanceHandle) -> Result<&Instance, CapabilityError> {
        self.started.instances.get(handle.index).and_then(Option::as_ref).ok_or_else(|| settled(handle))
    }

    fn take(&mut self, handle: &InstanceHandle) -> Result<Instance, CapabilityError> {
        self.started.instances.get_mut(handle.index).and_then(Option::take).ok_or_else(|| settled(handle))
    }

    pub(crate) async fn promote(&mut self, handle: &InstanceHandle) -> Result<(), CapabilityError> {
        self.instance(handle)?;
        // If the engine or the target refuses, the instance stays unpromoted, and is discarded with the attempt at the
        // latest.
        self.effects.announce(&format!("promote release {}", handle.record.release)).await?;
        self.instance(handle)?.try_promote().await?;
        self.take(handle).map(drop)
    }

    /// Discards a release. This isn't announced: it undoes what `start` announced, and doesn't touch the release that
    /// serves.
    pub(crate) async fn discard(&mut self, handle: &InstanceHandle) -> Result<(), CapabilityError> {
        Ok(self.take(handle)?.discard().await?)
    }

    /// Discards the releases that were neither promoted nor discarded.
    pub(crate) async fn finish(&mut self) {
        let StartedReleases { instances, starting } = std::mem::take(&mut self.started);
        let left: Vec<Instance> = instances.into_iter().flatten().collect();
        if left.is_empty() && starting.is_none() {
            return;
        }
        for instance in &left {
            let release = &instance.record().release;
            self.log.engine(&format!("stopping release {release}, which was neither promoted nor discarded")).await;
        }
        let discarding = tokio::spawn(async move {
            let started = match starting {
                Some(starting) => starting.await.ok().and_then(Result::ok),
                None => None,
            };
            for instance in left.into_iter().chain(started) {
                let release = instance.record().release.clone();
                if let Err(error) = instance.discard().await {
                    tracing::warn!(release, %error, "failed to stop an unpromoted release");
                }
            }
        });
        // The task goes on after the timeout.
        let _ = tokio::time::timeout(DISCARD, discarding).await;
    }
}

impl From<ServiceError> for CapabilityError {
    fn from(error: ServiceError) -> CapabilityError {
        let code = match error.kind {
            ServiceErrorKind::InvalidArgument => ErrorCode::InvalidArgument,
            ServiceErrorKind::NotFound => ErrorCode::NotFound,
            ServiceErrorKind::DeployInProgress
            | ServiceErrorKind::StaleFence
            | ServiceErrorKind::PortTaken
            | ServiceErrorKind::UnusableImage => ErrorCode::FailedPrecondition,
            ServiceErrorKind::NoFreePort => ErrorCode::ResourceExhausted,
            ServiceErrorKind::NotListening => ErrorCode::Unavailable,
            ServiceErrorKind::Image(kind) => code_of(kind),
            ServiceErrorKind::Internal => ErrorCode::Internal,
        };
        let (retryable, causes) = (error.is_retryable().then_some(true), causes_of(&error));
        CapabilityError { retryable, causes, help: error.help, ..CapabilityError::new(code, error.message) }
    }
}

fn settled(handle: &InstanceHandle) -> CapabilityError {
    let message = format!("release {} was already promoted or discarded", handle.record.release);
    CapabilityError::new(ErrorCode::FailedPrecondition, message)
}

#[cfg(test)]
mod tests {
    use stagewright_model::Permissions;

    use super::*;
    use crate::testing::{Backends, TestLog};

    fn services(folder: &std::path::Path, environment: Option<&str>) -> Services {
        let permissions = Permissions { service: vec!["api".parse().unwrap()], ..Permissions::default() };
        Services {
            files: None,
            manager: Backends::new(folder).services,
            policy: Arc::new(Policy::new("stages.deploy", &permissions, &Default::default(), Arc::default())),
            own: OwnOrigins::default(),
            log: TestLog::new().log,
            environment: environment.map(ToOwned::to_owned),
            fence: None,
            rehearsal: Rehearsal::none(),
            effects: TestLog::new().effects(),
            started: StartedReleases::default(),
        }
    }

    fn release(service: &str, image: &str) -> ReleaseBuilder {
        ReleaseBuilder::new(service.into(), image.into())
    }

    #[tokio::test]
    async fn a_release_needs_a_grant_an_environment_and_a_readable_image() {
        let folder = tempfile::tempdir().unwrap();
        let digest = format!("sha256:{}", "0".repeat(64));
        let image = format!("local/api@{digest}");
        let mut services = services(folder.path(), Some("staging"));
        let error = services.start(release("other", &image)).await.unwrap_err();
        assert_eq!(
            error.help.as_deref(),
            Some("change in [stages.deploy.permissions]: service = [\"api\", \"other\"]")
        );
        let error = services.start(release("api", &format!("oci:private@{digest}"))).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::PermissionDenied);
        let error = services.start(release("api", "local/api:1")).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidArgument, "{error:?}");
        assert_eq!(services.current("api").await, Ok(None));
        assert_eq!(services.current("other").await.unwrap_err().code, ErrorCode::PermissionDenied);

        services.environment = None;
        assert_eq!(services.start(release("api", &image)).await.unwrap_err().code, ErrorCode::FailedPrecondition);
    }

    #[tokio::test]
    async fn the_current_release_has_its_fence_and_its_state() {
        let folder = tempfile::tempdir().unwrap();
        let services = services(folder.path(), Some("staging"));
        let service = folder.path().join("environments/staging/api");
        std::fs::create_dir_all(&service).unwrap();
        let record = r#"{ "release": "r-1", "image": "x", "address": "http://x", "port": 1, "since": 2, "fence": 7 }"#;
        std::fs::write(service.join("current.json"), record).unwrap();
        let json = services.current("api").await.unwrap().unwrap();
        let current: serde_json::Value = serde_json::from_str(&json).unwrap();
        let found = (&current["release"], &current["fence"], &current["state"]);
        assert_eq!(found, (&"r-1".into(), &7.into(), &"exited".into()));
    }
}
