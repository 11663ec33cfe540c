//! A release between its start and its promotion.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use stagewright_process::supervisor::Phase;

use crate::blocking::blocking;
use crate::endpoint::{self, Endpoint};
use crate::error::{ServiceError, ServiceErrorKind};
use crate::proxy::{Backend, HeaderMatch, Proxy, RoutingTable};
use crate::release::{log_tail, phase, replica_phase, stop};
use crate::replica::{self, Replica, ReplicaTemplate};
use crate::store::{Current, DeployLock, ServiceFolder, Unfinished};

/// A release that was started, and hasn't been promoted or discarded yet. If it is dropped, it keeps running until the
/// next deploy of its service stops it.
#[derive(Debug)]
pub struct Instance {
    started: Arc<Started>,
    lacks: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) folder: ServiceFolder,
    pub(crate) record: Current,
    pub(crate) replicas: Mutex<Vec<Replica>>,
    /// How many earlier releases a promotion keeps.
    pub(crate) keep: usize,
    /// The replicas of the current release, if it was stopped because this one uses the same fixed port, or because two
    /// releases must not run at a time.
    pub(crate) displaced: Vec<Displaced>,
    /// The program that runs supervisors: [`ServiceConfig::exe`](crate::ServiceConfig::exe).
    pub(crate) exe: PathBuf,
    /// The proxy that it is behind; none if it gets its requests directly.
    pub(crate) behind: Option<Behind>,
    /// Prevents other deploys of the service until the release is promoted, discarded or dropped.
    pub(crate) _lock: DeployLock,
}

/// The proxy that a release is behind.
#[derive(Debug)]
pub(crate) struct Behind {
    pub(crate) proxy: Proxy,
    pub(crate) listen: SocketAddr,
    pub(crate) drain: Duration,
    pub(crate) run: String,
    /// None if another process started the release.
    pub(crate) template: Option<ReplicaTemplate>,
}

/// A replica that was stopped in favour of another release, and everything that is needed to start it again.
#[derive(Debug)]
pub(crate) struct Displaced {
    pub(crate) folder: PathBuf,
    pub(crate) template: ReplicaTemplate,
}

impl Displaced {
    pub(crate) fn start_again(&self, exe: &Path) -> Result<(), ServiceError> {
        self.template.start_again(exe, &self.folder)
    }
}

impl Instance {
    pub(crate) fn new(started: Started, lacks: Option<String>) -> Instance {
        Instance { started: Arc::new(started), lacks }
    }

    /// What its image lacks to run its program in a root of its own, which is why it has this machine's root.
    pub fn lacks(&self) -> Option<&str> {
        self.lacks.as_deref()
    }

    /// The record that a promotion writes: the release, its image and the address of the service.
    pub fn record(&self) -> &Current {
        &self.started.record
    }

    /// Where the replicas of the release have to listen: the address at which this machine reaches each, and how to find
    /// out whether it listens.
    pub fn endpoints(&self) -> Vec<(String, Endpoint)> {
        let replicas = self.started.replicas();
        replicas.iter().map(|replica| (address(replica.port), self.started.endpoint(*replica))).collect()
    }

    /// Whether it outlives the attempt that started it.
    pub fn is_behind_proxy(&self) -> bool {
        self.started.behind.is_some()
    }

    /// The phase of its program; of several replicas, that of one that has exited or is starting, if one is.
    ///
    /// # Errors
    /// When the supervisor's state can't be read.
    pub async fn phase(&self) -> Result<Phase, ServiceError> {
        let started = self.started.clone();
        blocking(move || started.phase()).await?
    }

    /// The last `lines` lines of its log.
    ///
    /// # Errors
    /// When the log can't be read.
    pub async fn log_tail(&self, lines: usize) -> Result<String, ServiceError> {
        let started = self.started.clone();
        blocking(move || log_tail(&started.dir(), lines)).await?
    }

    /// Gives the release this percentage of the requests, and the current release the rest.
    ///
    /// # Errors
    /// [`ServiceErrorKind::InvalidArgument`] without a proxy, [`ServiceErrorKind::PortTaken`],
    /// [`ServiceErrorKind::StaleFence`], and errors of files and supervisors.
    pub async fn route(&self, weight: u32) -> Result<(), ServiceError> {
        self.route_matching(weight, Vec::new()).await
    }

