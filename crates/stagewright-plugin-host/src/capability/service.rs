//! `service`: supervised processes on this machine, as releases of an environment.
//!
//! A service outlives its attempt only if the attempt promotes it, or if it is behind a proxy: another release that was
//! neither promoted nor discarded is discarded when the attempt ends, however it ends. One behind a proxy is found again by
//! the next attempt of the run, and stopped by the next deploy. The `service` grant covers pulling the image.

mod builder;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use stagewright_process::supervisor::Phase;
use tokio::task::JoinHandle;

use super::effects::Effects;
use super::registry::code_of;
use stagewright_model::WorkspacePath;

use builder::ProxyBuilder;
pub use builder::ReleaseBuilder;

use crate::attempt::AttemptContext;
use crate::error::{CapabilityError, ErrorCode, causes_of};
use crate::log::AttemptLog;
use crate::net::OwnOrigins;
use crate::policy::Policy;
use crate::registry::{ImageLocation, ImageReference};
use crate::rehearsal::Rehearsal;
use crate::service::{
    Current, Endpoint, HeaderMatch, HeaderValueMatch, Instance, ProxySpec, ReleaseSpec, ServiceError, ServiceErrorKind,
    ServiceManager, UnfinishedSpec,
};

/// How long the end of an attempt waits until releases are discarded. If it takes longer, that goes on in the background.
const DISCARD: Duration = Duration::from_millis(500);
/// The most replicas of a release.
const MOST_REPLICAS: u32 = 64;
/// The most conditions on the headers of requests.
const MOST_CONDITIONS: usize = 1000;

/// A guest's handle of a started release.
#[derive(Clone, Debug)]
pub struct InstanceHandle {
    /// The index among the attempt's instances.
    index: usize,
    pub(crate) release: String,
    /// Where this machine reaches its first replica.
    pub(crate) address: String,
}

/// A guest's conditions on the headers of requests.
#[derive(Clone, Debug, Default)]
pub struct HeaderMatches(Vec<HeaderMatch>);

impl HeaderMatches {
    pub(crate) fn add(&mut self, header: String, value: HeaderValueMatch) {
        self.0.push(HeaderMatch { header, value });
    }
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
    pub(crate) run: String,
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
            run: attempt.request.run.0.clone(),
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
        let proxy = release.proxy.map(|proxy| self.proxy_of(&release.service, release.port, &proxy)).transpose()?;
        let environment = self.environment()?.to_owned();
        self.effects.announce(&format!("start a release of {} in {environment}", release.service)).await?;
        let spec = ReleaseSpec {
            environment,
            service: release.service,
            image: release.image,
            files: self.files.clone(),
            args: release.args,
            env: release.env.into_iter().collect(),
            root: release.root,
            volumes: release.volumes,
            port: release.port,
            proxy,
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
        if let Some(loader) = instance.lacks() {
            let message = format!("the image lacks `{loader}`, so that its program has the files of this machine");
            self.log.engine(&message).await;
        }
        Ok(self.add(instance))
    }

    /// The proxy in front of a release.
    fn proxy_of(&self, service: &str, port: u16, proxy: &ProxyBuilder) -> Result<ProxySpec, CapabilityError> {
        let invalid = |message: &str| Err(CapabilityError::new(ErrorCode::InvalidArgument, message));
        let Some(listen) = proxy.listen else {
            return invalid("`drain-ms`, `replicas` and `stop-first` need a `proxy`");
        };
        if port != 0 {
            return invalid("a release behind a proxy can't have a fixed port of its own");
        }
        if !(1..=MOST_REPLICAS).contains(&proxy.replicas) {
            return invalid(&format!("a release has 1 to {MOST_REPLICAS} replicas, not {}", proxy.replicas));
        }
        self.policy.service_address(service, listen)?;
        Ok(ProxySpec {
            listen,
            drain: proxy.drain,
            replicas: proxy.replicas as usize,
            stops_first: proxy.stops_first,
            run: self.run.clone(),
        })
    }

    /// Gives the guest a release, which it may call.
    fn add(&mut self, instance: Instance) -> InstanceHandle {
        let release = instance.record().release.clone();
        let endpoints = instance.endpoints();
        let address =
            endpoints.first().map_or_else(|| instance.record().address.clone(), |(address, _)| address.clone());
        self.allow(endpoints);
        self.started.instances.push(Some(instance));
        InstanceHandle { index: self.started.instances.len() - 1, release, address }
    }

    fn allow(&self, endpoints: Vec<(String, Endpoint)>) {
        for (address, endpoint) in endpoints {
            self.own.add_release(&address, endpoint);
        }
    }

    /// The release behind a proxy that an earlier attempt of this run has started.
    pub(crate) async fn unfinished(
        &mut self,
        service: &str,
        image: &str,
    ) -> Result<Option<InstanceHandle>, CapabilityError> {
        self.policy.service(service)?;
        let spec = UnfinishedSpec {
            environment: self.environment()?.to_owned(),
            service: service.to_owned(),
            image: image.to_owned(),
            run: self.run.clone(),
            fence: self.fence,
            rehearsal: self.rehearsal.run().map(|run| run.0.clone()),
        };
        let found = self.manager.unfinished(spec).await?;
        Ok(found.map(|instance| self.add(instance)))
    }

