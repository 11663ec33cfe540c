//! The engine's way to new sandboxes: a process that becomes each of their keepers by a fork.
//!
//! To load a program as large as the engine takes longer than to confine one; it is loaded once.

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

/// Makes sandboxes; cheap to clone. Those that were made outlive it.
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

    /// What sandboxes need that this machine doesn't offer; none when nothing is missing. Tries it. `scratch` is a
    /// folder to be.
    pub fn missing(&self, scratch: &Path) -> Result<(), Missing> {
        let confinement = Confinement { scratch: scratch.to_owned(), ..Confinement::default() };
        let made = fs::create_dir_all(scratch);
        let started = match made {
            Ok(()) => self.sandbox(&confinement),
            Err(error) => Err(StartError::failed("make the scratch folder", error)),
        };
        started.map(drop).map_err(|error| Missing { what: error.to_string(), help: error.help().to_owned() })
    }

    /// A socket to a keeper that is new.
    fn keeper(&self) -> Result<UnixStream, StartError> {
        let mut running = self.0.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(maker) = &*running {
            // Somebody may have killed it.
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
    /// None once it was let go.
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
        // It ends by itself with the socket.
        let _ = self.process.wait();
    }
}