    /// Like [`Instance::route`], but the release also gets all requests that meet one of these conditions.
    ///
    /// # Errors
    /// As for [`Instance::route`], and [`ServiceErrorKind::InvalidArgument`] for a condition that the proxy can't use.
    pub async fn route_matching(&self, weight: u32, conditions: Vec<HeaderMatch>) -> Result<(), ServiceError> {
        let started = self.started.clone();
        blocking(move || started.route(weight, conditions)).await?
    }

    /// Runs `replicas` replicas of this release, if it has fewer, and at most `current` of the current one, but at least
    /// one. A new replica gets requests with the next call of [`Instance::route`]; one that is stopped ends those that it
    /// has.
    ///
    /// # Errors
    /// As for [`Instance::route`].
    pub async fn scale(&self, replicas: usize, current: usize) -> Result<(), ServiceError> {
        let started = self.started.clone();
        blocking(move || {
            started.shrink_current(current.max(1))?;
            started.grow(replicas)
        })
        .await?
    }

    /// Like [`Instance::try_promote`]. If it fails, the release keeps running until the next deploy of its service.
    ///
    /// # Errors
    /// As for [`Instance::try_promote`].
    pub async fn promote(self) -> Result<(), ServiceError> {
        self.try_promote().await
    }

    /// Makes it the current release, stops the previous one, and removes old releases beyond the number to keep.
    /// Refused if another program uses its port, because clients would reach that program. If it fails, the release can
    /// still be discarded.
    ///
    /// # Errors
    /// [`ServiceErrorKind::PortTaken`], [`ServiceErrorKind::StaleFence`], and errors of files and supervisors.
    pub async fn try_promote(&self) -> Result<(), ServiceError> {
        let started = self.started.clone();
        blocking(move || started.promote()).await?
    }

    /// Stops the release. The current release gets all requests; it is started again if it was stopped for this one.
    ///
    /// # Errors
    /// When a supervisor can't be stopped, or when the current release can't be started again.
    pub async fn discard(self) -> Result<(), ServiceError> {
        blocking(move || self.started.discard()).await?
    }
}

impl Started {
    fn dir(&self) -> PathBuf {
        self.folder.release(&self.record.release)
    }

    fn replicas(&self) -> MutexGuard<'_, Vec<Replica>> {
        self.replicas.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn endpoint(&self, replica: Replica) -> Endpoint {
        let release = self.record.release.clone();
        Endpoint { dir: replica::folder(&self.dir(), replica.index), release, port: replica.own_port }
    }

    fn phase(&self) -> Result<Phase, ServiceError> {
        let dir = self.dir();
        let mut phases = Vec::new();
        for replica in self.replicas().iter() {
            phases.push(replica_phase(&replica::folder(&dir, replica.index))?);
        }
        let is = |phase: &Phase| phases.contains(phase);
        Ok([Phase::Exited, Phase::Starting].into_iter().find(is).unwrap_or(Phase::Running))
    }

    fn behind(&self) -> Result<&Behind, ServiceError> {
        self.behind.as_ref().ok_or_else(|| {
            let message = format!("release {} was started without a proxy", self.record.release);
            ServiceError::new(ServiceErrorKind::InvalidArgument, message)
        })
    }

    /// What a promotion writes.
    fn promoted(&self) -> Current {
        let ports = self.behind.iter().flat_map(|_| self.replicas().clone()).map(|replica| replica.port).collect();
        Current { ports, ..self.record.clone() }
    }

    /// The replicas that haven't ended. Fails if all have, since requests for the release would be refused.
    fn backend(&self) -> Result<Backend, ServiceError> {
        let ports: Vec<u16> = self.replicas().iter().map(|replica| replica.port).collect();
        let running = Replica::running(&self.dir(), &ports)?;
        let ports: Vec<u16> = running.iter().map(|replica| replica.port).collect();
        let release = self.record.release.clone();
        if ports.is_empty() {
            let message = format!("release {release} has exited, so it can't get requests");
            return Err(ServiceError::new(ServiceErrorKind::NotListening, message));
        }
        Ok(Backend { release, ports })
    }

