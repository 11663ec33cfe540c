//! The processes of a release. One without a proxy has a single one; behind a proxy it has as many as its deploy says.
//!
//! The first has the folder of the release, the others have folders in it: `replica-2`, `replica-3`.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::thread;

use stagewright_process::supervisor::{self, Phase, ServiceSpec, SupervisorError};

use crate::endpoint::HOST;
use crate::error::{ServiceError, ServiceErrorKind};

/// The variable with the port that a replica has to listen on.
const PORT: &str = "PORT";

/// The folder of a replica, which doesn't need to exist.
pub(crate) fn folder(release: &Path, index: usize) -> PathBuf {
    match index {
        0 => release.to_owned(),
        _ => release.join(format!("replica-{}", index + 1)),
    }
}

/// The folders of all replicas that were ever started.
pub(crate) fn folders(release: &Path) -> Vec<PathBuf> {
    let further = (1..).map(|index| folder(release, index)).take_while(|folder| folder.is_dir());
    std::iter::once(release.to_owned()).chain(further).collect()
}

/// Stops the replicas with these folders at the same time.
pub(crate) fn stop_all(folders: &[PathBuf]) -> Result<(), ServiceError> {
    let stopped: Vec<Result<(), SupervisorError>> = thread::scope(|scope| {
        let stopping: Vec<_> = folders.iter().map(|folder| scope.spawn(|| supervisor::stop(folder))).collect();
        stopping.into_iter().map(|stopping| stopping.join().unwrap_or(Ok(()))).collect()
    });
    stopped.into_iter().collect::<Result<(), SupervisorError>>().map_err(ServiceError::supervisor)
}

/// The port of a replica in its own network; none if it has none.
pub(crate) fn own_port(release: &Path, index: usize) -> Result<Option<u16>, ServiceError> {
    let spec = supervisor::read_spec(&folder(release, index)).map_err(ServiceError::supervisor)?;
    Ok(spec.own_network)
}

/// A replica that was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Replica {
    /// Its place among the replicas of its release, from 0.
    pub(crate) index: usize,
    /// The variable `PORT` of its program: a port of this machine, or in a rehearsal, of its own network.
    pub(crate) own_port: u16,
    /// The port of this machine at which it is reached.
    pub(crate) port: u16,
}

impl Replica {
    /// The replicas of a release. `ports` are those that they were started with.
    pub(crate) fn started(release: &Path, ports: &[u16]) -> Result<Vec<Replica>, ServiceError> {
        Ok(Replica::with_phases(release, ports)?.into_iter().map(|(replica, _)| replica).collect())
    }

    /// Those of them that haven't ended.
    pub(crate) fn running(release: &Path, ports: &[u16]) -> Result<Vec<Replica>, ServiceError> {
        let all = Replica::with_phases(release, ports)?.into_iter();
        Ok(all.filter(|(_, phase)| *phase != Phase::Exited).map(|(replica, _)| replica).collect())
    }

    fn with_phases(release: &Path, ports: &[u16]) -> Result<Vec<(Replica, Phase)>, ServiceError> {
        let read = |(index, port): (usize, &u16)| {
            let folder = folder(release, index);
            let status = supervisor::status(&folder).map_err(ServiceError::supervisor)?;
            let Some(status) = status else {
                return Ok((Replica { index, own_port: *port, port: *port }, Phase::Exited));
            };
            // In a rehearsal, the port of this machine isn't the program's, and another one after each start.
            let own_port = own_port(release, index)?.unwrap_or(*port);
            Ok((Replica { index, own_port, port: status.port.unwrap_or(*port) }, status.phase))
        };
        ports.iter().enumerate().map(read).collect()
    }
}

/// What is needed to start replicas of a release.
#[derive(Clone, Debug)]
pub(crate) struct ReplicaTemplate {
    spec: ServiceSpec,
    env: Vec<(String, String)>,
}

impl ReplicaTemplate {
    pub(crate) fn new(spec: ServiceSpec, env: Vec<(String, String)>) -> ReplicaTemplate {
        ReplicaTemplate { spec, env }
    }

    /// Of the running replica with this folder; none if it isn't running.
    ///
    /// The environment is only in the memory of the running program, because it may contain secrets and is never written
    /// to disk. It must be read before the program is stopped.
    pub(crate) fn of_running(folder: &Path) -> Result<Option<ReplicaTemplate>, ServiceError> {
        let Some(env) = supervisor::running_environment(folder).map_err(ServiceError::supervisor)? else {
            return Ok(None);
        };
        let spec = supervisor::read_spec(folder).map_err(ServiceError::supervisor)?;
        Ok(Some(ReplicaTemplate { spec, env }))
    }

    /// Starts a replica on a port; on a free one if none is given. Its program may have exited when this returns.
    ///
    /// # Errors
    /// [`ServiceErrorKind::UnusableImage`] if the program can't be started, and errors of files and supervisors.
    pub(crate) fn start(
        &self,
        exe: &Path,
        release: &Path,
        index: usize,
        port: Option<u16>,
    ) -> Result<Replica, ServiceError> {
        let own_port = port.map_or_else(free_port, Ok)?;
        let spec = ServiceSpec { own_network: self.spec.own_network.map(|_| own_port), ..self.spec.clone() };
        let mut env = self.env.clone();
        env.retain(|(name, _)| name != PORT);
        env.push((PORT.to_owned(), own_port.to_string()));
        let status = supervisor::start(exe, &folder(release, index), &spec, &env).map_err(ServiceError::supervisor)?;
        // A program that has ended by itself was started.
        if let (Phase::Exited, None, Some(failure)) = (status.phase, status.last_exit, &status.failure) {
            let message = format!("the release can't be started: {failure}");
            return Err(ServiceError::new(ServiceErrorKind::UnusableImage, message));
        }
        Ok(Replica { index, own_port, port: status.port.unwrap_or(own_port) })
    }

    /// Starts the same replica again.
    pub(crate) fn start_again(&self, exe: &Path, folder: &Path) -> Result<(), ServiceError> {
        supervisor::start(exe, folder, &self.spec, &self.env).map(drop).map_err(ServiceError::supervisor)
    }
}

/// A port that is free at the moment. The listener that reserved it is closed here, so another program can take the
/// port before the release does; [`Endpoint::check`](crate::endpoint::Endpoint::check) detects that.
pub(crate) fn free_port() -> Result<u16, ServiceError> {
    let port = TcpListener::bind((HOST, 0)).and_then(|listener| listener.local_addr());
    port.map(|address| address.port())
        .map_err(|error| ServiceError::new(ServiceErrorKind::NoFreePort, "127.0.0.1 has no free port").caused_by(error))
}
