//! What a release is to be, and the state of one by its folder.

use std::path::{Path, PathBuf};
use std::time::Duration;

use stagewright_process::supervisor::{self, Phase};

use crate::error::ServiceError;

/// A release that is to be started.
#[derive(Clone, PartialEq, Eq)]
pub struct ReleaseSpec {
    /// A key of `[environments]`.
    pub environment: String,
    /// Its name in the environment.
    pub service: String,
    /// `REFERENCE@DIGEST`.
    pub image: String,
    /// Where an image is that is a layout in the workspace, when another folder stands for the workspace.
    pub files: Option<PathBuf>,
    /// Instead of the image's own; empty to keep those.
    pub args: Vec<String>,
    /// Added to the image's; later entries win.
    pub env: Vec<(String, String)>,
    /// 0 for a free one.
    pub port: u16,
    /// Earlier releases that stay on disk.
    pub keep: usize,
    /// Between the request to stop and the kill.
    pub stop_grace: Duration,
    /// The rehearsal that it is a stand-in in: it has a network and a port of its own then.
    pub rehearsal: Option<String>,
    /// The environment's token that it is deployed under. One that is smaller than the largest so far is refused.
    pub fence: Option<u64>,
}

pub(crate) fn stop(dir: &Path) -> Result<(), ServiceError> {
    supervisor::stop(dir).map_err(ServiceError::supervisor)
}

pub(crate) fn phase(dir: &Path) -> Result<Phase, ServiceError> {
    let status = supervisor::status(dir).map_err(ServiceError::supervisor)?;
    Ok(status.map_or(Phase::Exited, |status| status.phase))
}

pub(crate) fn log_tail(dir: &Path, lines: usize) -> Result<String, ServiceError> {
    supervisor::log_tail(dir, lines).map_err(|error| ServiceError::file(&dir.join("service.log"), error))
}
