//! Makes new sandboxes with a process that forks their keepers.
//!
//! Loading a program as large as the engine takes longer than confining it, so it is loaded only once.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use super::handle::{Sandbox, StartError};
use super::wire::{InitRequest, send};
use super::{Confinement, Missing, SUBCOMMAND};

/// Makes sandboxes, which outlive it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Maker(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    exe: PathBuf,
    /// None before the first sandbox.
    running: Mutex<Option<Running>>,
}

impl Maker {
    /// `exe` is a program with the hidden subcommand [`SUBCOMMAND`]. It is started with the first sandbox.
    pub fn new(exe: impl Into<PathBuf>) -> Maker {
        Maker(Arc::new(Shared { exe: exe.into(), running: Mutex::new(None) }))
    }

    /// Sets a sandbox up. Blocks for some milliseconds.
    pub fn sandbox(&self, confinement: &Confinement) -> Result<Sandbox, StartError> {
        Sandbox::begin(self.keeper()?, confinement)
    }

    /// Starts an empty sandbox to find out whether this machine supports sandboxes; the error says what is missing.
    /// Creates the folder `scratch`.
    pub fn missing(&self, scratch: &Path) -> Result<(), Missing> {
        let confinement = Confinement { scratch: scratch.to_owned(), ..Confinement::default() };
        let made = fs::create_dir_all(scratch);
        let started = match made {
            Ok(()) => self.sandbox(&confinement),
            Err(error) => Err(StartError::failed("make the scratch folder", error)),
        };
        started.map(drop).map_err(|error| Missing { what: error.to_string(), help: error.help().to_owned() })
    }

    /// Returns the socket to a new keeper.
    fn keeper(&self) -> Result<UnixStream, StartError> {
        let mut running = self.0.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(maker) = &*running {
            // The maker may have been killed; then it is started again.
            if let Ok(socket) = maker.fork() {
                return Ok(socket);
            }
        }
        let failed = |error| StartError::failed(&format!("start {}", self.0.exe.display()), error);
        let maker = running.insert(Running::start(&self.0.exe).map_err(failed)?);
        maker.fork().map_err(failed)
    }
}

#[derive(Debug)]
struct Running {
    /// None once it was closed, which ends the maker.
    socket: Option<UnixStream>,
    process: Child,
}

impl Running {
    fn start(exe: &Path) -> io::Result<Running> {
        let (socket, inside) = UnixStream::pair()?;
        let process = Command::new(exe)
            .arg(SUBCOMMAND)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(inside)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok(Running { socket: Some(socket), process })
    }

    fn fork(&self) -> io::Result<UnixStream> {
        let (socket, inside) = UnixStream::pair()?;
        let maker = self.socket.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        send(maker, &InitRequest::Fork, &[inside.as_fd()])?;
        Ok(socket)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.socket = None;
        // The maker exits when the socket is closed.
        let _ = self.process.wait();
    }
}
