//! The engine's handle to a sandbox.

use std::fs;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use tokio::sync::{mpsc, watch};

use super::connection::{Connection, NotStarted, ProgramHandle};
use super::observe::FileObservation;
use super::refusal::Refusal;
use super::wire::{Exceeded, InitAnswer, InitRequest, receive, send};
use super::{Confinement, PATIENCE, ProgramUser, SandboxLimits};
use crate::child::Child;
use crate::command::{Command, SpawnError};
use crate::kernel;

/// A sandbox, in which programs can access only what a [`Confinement`] lists. Dropping it kills all its processes.
#[derive(Debug)]
pub struct Sandbox {
    connection: Arc<Connection>,
    limits: SandboxLimits,
    /// Whether its programs have the root of an image.
    is_image: bool,
    listeners: Vec<TcpListener>,
    name_server: Option<UdpSocket>,
    refusals: Option<mpsc::Receiver<Refusal>>,
}

/// Why a sandbox could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// This machine lacks a feature that sandboxes need.
    #[error("this system can't {step}: {source}")]
    Unavailable {
        /// What was tried, as in `make a user namespace`.
        step: String,
        /// What the system said.
        source: io::Error,
    },
    /// Setting up this sandbox failed, for example because a granted file doesn't exist.
    #[error("the sandbox can't be set up: {step}: {source}")]
    Failed {
        /// What was tried.
        step: String,
        /// What the system said.
        source: io::Error,
    },
}

impl StartError {
    pub(super) fn failed(step: &str, source: impl Into<io::Error>) -> StartError {
        StartError::Failed { step: step.to_owned(), source: source.into() }
    }

    /// What to do about it.
    pub fn help(&self) -> &'static str {
        match self {
            StartError::Unavailable { step, .. } if step == "restrict files" => {
                "boot a kernel of version 5.13 or newer with Landlock switched on (`lsm=landlock,…`), or accept programs \
                 without a sandbox: `sandbox = \"preferred\"` in [pipeline]"
            }
            StartError::Unavailable { step, .. } if step == "filter system calls" || step == "connect for programs" => {
                "use a kernel with seccomp filters; in a container, allow the system calls `seccomp`, `pidfd_getfd` and \
                 `process_vm_readv`, and remove any filter that notifies another program of system calls; or \
                 accept programs without a sandbox: `sandbox = \"preferred\"` in [pipeline]"
            }
            StartError::Unavailable { .. } => {
                "allow unprivileged user namespaces (`sysctl user.max_user_namespaces`; on Ubuntu also \
                 `sysctl kernel.apparmor_restrict_unprivileged_userns`), in a container run it with \
                 `--security-opt seccomp=unconfined --security-opt systempaths=unconfined`, or accept programs without a sandbox: \
                 `sandbox = \"preferred\"` in [pipeline]"
            }
            StartError::Failed { .. } => "check that what the stage is granted exists, and that you can read it",
        }
    }
}

impl Sandbox {
    /// Sends the confinement to a keeper and waits until the sandbox is set up.
    pub(super) fn begin(socket: UnixStream, confinement: &Confinement) -> Result<Sandbox, StartError> {
        // If this fails, dropping the socket ends the keeper.
        let mut sockets = set_up(&socket, confinement)?;
        let name_server = sockets.split_off(confinement.listeners.len().min(sockets.len())).into_iter().next();
        let listeners = sockets.into_iter().map(TcpListener::from).collect();
        let reader = socket.try_clone().map_err(|error| StartError::failed("share the socket", error))?;
        let (connection, refusals) = Connection::new(socket);
        let connection = Arc::new(connection);
        let listener = Arc::clone(&connection);
        let listening = thread::Builder::new().name("sandbox".to_owned()).spawn(move || listener.listen(&reader));
        listening.map_err(|error| StartError::failed("start a thread", error))?;
        Ok(Sandbox {
            connection,
            limits: confinement.limits,
            is_image: confinement.image.is_some(),
            listeners,
            name_server: name_server.map(UdpSocket::from),
            refusals: Some(refusals),
        })
    }

    /// Takes the listening sockets inside the sandbox, in the order of [`Confinement::listeners`].
    pub fn listeners(&mut self) -> Vec<TcpListener> {
        std::mem::take(&mut self.listeners)
    }

    /// Takes the socket inside the sandbox that gets lookups of names; none without [`Confinement::name_server`].
    pub fn name_server(&mut self) -> Option<UdpSocket> {
        self.name_server.take()
    }

    /// Takes the receiver of connections that programs didn't get, each once; none if it was taken before. The channel
    /// closes when the sandbox ends.
    pub fn refusals(&mut self) -> Option<mpsc::Receiver<Refusal>> {
        self.refusals.take()
    }

    /// Takes what was observed of programs up to the end of the last one that has ended; nothing without
    /// [`Confinement::observe`].
    pub fn observations(&self) -> Vec<FileObservation> {
        self.connection.observations()
    }

    /// Starts a program inside, in a process group of its own. All paths are paths inside the sandbox.
    ///
    /// Must be called within a tokio runtime that has I/O and time enabled. Blocks for about a millisecond.
    pub fn spawn(&self, mut command: Command) -> Result<Child, SpawnError> {
        if !command.program.is_absolute() {
            return Err(SpawnError::NotAbsolute { program: command.program });
        }
        let input = command.stdin.take();
        let system = |source| SpawnError::System { program: command.program.clone(), source };
        let (stdin, feed) = match input {
            Some(input) => {
                let (reader, writer) = io::pipe().map_err(system)?;
                (OwnedFd::from(reader), Some((OwnedFd::from(writer), input)))
            }
            None => (kernel::null().map_err(system)?, None),
        };
        let (stdout, to_stdout) = io::pipe().map_err(system)?;
        let (stderr, to_stderr) = io::pipe().map_err(system)?;
        // The program's ends of the pipes are closed in this process after the start: while it held a write end, the
        // output would never reach its end.
        let fds = [stdin, to_stdout.into(), to_stderr.into()];
        let program = self.start(&command, &fds)?;
        drop(fds);
        Child::confined(program, feed, stdout.into(), stderr.into()).map_err(system)
    }

