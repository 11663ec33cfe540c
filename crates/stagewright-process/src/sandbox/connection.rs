//! The engine's connection to the init of a sandbox, and the programs that it starts over it.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc as blocking};

use rustix::process::Signal;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};

use super::PATIENCE;
use super::observe::{FileObservation, MAX_OBSERVATIONS};
use super::refusal::Refusal;
use super::wire::{Exceeded, InitAnswer, InitRequest, receive, send};
use crate::exit_status::ExitStatus;
use crate::kernel;

/// The most refused connections that are queued; the broker reports fewer.
const MAX_REFUSALS: usize = 128;

/// The connection, shared by the sandbox's handle and by those of its programs.
#[derive(Debug)]
pub(super) struct Connection {
    /// None once hung up.
    socket: Mutex<Option<UnixStream>>,
    next: AtomicU64,
    programs: Mutex<Programs>,
    exceeded: watch::Sender<Option<Exceeded>>,
    refused: mpsc::Sender<Refusal>,
    /// At most [`MAX_OBSERVATIONS`].
    observed: Mutex<Vec<FileObservation>>,
    /// A descriptor of init, if it has sent one.
    init: Mutex<Option<OwnedFd>>,
    ended: watch::Sender<bool>,
}

/// None once the sandbox has ended.
type Programs = Option<HashMap<u64, Program>>;

#[derive(Debug)]
struct Program {
    started: blocking::Sender<Started>,
    end: watch::Sender<Option<End>>,
}

/// The process id of a program, if init has told; or why it wasn't started, with the system's number of the error.
type Started = Result<Option<u32>, (Option<i32>, String)>;

/// None for a program whose sandbox ended.
type End = Option<ExitStatus>;

impl Connection {
    /// Creates a connection, and a receiver of refused connections. The caller must run
    /// [`Connection::listen`] on another thread.
    pub(super) fn new(socket: UnixStream) -> (Connection, mpsc::Receiver<Refusal>) {
        let (refused, refusals) = mpsc::channel(MAX_REFUSALS);
        let connection = Connection {
            socket: Mutex::new(Some(socket)),
            next: AtomicU64::new(0),
            programs: Mutex::new(Some(HashMap::new())),
            exceeded: watch::Sender::new(None),
            refused,
            observed: Mutex::default(),
            init: Mutex::default(),
            ended: watch::Sender::new(false),
        };
        (connection, refusals)
    }