    pub(crate) fn addresses(&self, handle: &InstanceHandle) -> Result<Vec<String>, CapabilityError> {
        Ok(self.instance(handle)?.endpoints().into_iter().map(|(address, _)| address).collect())
    }

    /// Gives a release a share of the requests.
    pub(crate) async fn route(&self, handle: &InstanceHandle, weight: u32) -> Result<(), CapabilityError> {
        self.route_matching(handle, weight, HeaderMatches::default()).await
    }

    /// Gives a release a share of the requests, and all of those that meet one of these conditions.
    pub(crate) async fn route_matching(
        &self,
        handle: &InstanceHandle,
        weight: u32,
        HeaderMatches(conditions): HeaderMatches,
    ) -> Result<(), CapabilityError> {
        if weight > 100 {
            let message = format!("a weight is 0 to 100 percent, not {weight}");
            return Err(CapabilityError::new(ErrorCode::InvalidArgument, message));
        }
        self.instance(handle)?;
        if conditions.len() > MOST_CONDITIONS {
            let message = format!("a release has at most {MOST_CONDITIONS} conditions, not {}", conditions.len());
            return Err(CapabilityError::new(ErrorCode::InvalidArgument, message));
        }
        let beside = if conditions.is_empty() { "" } else { ", and those with certain headers" };
        self.effects.announce(&format!("give release {} {weight}% of the requests{beside}", handle.release)).await?;
        Ok(self.instance(handle)?.route_matching(weight, conditions).await?)
    }

    /// Replaces replicas of the current release by replicas of this one.
    pub(crate) async fn scale(
        &self,
        handle: &InstanceHandle,
        replicas: u32,
        current: u32,
    ) -> Result<(), CapabilityError> {
        if replicas > MOST_REPLICAS {
            let message = format!("a release has at most {MOST_REPLICAS} replicas, not {replicas}");
            return Err(CapabilityError::new(ErrorCode::InvalidArgument, message));
        }
        self.instance(handle)?;
        self.effects.announce(&format!("run {replicas} replicas of release {}", handle.release)).await?;
        let instance = self.instance(handle)?;
        instance.scale(replicas as usize, current as usize).await?;
        self.allow(instance.endpoints());
        Ok(())
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
        self.effects.announce(&format!("promote release {}", handle.release)).await?;
        self.instance(handle)?.try_promote().await?;
        self.take(handle).map(drop)
    }

    /// Discards a release. This isn't announced: it undoes what `start` announced, and doesn't touch the release that
    /// serves.
    pub(crate) async fn discard(&mut self, handle: &InstanceHandle) -> Result<(), CapabilityError> {
        Ok(self.take(handle)?.discard().await?)
    }

    /// Discards the releases that were neither promoted nor discarded, except for those behind a proxy.
    pub(crate) async fn finish(&mut self) {
        let StartedReleases { instances, starting } = std::mem::take(&mut self.started);
        let left: Vec<Instance> =
            instances.into_iter().flatten().filter(|instance| !instance.is_behind_proxy()).collect();
        if left.is_empty() && starting.is_none() {
            return;
        }
        for instance in &left {
            let release = &instance.record().release;
            self.log.engine(&format!("stopping release {release}, which was neither promoted nor discarded")).await;
        }
        let discarding = tokio::spawn(async move {
            let started = match starting {
                Some(starting) => {
                    starting.await.ok().and_then(Result::ok).filter(|instance| !instance.is_behind_proxy())
                }
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
    let message = format!("release {} was already promoted or discarded", handle.release);
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
            run: "r1".to_owned(),
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
    async fn a_proxy_needs_a_grant_of_its_address_and_a_release_that_fits() {
        let folder = tempfile::tempdir().unwrap();
        let image = format!("local/api@sha256:{}", "0".repeat(64));
        let mut services = services(folder.path(), Some("staging"));
        let mut refused = async |build: fn(&mut ReleaseBuilder)| {
            let mut builder = release("api", &image);
            build(&mut builder);
            services.start(builder).await.unwrap_err()
        };
        let denied = refused(|builder| builder.proxy("127.0.0.1:8080")).await;
        assert_eq!(
            denied.help.as_deref(),
            Some("change in [stages.deploy.permissions]: service = [\"api\", \"api:8080\"]")
        );
        let builders: [fn(&mut ReleaseBuilder); 7] = [
            |builder| builder.root("machine"),
            |builder| drop(builder.volumes.insert("data".into(), "../data".into())),
            |builder| {
                builder.root("host");
                builder.volumes.insert("data".into(), "/data".into());
            },
            |builder| builder.proxy("8080"),
            |builder| builder.behind().replicas = 2,
            |builder| {
                builder.proxy("127.0.0.1:8080");
                builder.port = 8081;
            },
            |builder| {
                builder.proxy("127.0.0.1:8080");
                builder.behind().replicas = 65;
            },
        ];
        for build in builders {
            let error = refused(build).await;
            assert_eq!(error.code, ErrorCode::InvalidArgument, "{error:?}");
        }
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
