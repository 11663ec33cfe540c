//! Describes a release to start, and stops and queries releases by their folders.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use stagewright_process::supervisor::{self, Phase};

use crate::error::ServiceError;
use crate::replica;

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
    /// Whose files the program has; none for those of the image, unless the image lacks what starts its program.
    pub root: Option<RootFolder>,
    /// Named folders of the service, which outlive releases: the path of each in the image's root.
    pub volumes: BTreeMap<String, String>,
    /// The port to listen on; 0 for a free one. Must be 0 with a proxy.
    pub port: u16,
    /// The proxy in front of the release; none if it gets its requests directly.
    pub proxy: Option<ProxySpec>,
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

/// Whose files the program of a release has as its root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootFolder {
    /// Those of its image, as in a container.
    Image,
    /// Those of this machine.
    Host,
}

/// The proxy in front of a release, and how the release runs behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxySpec {
    /// Where the proxy accepts requests. In a rehearsal, it does so at a free port of the loopback instead.
    pub listen: SocketAddr,
    /// How long requests in flight may take when a release gets no more of them.
    pub drain: Duration,
    /// How many processes of the release are started.
    pub replicas: usize,
    /// Whether the current release is stopped before this one is started.
    pub stops_first: bool,
    /// The run that deploys it, which finds it again with [`ServiceManager::unfinished`](crate::ServiceManager::unfinished).
    pub run: String,
}

/// Which unfinished release to look for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnfinishedSpec {
    /// A key of `[environments]`.
    pub environment: String,
    /// The name of the service in the environment.
    pub service: String,
    /// The image, as `REFERENCE@DIGEST`.
    pub image: String,
    /// The run that started it.
    pub run: String,
    /// The fencing token of the present attempt.
    pub fence: Option<u64>,
    /// The run of the rehearsal, if it is a stand-in.
    pub rehearsal: Option<String>,
}

/// Stops the release in the folder `dir`, if it runs.
pub(crate) fn stop(dir: &Path) -> Result<(), ServiceError> {
    replica::stop_all(&replica::folders(dir))
}

/// The phase of the release in the folder `dir`: of the replica that is furthest. A release that was never started counts
/// as exited.
pub(crate) fn phase(dir: &Path) -> Result<Phase, ServiceError> {
    let phases = replica::folders(dir).iter().map(|folder| replica_phase(folder)).collect::<Result<Vec<_>, _>>()?;
    let is = |phase: &Phase| phases.contains(phase);
    Ok([Phase::Running, Phase::Starting].into_iter().find(is).unwrap_or(Phase::Exited))
}

/// The phase of the replica in `folder`.
pub(crate) fn replica_phase(folder: &Path) -> Result<Phase, ServiceError> {
    let status = supervisor::status(folder).map_err(ServiceError::supervisor)?;
    Ok(status.map_or(Phase::Exited, |status| status.phase))
}

/// The last `lines` lines of the log of the release in the folder `dir`: of a replica that has exited, if one has.
pub(crate) fn log_tail(dir: &Path, lines: usize) -> Result<String, ServiceError> {
    let folders = replica::folders(dir);
    let exited = folders.iter().find(|folder| replica_phase(folder).is_ok_and(|phase| phase == Phase::Exited));
    let folder = exited.map_or(dir, PathBuf::as_path);
    supervisor::log_tail(folder, lines).map_err(|error| ServiceError::file(&folder.join("service.log"), error))
}