    /// Changes to the limit that was exceeded, at which everything inside was killed.
    pub fn exceeded(&self) -> watch::Receiver<Option<Exceeded>> {
        self.connection.exceeded()
    }

    /// Kills everything inside, and waits until nothing is left.
    pub async fn end(&self) {
        self.connection.hang_up();
        self.connection.ended().await;
    }

    fn start(&self, command: &Command, fds: &[OwnedFd; 3]) -> Result<ProgramHandle, SpawnError> {
        let Command { program, args, env, current_dir, .. } = command;
        let started = self.connection.start(program, args.clone(), env.clone(), current_dir.clone(), fds);
        started.map_err(|error| match error {
            NotStarted::Sandbox(source) => SpawnError::System { program: program.clone(), source },
            NotStarted::Program(source) => self.explain(command, source),
        })
    }

    /// Explains why a program could not be started. A program that exists outside but not inside is reported as out of
    /// reach, although the kernel reports that it doesn't exist.
    fn explain(&self, command: &Command, source: io::Error) -> SpawnError {
        let program = command.program.clone();
        if self.is_image {
            // Its paths are not those of this machine.
            return match source.raw_os_error() {
                Some(libc::ENOENT) => SpawnError::NoInterpreter { program },
                Some(libc::EACCES) => SpawnError::NotExecutable { program },
                _ => SpawnError::System { program, source },
            };
        }
        if let Some(error) = command.unfit() {
            return error;
        }
        match source.raw_os_error() {
            Some(libc::ENOENT | libc::EACCES) if command.current_dir.is_dir() && program.exists() => {
                SpawnError::OutOfReach { program }
            }
            Some(libc::EAGAIN) if self.limits.processes.is_some() => {
                SpawnError::TooMany { program, limit: self.limits.processes.unwrap_or_default() }
            }
            _ => command.explain(source),
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.connection.hang_up();
    }
}

/// Waits until the sandbox is ready, and returns its listeners, and the socket of its name server as the last.
fn set_up(socket: &UnixStream, confinement: &Confinement) -> Result<Vec<OwnedFd>, StartError> {
    let lost = |error: io::Error| StartError::failed("wait for its answer", error);
    socket.set_read_timeout(Some(PATIENCE)).map_err(lost)?;
    send(socket, &InitRequest::Begin(Box::new(confinement.clone())), &[]).map_err(lost)?;
    loop {
        match receive::<InitAnswer>(socket).map_err(lost)? {
            Some((InitAnswer::Unmapped { keeper }, _)) => {
                let user = confinement.image.as_ref().map(|image| image.user.as_ref());
                user.map_or_else(|| map_users(keeper), |user| map_one_user(keeper, user)).map_err(|source| {
                    StartError::Unavailable { step: "give users and groups to a user namespace".to_owned(), source }
                })?;
                send(socket, &InitRequest::Mapped, &[]).map_err(lost)?;
            }
            Some((InitAnswer::Ready, fds)) => {
                socket.set_read_timeout(None).map_err(lost)?;
                return Ok(fds);
            }
            Some((InitAnswer::Impossible { step, error, errno }, _)) => {
                let source = errno.map_or_else(|| io::Error::other(error), io::Error::from_raw_os_error);
                let concerns_grant =
                    step.starts_with("take ") || step.starts_with("listen at port") || step.contains('/');
                // EPERM means that the machine denies a privilege: opening a granted file fails with EACCES instead.
                let is_forbidden = source.raw_os_error() == Some(libc::EPERM);
                return Err(match concerns_grant && !is_forbidden {
                    true => StartError::Failed { step, source },
                    false => StartError::Unavailable { step, source },
                });
            }
            Some(_) => {}
            None => return Err(lost(io::ErrorKind::UnexpectedEof.into())),
        }
    }
}

/// Maps users and groups to the same ids inside: all of them if this process is root's, otherwise only its own. Done
/// from outside, because a process in the new user namespace may map only one id.
fn map_users(pid: u32) -> io::Result<()> {
    let folder = Path::new("/proc").join(pid.to_string());
    if rustix::process::geteuid().is_root() {
        for map in ["uid_map", "gid_map"] {
            let all = kernel::read_text(Path::new("/proc/self").join(map))?;
            let same = all.lines().filter_map(|line| {
                let mut numbers = line.split_whitespace();
                let (inside, count) = (numbers.next()?, numbers.nth(1)?);
                Some(format!("{inside} {inside} {count}\n"))
            });
            fs::write(folder.join(map), same.collect::<String>())?;
        }
        return Ok(());
    }
    map_one_user(pid, None)
}

/// Maps only the user and the group of this process: to these numbers inside, or to the same ones.
fn map_one_user(pid: u32, inside: Option<&ProgramUser>) -> io::Result<()> {
    let folder = Path::new("/proc").join(pid.to_string());
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let (user_inside, group_inside) = inside.map_or((user, group), |inside| (inside.uid, inside.gid));
    fs::write(folder.join("setgroups"), "deny")?;
    fs::write(folder.join("uid_map"), format!("{user_inside} {user} 1"))?;
    fs::write(folder.join("gid_map"), format!("{group_inside} {group} 1"))
}