    /// Records the fencing token of the deploy, and refuses it if a newer one was recorded.
    fn check_fence(&self) -> Result<(), ServiceError> {
        self.record.fence.map_or(Ok(()), |fence| self.folder.raise_fence(fence))
    }

    /// Another program at the port of a replica would get its requests.
    fn check_ports(&self) -> Result<(), ServiceError> {
        self.replicas().iter().try_for_each(|replica| self.endpoint(*replica).check_not_taken())
    }

    fn route(&self, weight: u32, conditions: Vec<HeaderMatch>) -> Result<(), ServiceError> {
        let behind = self.behind()?;
        conditions.iter().try_for_each(HeaderMatch::check)?;
        self.check_fence()?;
        self.check_ports()?;
        let (serving, backend) = (self.folder.serving()?, self.backend()?);
        let table = RoutingTable::shared(self.record.fence, serving, backend, weight, conditions);
        behind.ensure_proxy(&self.folder, &self.exe, &table).map(drop)
    }

    /// Starts replicas until there are so many, and records them.
    pub(crate) fn grow(&self, replicas: usize) -> Result<(), ServiceError> {
        let behind = self.behind()?;
        let dir = self.dir();
        loop {
            let index = self.replicas().len();
            if index >= replicas {
                break;
            }
            let template = match &behind.template {
                Some(template) => template.clone(),
                None => self.running_template(&dir)?,
            };
            let replica = template.start(&self.exe, &dir, index, None)?;
            self.replicas().push(replica);
        }
        let unfinished = Unfinished {
            run: behind.run.clone(),
            record: self.promoted(),
            listen: behind.listen,
            keep: self.keep,
            drain_ms: u64::try_from(behind.drain.as_millis()).unwrap_or(u64::MAX),
        };
        ServiceFolder::set_unfinished(&dir, &unfinished)
    }

    fn running_template(&self, release: &Path) -> Result<ReplicaTemplate, ServiceError> {
        for folder in replica::folders(release) {
            if let Some(template) = ReplicaTemplate::of_running(&folder)? {
                return Ok(template);
            }
        }
        let message = format!("no replica of release {} is running, so none can be added", self.record.release);
        Err(ServiceError::new(ServiceErrorKind::Internal, message))
    }

    /// Stops replicas of the current release until there are only so many. They get no more requests before that.
    fn shrink_current(&self, replicas: usize) -> Result<(), ServiceError> {
        let behind = self.behind()?;
        let (Some(current), Some(mut serving)) = (self.folder.current()?, self.folder.serving()?) else {
            return Ok(());
        };
        if serving.ports.len() <= replicas {
            return Ok(());
        }
        self.check_fence()?;
        let running = Replica::running(&self.folder.release(&current.release), &current.replica_ports())?;
        serving.ports.truncate(replicas);
        let present = behind.proxy.table()?;
        let (weight, conditions) =
            (present.weight_of(&self.record.release), present.conditions_of(&self.record.release));
        let table = RoutingTable::shared(self.record.fence, Some(serving), self.backend()?, weight, conditions);
        behind.ensure_proxy(&self.folder, &self.exe, &table)?;
        behind.proxy.drain(behind.drain);
        let dir = self.folder.release(&current.release);
        let stopped: Vec<PathBuf> =
            running.iter().skip(replicas).map(|replica| replica::folder(&dir, replica.index)).collect();
        replica::stop_all(&stopped)
    }

    fn promote(&self) -> Result<(), ServiceError> {
        self.check_ports()?;
        self.check_fence()?;
        let previous = self.folder.current()?.filter(|previous| previous.release != self.record.release);
        let stop_previous =
            || previous.as_ref().map_or(Ok(()), |previous| stop(&self.folder.release(&previous.release)));
        match &self.behind {
            // The record is written before the previous release is stopped. If the engine is killed in between, both
            // releases run, and the next deploy stops the one that isn't current. In the other order, the record could
            // name a release that has been stopped, while the new one runs unrecorded.
            None => {
                self.folder.set_current(&self.promoted())?;
                stop_previous()?;
                self.folder.proxy().stop()?;
            }
            // The record is written last. If the engine is killed before that, the release is still found as unfinished,
            // and its promotion is completed by another attempt: nothing is left running.
            Some(behind) => {
                let table = RoutingTable::all_to(self.record.fence, Some(self.backend()?));
                behind.ensure_proxy(&self.folder, &self.exe, &table)?;
                behind.proxy.drain(behind.drain);
                stop_previous()?;
                self.folder.set_current(&self.promoted())?;
                ServiceFolder::set_finished(&self.dir())?;
            }
        }
        // A release that isn't known to have exited is kept: its program may still use the files.
        self.folder.prune(self.keep, |dir| !phase(dir).is_ok_and(|phase| phase == Phase::Exited))
    }