    /// Starts a program. `fds` are its standard streams. Blocks until the program is started, for at most [`PATIENCE`].
    pub(super) fn start(
        self: &Arc<Self>,
        program: &Path,
        args: Vec<String>,
        env: Vec<(String, String)>,
        current_dir: PathBuf,
        fds: &[OwnedFd; 3],
    ) -> Result<ProgramHandle, NotStarted> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let ((started, answer), (end, ended)) = (blocking::channel(), watch::channel(None));
        let sandbox_ended = || NotStarted::Sandbox(io::Error::other("its sandbox has ended"));
        match &mut *self.programs.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(programs) => programs.insert(id, Program { started, end }),
            None => return Err(sandbox_ended()),
        };
        let request = InitRequest::Spawn { id, program: program.to_owned(), args, env, current_dir };
        self.request(&request, fds).map_err(NotStarted::Sandbox)?;
        match answer.recv_timeout(PATIENCE) {
            Ok(Ok(process)) => Ok(ProgramHandle { connection: Arc::clone(self), id, process, ended }),
            Ok(Err((errno, error))) => {
                let source = errno.map_or_else(|| io::Error::other(error), io::Error::from_raw_os_error);
                Err(NotStarted::Program(source))
            }
            Err(blocking::RecvTimeoutError::Timeout) => Err(NotStarted::Sandbox(io::ErrorKind::TimedOut.into())),
            Err(blocking::RecvTimeoutError::Disconnected) => Err(sandbox_ended()),
        }
    }

    /// The limit that was exceeded; none so far.
    pub(super) fn exceeded(&self) -> watch::Receiver<Option<Exceeded>> {
        self.exceeded.subscribe()
    }

    /// Takes what was observed of the programs that have ended.
    pub(super) fn observations(&self) -> Vec<FileObservation> {
        std::mem::take(&mut self.observed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until the sandbox has ended.
    pub(super) async fn ended(&self) {
        // The sender lives as long as this value.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
        let init = self.init.lock().unwrap_or_else(PoisonError::into_inner).take();
        // SAFETY: an `OwnedFd` answers the same descriptor for as long as it lives.
        let watch = |init| unsafe { AsyncFd::register_with_interest(init, Interest::READABLE) };
        if let Some(init) = init.and_then(|init| watch(init).ok()) {
            // It is readable once init is dead, and the kernel has killed everything inside before that.
            let _ = init.readable().await;
        }
    }

    fn request(&self, request: &InitRequest, fds: &[OwnedFd]) -> io::Result<()> {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let socket = socket.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        let fds = fds.iter().map(OwnedFd::as_fd).collect::<Vec<_>>();
        send(socket, request, &fds)
    }

    /// Ends the sandbox, with all that runs in it.
    pub(super) fn hang_up(&self) {
        if let Some(socket) = self.socket.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // Closing this descriptor isn't enough: the listening thread has a duplicate of it. The shutdown ends the
            // stream for both sides: init sees its end and exits, and the listening thread returns.
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
    }

    /// Dispatches the answers of init, until the connection ends.
    pub(super) fn listen(&self, socket: &UnixStream) {
        // An invalid message is handled like the end of the connection: the sandbox is killed.
        while let Ok(Some((answer, fds))) = receive::<InitAnswer>(socket) {
            let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(programs) = &mut *programs else { break };
            match answer {
                InitAnswer::Started { id } => {
                    let mut fds = fds.into_iter();
                    let process = fds.next().and_then(|fd| number_of(&fd));
                    if let Some(init) = fds.next() {
                        *self.init.lock().unwrap_or_else(PoisonError::into_inner) = Some(init);
                    }
                    if let Some(program) = programs.get(&id) {
                        let _ = program.started.send(Ok(process));
                    }
                }
                InitAnswer::NotStarted { id, errno, error } => {
                    if let Some(program) = programs.remove(&id) {
                        let _ = program.started.send(Err((errno, error)));
                    }
                }
                InitAnswer::Ended { id, code, signal } => {
                    if let Some(program) = programs.remove(&id) {
                        program.end.send_replace(Some(Some(ExitStatus { code, signal })));
                    }
                }
                InitAnswer::Exceeded(bound) => {
                    self.exceeded.send_replace(Some(bound));
                }
                // If the queue is full, the report is dropped: this thread must not block, programs wait for it.
                InitAnswer::Refused(refusal) => drop(self.refused.try_send(refusal)),
                InitAnswer::Observed(observed) => {
                    let mut known = self.observed.lock().unwrap_or_else(PoisonError::into_inner);
                    let room = MAX_OBSERVATIONS.saturating_sub(known.len());
                    known.extend(observed.into_iter().take(room));
                }
                InitAnswer::Unmapped { .. } | InitAnswer::Ready | InitAnswer::Impossible { .. } => {}
            }
        }
        self.hang_up();
        // From here on the table is none, so that `start` fails instead of adding a program that is never reported. The
        // remaining programs died with init; dropping their `started` senders wakes a caller that waits in `start`.
        let left = self.programs.lock().unwrap_or_else(PoisonError::into_inner).take();
        for program in left.into_iter().flat_map(HashMap::into_values) {
            program.end.send_replace(Some(None));
        }
        self.ended.send_replace(true);
    }
}

/// The number of a process by its descriptor; none if it has ended. See pidfd_open(2).
fn number_of(process: &OwnedFd) -> Option<u32> {
    let text = kernel::read_text(format!("/proc/self/fdinfo/{}", process.as_raw_fd())).ok()?;
    text.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().parse().ok()
}

/// Why a program wasn't started.
pub(super) enum NotStarted {
    /// The request to the sandbox failed, or it didn't answer.
    Sandbox(io::Error),
    /// The system could not start the program, for this reason.
    Program(io::Error),
}

/// A handle to a program in a sandbox.
#[derive(Clone, Debug)]
pub(crate) struct ProgramHandle {
    connection: Arc<Connection>,
    id: u64,
    /// Its process id, if init has told.
    pub(crate) process: Option<u32>,
    ended: watch::Receiver<Option<End>>,
}

impl ProgramHandle {
    pub(crate) fn signal(&self, signal: Signal) {
        if self.ended.borrow().is_none() {
            // If the request can't be sent, the sandbox has ended, and the program with it.
            let _ = self.connection.request(&InitRequest::Signal { id: self.id, signal: signal.as_raw() }, &[]);
        }
    }

    /// Waits for the exit status; none if the sandbox ended first.
    pub(crate) async fn ended(&mut self) -> Option<ExitStatus> {
        self.ended.wait_for(Option::is_some).await.ok().and_then(|end| (*end).flatten())
    }
}
