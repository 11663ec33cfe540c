//! The proxy of a service: a process that accepts the requests at the service's public port, and distributes them among
//! releases.
//!
//! ```text
//!              supervisor, which listens at the public port
//!                  └── proxy: reads table.json when it starts, and when it is asked to
//! clients ──────────────> │ ── requests, by weight ──> replicas of releases
//! deploy ── table.json ─> │ <── control.sock: reload; which table is in effect, which replicas are busy
//! ```
//!
//! The proxy is a supervised process like a release, and outlives the engine as one does. The listening socket belongs to
//! its supervisor: when the proxy is killed, connections wait until it has been started again, which reads the same table.
//! The table carries the fencing token of the deploy that wrote it, and an older one is refused.
//!
//! A release can also get all requests that meet a condition on their headers, whatever its weight is.
//!
//! Requests are distributed, not connections, so the connection of a client stays when its requests get another release.

mod control;
mod forward;
mod matching;
mod routes;
mod serve;
mod table;
#[cfg(test)]
mod tests;
mod upstream;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use stagewright_files::private_folder;
use stagewright_process::supervisor::{self, Phase, ServiceSpec};

use crate::endpoint;
use crate::error::{ServiceError, ServiceErrorKind};
use control::ProxyReport;

pub use matching::{HeaderMatch, HeaderValueMatch};
pub use serve::serve;
pub(crate) use table::{Backend, RoutingTable};

/// The hidden subcommand whose body is [`serve()`], followed by the proxy's folder.
pub const SUBCOMMAND: &str = "__proxy";

/// The interval between two attempts at something that isn't possible at the moment.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a proxy may take to put a table into effect, including its start after it was killed.
const APPLY: Duration = Duration::from_secs(15);

/// The proxy of one service, by its folder.
#[derive(Clone, Debug)]
pub(crate) struct Proxy {
    dir: PathBuf,
}

impl Proxy {
    pub(crate) fn new(dir: PathBuf) -> Proxy {
        Proxy { dir }
    }

    /// Where it accepts connections; none if it isn't running.
    pub(crate) fn address(&self) -> Result<Option<SocketAddr>, ServiceError> {
        let status = supervisor::status(&self.dir).map_err(ServiceError::supervisor)?;
        let Some(status) = status.filter(|status| status.phase != Phase::Exited) else { return Ok(None) };
        let spec = supervisor::read_spec(&self.dir).map_err(ServiceError::supervisor)?;
        Ok(spec.listen.map(|listen| SocketAddr::new(listen.ip(), status.port.unwrap_or(listen.port()))))
    }

    /// Starts it, and gives it a table that it reads at once. `exe` is the program with the subcommand [`SUBCOMMAND`].
    ///
    /// # Errors
    /// [`ServiceErrorKind::PortTaken`] if another program uses the port, [`ServiceErrorKind::StaleFence`], and errors of
    /// files and of the supervisor.
    pub(crate) fn start(
        &self,
        exe: &Path,
        listen: SocketAddr,
        table: &RoutingTable,
    ) -> Result<SocketAddr, ServiceError> {
        private_folder(&self.dir).map_err(|error| ServiceError::file(&self.dir, error))?;
        self.write(table)?;
        endpoint::require_free(listen)?;
        let spec = ServiceSpec {
            program: exe.to_owned(),
            args: vec![SUBCOMMAND.to_owned(), self.dir.display().to_string()],
            current_dir: self.dir.clone(),
            grace_ms: 0,
            own_network: None,
            listen: Some(listen),
            root: None,
        };
        let status = supervisor::start(exe, &self.dir, &spec, &[]).map_err(ServiceError::supervisor)?;
        if let Some(failure) = status.failure {
            return Err(ServiceError::new(
                ServiceErrorKind::Internal,
                format!("the proxy can't be started: {failure}"),
            ));
        }
        self.direct(table)?;
        Ok(SocketAddr::new(listen.ip(), status.port.unwrap_or(listen.port())))
    }

    /// Puts a table into effect. When this returns, a replica that the table doesn't name gets no more requests. The deploy
    /// lock of the service must be held.
    ///
    /// # Errors
    /// [`ServiceErrorKind::StaleFence`] if the present table has a newer token, and if the proxy doesn't run.
    pub(crate) fn direct(&self, table: &RoutingTable) -> Result<(), ServiceError> {
        self.write(table)?;
        let deadline = Instant::now() + APPLY;
        loop {
            match self.report() {
                Ok(ProxyReport { table: applied, .. }) if applied == *table => return Ok(()),
                // It is being started again.
                Err(_) if Instant::now() < deadline && self.address()?.is_some() => thread::sleep(PAUSE),
                Err(error) => return Err(self.unreachable(error)),
                Ok(_) => return Err(self.unreachable(io::Error::other("it has refused the table"))),
            }
        }
    }

    /// The table that was written last.
    pub(crate) fn table(&self) -> Result<RoutingTable, ServiceError> {
        RoutingTable::read(&self.dir).map_err(|error| ServiceError::file(&self.dir, error))
    }

    /// Like [`Proxy::direct`]. A proxy that isn't running finds the table when it is started.
    pub(crate) fn direct_if_running(&self, table: &RoutingTable) -> Result<(), ServiceError> {
        match self.address()? {
            Some(_) => self.direct(table),
            None => self.write(table),
        }
    }

    /// Waits until the replicas that get no more requests have answered the last ones, but at most for `limit`.
    pub(crate) fn drain(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let is_busy = |report: &ProxyReport| {
            let named = report.table.ports();
            report.in_flight.iter().any(|(port, requests)| *requests > 0 && !named.contains(port))
        };
        // A proxy that doesn't answer has no requests in flight any more.
        while Instant::now() < deadline && self.report().is_ok_and(|report| is_busy(&report)) {
            thread::sleep(PAUSE);
        }
    }

    /// Stops it, which frees the port. Succeeds if it isn't running.
    pub(crate) fn stop(&self) -> Result<(), ServiceError> {
        supervisor::stop(&self.dir).map_err(ServiceError::supervisor)
    }

    fn report(&self) -> io::Result<ProxyReport> {
        control::reload(&self.dir)
    }

    fn write(&self, table: &RoutingTable) -> Result<(), ServiceError> {
        let present = self.table()?;
        if table.fence < present.fence {
            let token = |fence: Option<u64>| fence.map_or_else(|| "none".to_owned(), |fence| fence.to_string());
            let message = format!(
                "the proxy directs requests by a deploy with the token {}, but this deploy has the older token {}",
                token(present.fence),
                token(table.fence)
            );
            return Err(ServiceError::new(ServiceErrorKind::StaleFence, message).with_help(format!(
                "start a new run; if the state folder was recreated since then, remove {}",
                self.dir.display()
            )));
        }
        table.write(&self.dir).map_err(|error| ServiceError::file(&self.dir, error))
    }

    fn unreachable(&self, error: io::Error) -> ServiceError {
        let message = format!("the proxy in `{}` doesn't take the new shares of requests", self.dir.display());
        ServiceError::new(ServiceErrorKind::Internal, message).caused_by(error)
    }
}
