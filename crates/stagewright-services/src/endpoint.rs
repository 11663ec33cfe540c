//! Whose answer an address of this machine gives: a release's own, or another program's.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use stagewright_process::supervisor::{self, Holder, Listening};

use crate::blocking::blocking;
use crate::error::{ServiceError, ServiceErrorKind};

/// The host that a release has to listen on: the variable `HOST` of its program, unless image or deploy set another.
pub(crate) const HOST: &str = "127.0.0.1";
/// How long a port may stay taken after the release that had it was stopped: its last processes are still ending.
const RELEASED_WITHIN: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(20);

/// Where a release has to be listening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The release's folder.
    pub dir: PathBuf,
    /// Its name.
    pub release: String,
    /// The variable `PORT` of its program; in the network that it is in.
    pub port: u16,
}

impl Endpoint {
    /// An error unless the release itself accepts connections there. An answer counts as the release's when this held
    /// before it was asked for and still holds after it came.
    ///
    /// # Errors
    /// [`ServiceErrorKind::PortTaken`] and [`ServiceErrorKind::NotListening`].
    pub async fn check(&self) -> Result<(), ServiceError> {
        match self.listening().await? {
            Listening::Service => Ok(()),
            Listening::Other(holder) => Err(self.other(holder.as_ref())),
            Listening::Nothing { elsewhere } => Err(self.nothing(&elsewhere)),
        }
    }

    /// An error when another program accepts connections there. A release may serve without listening at all.
    pub(crate) fn check_not_taken(&self) -> Result<(), ServiceError> {
        let listening = supervisor::listening(&self.dir, self.port).map_err(ServiceError::supervisor)?;
        match listening {
            Listening::Other(holder) => Err(self.other(holder.as_ref())),
            Listening::Service | Listening::Nothing { .. } => Ok(()),
        }
    }

    async fn listening(&self) -> Result<Listening, ServiceError> {
        let Endpoint { dir, port, .. } = self.clone();
        blocking(move || supervisor::listening(&dir, port).map_err(ServiceError::supervisor)).await?
    }

    fn other(&self, holder: Option<&Holder>) -> ServiceError {
        let message = format!(
            "{}, which isn't part of release {}",
            held(self.port, holder.map(ToString::to_string).as_deref()),
            self.release
        );
        ServiceError::new(ServiceErrorKind::PortTaken, message).with_help("stop that program, or change `port`")
    }

    fn nothing(&self, elsewhere: &[SocketAddr]) -> ServiceError {
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
            .with_help("make the program listen on the address in the variables HOST and PORT")
    }
}

/// Refuses a port that another program holds already: a release could never have it.
pub(crate) fn require_free(port: u16) -> Result<(), ServiceError> {
    let deadline = Instant::now() + RELEASED_WITHIN;
    loop {
        // Any other error is the program's to meet and to report: it may have powers that the engine doesn't have.
        match TcpListener::bind((HOST, port)) {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {}
            _ => return Ok(()),
        }
        if Instant::now() >= deadline {
            let holder = supervisor::port_holder(port).map(|holder| holder.to_string());
            return Err(ServiceError::new(ServiceErrorKind::PortTaken, held(port, holder.as_deref()))
                .with_help("stop that program, or change `port`; without `port` the host picks a free one"));
        }
        thread::sleep(POLL);
    }
}

fn held(port: u16, holder: Option<&str>) -> String {
    format!("port {port} of {HOST} is in use by {}", holder.unwrap_or("a program of another user"))
}