    pub(crate) fn discard(&self) -> Result<(), ServiceError> {
        match &self.behind {
            None => {
                stop(&self.dir())?;
                self.restart_displaced()
            }
            Some(behind) => self.discard_behind(behind),
        }
    }

    /// The release gets no more requests, and is then stopped.
    fn discard_behind(&self, behind: &Behind) -> Result<(), ServiceError> {
        self.check_fence()?;
        self.restart_displaced()?;
        self.restore_current()?;
        let serving = self.folder.serving()?;
        let gets_all = behind.proxy.table()?.weight_of(&self.record.release) == 100;
        if serving.is_none() && gets_all && self.folder.current()?.is_some() {
            let message =
                format!("release {} gets all requests, and the release before it runs no more", self.record.release);
            return Err(ServiceError::new(ServiceErrorKind::Internal, message)
                .with_help("`stagewright rollout retry` completes the rollout"));
        }
        behind.proxy.direct_if_running(&RoutingTable::all_to(self.record.fence, serving))?;
        behind.proxy.drain(behind.drain);
        stop(&self.dir())?;
        ServiceFolder::set_finished(&self.dir())
    }

    fn restart_displaced(&self) -> Result<(), ServiceError> {
        self.displaced.iter().try_for_each(|displaced| displaced.start_again(&self.exe))
    }

    /// Starts the replicas of the current release again that [`Started::shrink_current`] has stopped, and waits until they
    /// listen.
    fn restore_current(&self) -> Result<(), ServiceError> {
        let Some(current) = self.folder.current()? else { return Ok(()) };
        let (dir, ports) = (self.folder.release(&current.release), current.replica_ports());
        let running = Replica::running(&dir, &ports)?;
        if let Some(first) = running.first().filter(|_| running.len() < ports.len()) {
            let template = ReplicaTemplate::of_running(&replica::folder(&dir, first.index))?;
            let is_running = |index: usize| running.iter().any(|replica| replica.index == index);
            for (index, port) in ports.iter().enumerate().filter(|(index, _)| !is_running(*index)) {
                let own_port = replica::own_port(&dir, index)?.unwrap_or(*port);
                template
                    .iter()
                    .try_for_each(|template| template.start(&self.exe, &dir, index, Some(own_port)).map(drop))?;
            }
        }
        let deadline = Instant::now() + endpoint::LISTEN_TIMEOUT;
        for replica in Replica::running(&dir, &ports)? {
            let (dir, release) = (replica::folder(&dir, replica.index), current.release.clone());
            let endpoint = Endpoint { dir, release, port: replica.own_port };
            while Instant::now() < deadline && !endpoint.is_listening()? {
                thread::sleep(endpoint::POLL);
            }
        }
        Ok(())
    }
}

impl Behind {
    /// Puts a table into effect, and starts the proxy if it isn't running. Returns where it accepts requests.
    pub(crate) fn ensure_proxy(
        &self,
        folder: &ServiceFolder,
        exe: &Path,
        table: &RoutingTable,
    ) -> Result<SocketAddr, ServiceError> {
        let Some(address) = self.proxy.address()? else {
            folder.require_no_other_proxy(self.listen)?;
            return self.proxy.start(exe, self.listen, table);
        };
        if self.listen.port() != 0 && address != self.listen {
            let (environment, service) = (&folder.environment, &folder.service);
            let message = format!(
                "the proxy of `{service}` accepts requests at {address}, and this deploy needs {}",
                self.listen
            );
            return Err(ServiceError::new(ServiceErrorKind::PortTaken, message).with_help(format!(
                "keep the port, or free it with `stagewright service stop {environment} {service}`"
            )));
        }
        self.proxy.direct(table).map(|()| address)
    }
}

fn address(port: u16) -> String {
    format!("http://{}", endpoint::local(port))
}
