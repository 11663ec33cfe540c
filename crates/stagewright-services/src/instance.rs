//! A release between its start and its promotion.

use std::path::{Path, PathBuf};

use stagewright_process::supervisor::{self, Phase, ServiceSpec};

use crate::blocking::blocking;
use crate::endpoint::Endpoint;
use crate::error::ServiceError;
use crate::release::{log_tail, phase, stop};
use crate::store::{Current, DeployLock, ServiceFolder};

/// A release that was started, and hasn't been promoted or discarded yet. If it is dropped, it keeps running until the
/// next deploy of its service stops it.
#[derive(Debug)]
pub struct Instance {
    pub(crate) folder: ServiceFolder,
    pub(crate) record: Current,
    /// The variable `PORT` of its program: a port of this machine, or in a rehearsal, of the release's own network.
    pub(crate) own_port: u16,
    /// How many earlier releases a promotion keeps.
    pub(crate) keep: usize,
    /// The current release, if it was stopped because this one uses the same fixed port.
    pub(crate) displaced: Option<Displaced>,
    /// The program that runs supervisors: [`ServiceConfig::exe`](crate::ServiceConfig::exe).
    pub(crate) exe: PathBuf,
    /// Prevents other deploys of the service until the release is promoted, discarded or dropped.
    pub(crate) _lock: DeployLock,
}

/// A release that was stopped in favour of another one, and everything that is needed to start it again.
#[derive(Debug)]
pub(crate) struct Displaced {
    pub(crate) dir: PathBuf,
    pub(crate) spec: ServiceSpec,
    pub(crate) env: Vec<(String, String)>,
}

impl Displaced {
    pub(crate) fn start_again(&self, exe: &Path) -> Result<(), ServiceError> {
        let started = supervisor::start(exe, &self.dir, &self.spec, &self.env);
        started.map(drop).map_err(ServiceError::supervisor)
    }
}

impl Instance {
    /// The record that a promotion writes: the release, its image and its address.
    pub fn record(&self) -> &Current {
        &self.record
    }

    /// Where the release has to listen.
    pub fn endpoint(&self) -> Endpoint {
        let release = self.record.release.clone();
        Endpoint { dir: self.folder.release(&release), release, port: self.own_port }
    }

    /// The phase of its program.
    ///
    /// # Errors
    /// When the supervisor's state can't be read.
    pub async fn phase(&self) -> Result<Phase, ServiceError> {
        let dir = self.folder.release(&self.record.release);
        blocking(move || phase(&dir)).await?
    }

    /// The last `lines` lines of its log.
    ///
    /// # Errors
    /// When the log can't be read.
    pub async fn log_tail(&self, lines: usize) -> Result<String, ServiceError> {
        let dir = self.folder.release(&self.record.release);
        blocking(move || log_tail(&dir, lines)).await?
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
    /// [`ServiceErrorKind::PortTaken`](crate::ServiceErrorKind::PortTaken),
    /// [`ServiceErrorKind::StaleFence`](crate::ServiceErrorKind::StaleFence), and errors of files and supervisors.
    pub async fn try_promote(&self) -> Result<(), ServiceError> {
        let (endpoint, folder, record, keep) = (self.endpoint(), self.folder.clone(), self.record.clone(), self.keep);
        blocking(move || {
            endpoint.check_not_taken()?;
            if let Some(fence) = record.fence {
                folder.raise_fence(fence)?;
            }
            let previous = folder.current()?;
            // The record is written before the previous release is stopped. If the engine is killed in between, both
            // releases run, and the next deploy stops the one that isn't current. In the other order, the record could
            // name a release that has been stopped, while the new one runs unrecorded.
            folder.set_current(&record)?;
            if let Some(previous) = previous.filter(|previous| previous.release != record.release) {
                stop(&folder.release(&previous.release))?;
            }
            // A release that isn't known to have exited is kept: its program may still use the files.
            folder.prune(keep, |dir| !phase(dir).is_ok_and(|phase| phase == Phase::Exited))
        })
        .await?
    }

    /// Stops the release. The current release is started again if it was stopped for this one.
    ///
    /// # Errors
    /// When a supervisor can't be stopped, or when the current release can't be started again.
    pub async fn discard(self) -> Result<(), ServiceError> {
        blocking(move || {
            stop(&self.folder.release(&self.record.release))?;
            self.displaced.as_ref().map_or(Ok(()), |displaced| displaced.start_again(&self.exe))
        })
        .await?
    }
}
