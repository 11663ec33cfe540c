//! A release between its start and its promotion.

use std::path::{Path, PathBuf};

use stagewright_process::supervisor::{self, Phase, ServiceSpec};

use crate::blocking::blocking;
use crate::endpoint::Endpoint;
use crate::error::ServiceError;
use crate::release::{log_tail, phase, stop};
use crate::store::{Current, DeployLock, ServiceFolder};

/// A release that was started and has yet to be promoted or discarded. Dropped, it goes on running until the next
/// deploy of its service.
#[derive(Debug)]
pub struct Instance {
    pub(crate) folder: ServiceFolder,
    pub(crate) record: Current,
    /// The variable `PORT` of its program; in a rehearsal, of its own network.
    pub(crate) own_port: u16,
    pub(crate) keep: usize,
    /// A release that had to make room for a fixed port, and what it takes to start it again.
    pub(crate) displaced: Option<Displaced>,
    pub(crate) exe: PathBuf,
    pub(crate) _lock: DeployLock,
}

/// A release that was stopped for another one, and what it takes to start it again.
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
    /// The release, the image, the address.
    pub fn record(&self) -> &Current {
        &self.record
    }

    /// Where it has to be listening.
    pub fn endpoint(&self) -> Endpoint {
        let release = self.record.release.clone();
        Endpoint { dir: self.folder.release(&release), release, port: self.own_port }
    }

    /// Whether its program runs.
    ///
    /// # Errors
    /// When the supervisor's state can't be read.
    pub async fn phase(&self) -> Result<Phase, ServiceError> {
        let dir = self.folder.release(&self.record.release);
        blocking(move || phase(&dir)).await?
    }

    /// The last lines of its log.
    ///
    /// # Errors
    /// When the log can't be read.
    pub async fn log_tail(&self, lines: usize) -> Result<String, ServiceError> {
        let dir = self.folder.release(&self.record.release);
        blocking(move || log_tail(&dir, lines)).await?
    }

    /// As [`Instance::try_promote`]; refused, it goes on running until the next deploy of its service.
    ///
    /// # Errors
    /// As [`Instance::try_promote`].
    pub async fn promote(self) -> Result<(), ServiceError> {
        self.try_promote().await
    }

    /// Makes it the current release, then stops the one before it and removes those that are too many. Refused when
    /// another program has its port, since clients would reach that one; it can still be discarded then.
    ///
    /// # Errors
    /// When another program has its port, the fence is stale, or a file or a supervisor fails.
    pub async fn try_promote(&self) -> Result<(), ServiceError> {
        let (endpoint, folder, record, keep) = (self.endpoint(), self.folder.clone(), self.record.clone(), self.keep);
        blocking(move || {
            endpoint.check_not_taken()?;
            if let Some(fence) = record.fence {
                folder.raise_fence(fence)?;
            }
            let previous = folder.current()?;
            folder.set_current(&record)?;
            if let Some(previous) = previous.filter(|previous| previous.release != record.release) {
                stop(&folder.release(&previous.release))?;
            }
            folder.prune(keep, |dir| !phase(dir).is_ok_and(|phase| phase == Phase::Exited))
        })
        .await?
    }

    /// Stops it. A release that it displaced is started again.
    ///
    /// # Errors
    /// When a supervisor doesn't stop, or the displaced release doesn't start.
    pub async fn discard(self) -> Result<(), ServiceError> {
        blocking(move || {
            stop(&self.folder.release(&self.record.release))?;
            self.displaced.as_ref().map_or(Ok(()), |displaced| displaced.start_again(&self.exe))
        })
        .await?
    }
}
