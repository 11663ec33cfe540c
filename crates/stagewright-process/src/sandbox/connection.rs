//! What the engine and a sandbox's init say to each other, and the programs that are started that way.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc as blocking};

use rustix::process::Signal;
use tokio::sync::{mpsc, watch};

use super::PATIENCE;
use super::wire::{Exceeded, InitAnswer, InitRequest, receive, send};
use crate::exit_status::ExitStatus;

/// Refused connections that are reported; more than a sandbox that works sends.
const REFUSALS: usize = 128;

/// The connection, shared by the sandbox's handle and by those of its programs.
#[derive(Debug)]
pub(super) struct Connection {
    /// None once hung up.
    socket: Mutex<Option<UnixStream>>,
    next: AtomicU64,
    programs: Mutex<Programs>,
    exceeded: watch::Sender<Option<Exceeded>>,
    refused: mpsc::Sender<PathBuf>,
    ended: watch::Sender<bool>,
}

/// None once the sandbox has ended.
type Programs = Option<HashMap<u64, Program>>;

#[derive(Debug)]
struct Program {
    started: blocking::Sender<Result<(), (Option<i32>, String)>>,
    end: watch::Sender<Option<End>>,
}

/// None for a program whose sandbox ended.
type End = Option<ExitStatus>;

impl Connection {
    /// A connection whose answers [`Connection::listen`] still has to hear, and where refused sockets are reported.
    pub(super) fn new(socket: UnixStream) -> (Connection, mpsc::Receiver<PathBuf>) {
        let (refused, refusals) = mpsc::channel(REFUSALS);
        let connection = Connection {
            socket: Mutex::new(Some(socket)),
            next: AtomicU64::new(0),
            programs: Mutex::new(Some(HashMap::new())),
            exceeded: watch::Sender::new(None),
            refused,
            ended: watch::Sender::new(false),
        };
        (connection, refusals)
    }

    /// Has a program started. `fds` are its standard streams. Blocks until that is done.
    pub(super) fn start(
        self: &Arc<Self>,
        program: &Path,
        args: Vec<String>,
        env: Vec<(String, String)>,
        current_dir: PathBuf,
        fds: &[OwnedFd; 3],
    ) -> Result<Line, NotStarted> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let ((started, answer), (end, ended)) = (blocking::channel(), watch::channel(None));
        let gone = || NotStarted::Sandbox(io::Error::other("its sandbox has ended"));
        match &mut *self.programs.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(programs) => programs.insert(id, Program { started, end }),
            None => return Err(gone()),
        };
        let request = InitRequest::Spawn { id, program: program.to_owned(), args, env, current_dir };
        self.say(&request, fds).map_err(NotStarted::Sandbox)?;
        match answer.recv_timeout(PATIENCE) {
            Ok(Ok(())) => Ok(Line { connection: Arc::clone(self), id, ended }),
            Ok(Err((errno, error))) => {
                let source = errno.map_or_else(|| io::Error::other(error), io::Error::from_raw_os_error);
                Err(NotStarted::Program(source))
            }
            Err(blocking::RecvTimeoutError::Timeout) => Err(NotStarted::Sandbox(io::ErrorKind::TimedOut.into())),
            Err(blocking::RecvTimeoutError::Disconnected) => Err(gone()),
        }
    }

    /// What the programs' bounds are, once they have been passed.
    pub(super) fn exceeded(&self) -> watch::Receiver<Option<Exceeded>> {
        self.exceeded.subscribe()
    }

    /// Waits until nothing is left of the sandbox.
    pub(super) async fn ended(&self) {
        // The sender lives as long as this value.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }

    fn say(&self, request: &InitRequest, fds: &[OwnedFd]) -> io::Result<()> {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let socket = socket.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        let fds = fds.iter().map(OwnedFd::as_fd).collect::<Vec<_>>();
        send(socket, request, &fds)
    }

    /// Ends the sandbox, with all that runs in it.
    pub(super) fn hang_up(&self) {
        if let Some(socket) = self.socket.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // The thread that listens has a handle of its own.
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
    }

    /// Passes on what is heard, until the other end is gone.
    pub(super) fn listen(&self, socket: &UnixStream) {
        // A message that makes no sense is as good as the end.
        while let Ok(Some((answer, _))) = receive::<InitAnswer>(socket) {
            let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(programs) = &mut *programs else { break };
            match answer {
                InitAnswer::Started { id } => {
                    if let Some(program) = programs.get(&id) {
                        let _ = program.started.send(Ok(()));
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
                // One that finds no place is not worth to wait for.
                InitAnswer::Refused { socket } => drop(self.refused.try_send(socket)),
                InitAnswer::Unmapped { .. } | InitAnswer::Ready | InitAnswer::Impossible { .. } => {}
            }
        }
        self.hang_up();
        let left = self.programs.lock().unwrap_or_else(PoisonError::into_inner).take();
        for program in left.into_iter().flat_map(HashMap::into_values) {
            program.end.send_replace(Some(None));
        }
        self.ended.send_replace(true);
    }
}

/// Why a program wasn't started.
pub(super) enum NotStarted {
    /// Its sandbox didn't do it.
    Sandbox(io::Error),
    /// The system didn't, for this reason.
    Program(io::Error),
}

/// How one program of a sandbox is reached.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    connection: Arc<Connection>,
    id: u64,
    ended: watch::Receiver<Option<End>>,
}

impl Line {
    pub(crate) fn signal(&self, signal: Signal) {
        if self.ended.borrow().is_none() {
            // A sandbox that can't be told has ended, and the program with it.
            let _ = self.connection.say(&InitRequest::Signal { id: self.id, signal: signal.as_raw() }, &[]);
        }
    }

    /// How it ended; none when its sandbox did.
    pub(crate) async fn ended(&mut self) -> Option<ExitStatus> {
        self.ended.wait_for(Option::is_some).await.ok().and_then(|end| (*end).flatten())
    }
}
