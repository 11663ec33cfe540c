//! Describes a release to start, and stops and queries releases by their folders.

use std::path::{Path, PathBuf};
use std::time::Duration;

use stagewright_process::supervisor::{self, Phase};

use crate::error::ServiceError;

/// A release to start.
#[derive(Clone, PartialEq, Eq)]
pub struct ReleaseSpec {
    /// A key of `[environments]`.
    pub environment: String,
    /// The name of the service in the environment.
    pub service: String,
    /// The image, as `REFERENCE@DIGEST`.
    pub image: String,
    /// The folder that replaces the workspace for `oci:PATH` references; none for the workspace itself.
    pub files: Option<PathBuf>,
    /// The program's arguments; if empty, those of the image.
    pub args: Vec<String>,
    /// Variables, which are added to those of the image. If a name occurs more than once, its last value counts.
    pub env: Vec<(String, String)>,
    /// The port to listen on; 0 for a free one.
    pub port: u16,
    /// How many earlier releases are kept on disk.
    pub keep: usize,
    /// The time between SIGTERM and SIGKILL when the program is stopped.
    pub stop_grace: Duration,
    /// The run of the rehearsal, if this is a stand-in: it gets its own network, and a free port of this machine.
    pub rehearsal: Option<String>,
    /// The fencing token of the environment. The deploy is refused if the service was deployed with a larger one
    /// before.
    pub fence: Option<u64>,
}

/// Stops the release in the folder `dir`, if it runs.
pub(crate) fn stop(dir: &Path) -> Result<(), ServiceError> {
    supervisor::stop(dir).map_err(ServiceError::supervisor)
}

/// The phase of the release in the folder `dir`; a release that was never started counts as exited.
pub(crate) fn phase(dir: &Path) -> Result<Phase, ServiceError> {
    let status = supervisor::status(dir).map_err(ServiceError::supervisor)?;
    Ok(status.map_or(Phase::Exited, |status| status.phase))
}

/// The last `lines` lines of the log of the release in the folder `dir`.
pub(crate) fn log_tail(dir: &Path, lines: usize) -> Result<String, ServiceError> {
    supervisor::log_tail(dir, lines).map_err(|error| ServiceError::file(&dir.join("service.log"), error))
}
