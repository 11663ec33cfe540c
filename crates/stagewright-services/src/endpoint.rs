//! Finds out whether a release or another program accepts connections at a port of this machine.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use stagewright_process::supervisor::{self, Holder, Listening};

use crate::blocking::blocking;
use crate::error::{ServiceError, ServiceErrorKind};

/// The address that a release has to listen on: the variable `HOST` of its program, unless the image or the deploy sets
/// another one.
pub(crate) const HOST: &str = "127.0.0.1";
/// How long a port may stay in use after the release that used it was stopped, because its last processes are still
/// ending.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a release that is started again may take to listen.
pub(crate) const LISTEN_TIMEOUT: Duration = Duration::from_secs(10);
/// The interval between two looks at a port.
pub(crate) const POLL: Duration = Duration::from_millis(20);

/// Where a release has to be listening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The folder of the release.
    pub dir: PathBuf,
    /// The name of the release.
    pub release: String,
    /// The variable `PORT` of its program: a port in the program's network, which in a rehearsal isn't this machine's.
    pub port: u16,
}

impl Endpoint {
    /// Checks that the release itself accepts connections at the port. A caller that needs a response of the release
    /// checks before the request and again after the response: otherwise another program could have taken over the port
    /// in between.
    ///
    /// # Errors
    /// [`ServiceErrorKind::PortTaken`] if another program accepts connections there, [`ServiceErrorKind::NotListening`]
    /// if no program does, and [`ServiceErrorKind::Internal`].
    pub async fn check(&self) -> Result<(), ServiceError> {
        match self.listening().await? {
            Listening::Service => Ok(()),
            Listening::Other(holder) => Err(self.port_taken(holder.as_ref())),
            Listening::Nothing { elsewhere } => Err(self.not_listening(&elsewhere)),
        }
    }

    /// Checks that no other program accepts connections at the port. A release that listens nowhere passes, because not
    /// every service listens.
    pub(crate) fn check_not_taken(&self) -> Result<(), ServiceError> {
        let listening = supervisor::listening(&self.dir, self.port).map_err(ServiceError::supervisor)?;
        match listening {
            Listening::Other(holder) => Err(self.port_taken(holder.as_ref())),
            Listening::Service | Listening::Nothing { .. } => Ok(()),
        }
    }

    /// Whether the release itself accepts connections at the port.
    pub(crate) fn is_listening(&self) -> Result<bool, ServiceError> {
        let listening = supervisor::listening(&self.dir, self.port).map_err(ServiceError::supervisor)?;
        Ok(listening == Listening::Service)
    }

    async fn listening(&self) -> Result<Listening, ServiceError> {
        let Endpoint { dir, port, .. } = self.clone();
        blocking(move || supervisor::listening(&dir, port).map_err(ServiceError::supervisor)).await?
    }

    fn port_taken(&self, holder: Option<&Holder>) -> ServiceError {
        let message = format!(
            "{}, which isn't part of release {}",
            in_use(local(self.port), holder.map(ToString::to_string).as_deref()),
            self.release
        );
        ServiceError::new(ServiceErrorKind::PortTaken, message).with_help("stop that program, or change `port`")
    }

    fn not_listening(&self, elsewhere: &[SocketAddr]) -> ServiceError {
        let port = self.port;
        let message = match elsewhere {
            [] => format!("release {} listens nowhere; expected {HOST}:{port}, its $HOST:$PORT", self.release),
            found => {
                let found: Vec<String> = found.iter().map(ToString::to_string).collect();
                let found = found.join(", ");
                format!("release {} listens on {found} instead of {HOST}:{port}, its $HOST:$PORT", self.release)
            }
        };
        ServiceError::new(ServiceErrorKind::NotListening, message)
            .with_help("make the program listen on the host and the port in the variables HOST and PORT")
    }
}

/// Checks that no program uses the address yet, and waits up to [`RELEASE_TIMEOUT`] for it to become free.
pub(crate) fn require_free(address: SocketAddr) -> Result<(), ServiceError> {
    let port = address.port();
    let deadline = Instant::now() + RELEASE_TIMEOUT;
    loop {
        // Only `AddrInUse` is an error here. If the engine isn't allowed to bind the port, for example one below 1024,
        // the program of the release may still have a capability that allows it. If it doesn't, its own error is in its
        // log.
        match TcpListener::bind(address) {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {}
            _ => return Ok(()),
        }
        if Instant::now() >= deadline {
            let holder = supervisor::port_holder(port).map(|holder| holder.to_string());
            return Err(ServiceError::new(ServiceErrorKind::PortTaken, in_use(address, holder.as_deref()))
                .with_help("stop that program, or change `port`; without `port`, a free one is used"));
        }
        thread::sleep(POLL);
    }
}

fn in_use(address: SocketAddr, holder: Option<&str>) -> String {
    let holder = holder.unwrap_or("a program of another user");
    format!("port {} of {} is in use by {holder}", address.port(), address.ip())
}

/// A port of this machine's loopback.
pub(crate) fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
