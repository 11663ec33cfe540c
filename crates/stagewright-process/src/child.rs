//! A running child: its output, its end, and its group.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::exit_status::ExitStatus;
use crate::guard::{self, Target};
use crate::reap::reap;
use crate::sandbox::ProgramHandle;

/// The most bytes of one read from a pipe. Linux pipes hold 64 KiB by default.
const CHUNK: usize = 64 * 1024;
/// How long processes that the child left behind may go on writing.
const DRAIN_GRACE: Duration = Duration::from_millis(500);
/// The most bytes that are read from each pipe after that: the largest pipe an unprivileged process can have.
const DRAIN_BYTES: usize = 1024 * 1024;

/// Which stream a piece of output came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Signals a child's process group; outlives the [`Child`], and does nothing once the child has been collected.
#[derive(Clone, Debug)]
pub struct Group(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Own(OwnGroup),
    Confined(ProgramHandle),
}

#[derive(Clone, Debug)]
struct OwnGroup {
    leader: Arc<Mutex<Option<Pid>>>,
    reach: SignalScope,
}

/// Which processes a signal to a child is sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignalScope {
    /// It leads a group of its own.
    Group,
    /// It shares the group of this process, which must not be signalled.
    Process,
}

impl SignalScope {
    fn target(self, id: u32) -> Target {
        match self {
            SignalScope::Group => Target::Group(id),
            SignalScope::Process => Target::Process(id),
        }
    }
}

impl Group {
    /// SIGTERM.
    pub fn interrupt(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGKILL.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        match &self.0 {
            Kind::Own(group) => group.signal(signal),
            Kind::Confined(line) => line.signal(signal),
        }
    }
}

impl OwnGroup {
    /// Sends a signal. The process id can't have been reused: the leader, dead or alive, keeps it until it is
    /// collected, and `close` is called before that.
    fn signal(&self, signal: Signal) {
        if let Some(leader) = *self.leader.lock().unwrap_or_else(PoisonError::into_inner) {
            // An error means that they have ended already.
            let _ = match self.reach {
                SignalScope::Group => kill_process_group(leader, signal),
                SignalScope::Process => kill_process(leader, signal),
            };
        }
    }

    fn close(&self) {
        *self.leader.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// The process itself.
#[derive(Debug)]
enum Life {
    Own {
        id: u32,
        /// None once collected.
        process: Option<std::process::Child>,
        group: OwnGroup,
        /// Readable once the process is dead, which leaves it to be collected.
        death: AsyncFd<OwnedFd>,
    },
    /// The init of its sandbox collects it.
    Confined(ProgramHandle),
}

impl Life {
    /// Ready once the process is dead. May be cancelled, and called again.
    async fn ended(&mut self) -> io::Result<()> {
        match self {
            Life::Own { death, .. } => death.readable().await.map(drop),
            Life::Confined(line) => {
                line.ended().await;
                Ok(())
            }
        }
    }

    /// Kills what is left of the group, and collects the process.
    async fn collect(&mut self) -> io::Result<ExitStatus> {
        match self {
            Life::Own { id, process, group, .. } => {
                group.signal(Signal::KILL);
                release(*id, group);
                let process = process.take();
                let mut process = process.ok_or_else(|| io::Error::other("the child has already been collected"))?;
                Ok(process.wait()?.into())
            }
            Life::Confined(line) => line.ended().await.ok_or_else(|| io::Error::other("its sandbox has ended")),
        }
    }
}

/// Prevents further signals to the child and its group: they are dead, and their number may be reused soon.
fn release(id: u32, group: &OwnGroup) {
    group.close();
    guard::forget(group.reach.target(id));
}

/// A running process and its group. Dropping it kills the group.
#[derive(Debug)]
pub struct Child {
    life: Life,
    group: Group,
    stdout: Option<pipe::Receiver>,
    stderr: Option<pipe::Receiver>,
    buffer: Box<[u8]>,
    feeder: Option<JoinHandle<()>>,
    drain_until: Option<Instant>,
    status: Option<ExitStatus>,
}

impl Child {
    pub(crate) fn adopt(
        mut process: std::process::Child,
        input: Option<Vec<u8>>,
        reach: SignalScope,
    ) -> io::Result<Child> {
        let id = process.id();
        let adopted = (|| {
            guard::watch(reach.target(id))?;
            let pid = i32::try_from(id).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
            let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
            // SAFETY: an `OwnedFd` answers the same descriptor for as long as it lives.
            let death = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }?;
            let stdout = process.stdout.take().map(OwnedFd::from).map(pipe::Receiver::from_owned_fd).transpose()?;
            let stderr = process.stderr.take().map(OwnedFd::from).map(pipe::Receiver::from_owned_fd).transpose()?;
            let stdin = process.stdin.take().map(OwnedFd::from).map(pipe::Sender::from_owned_fd).transpose()?;
            Ok((pid, death, stdout, stderr, stdin))
        })();
        let (pid, death, stdout, stderr, stdin) = match adopted {
            Ok(parts) => parts,
            Err(error) => {
                let _ = process.kill();
                guard::forget(reach.target(id));
                reap(process);
                return Err(error);
            }
        };
        let group = OwnGroup { leader: Arc::new(Mutex::new(Some(pid))), reach };
        let life = Life::Own { id, process: Some(process), group: group.clone(), death };
        Ok(Child::new(life, Group(Kind::Own(group)), stdin.zip(input), stdout, stderr))
    }

    /// A program of a sandbox. The pipes are the engine's ends.
    pub(crate) fn confined(
        program: ProgramHandle,
        input: Option<(OwnedFd, Vec<u8>)>,
        stdout: OwnedFd,
        stderr: OwnedFd,
    ) -> io::Result<Child> {
        let input = input.map(|(pipe, data)| pipe::Sender::from_owned_fd(pipe).map(|pipe| (pipe, data))).transpose()?;
        let [stdout, stderr] = [pipe::Receiver::from_owned_fd(stdout)?, pipe::Receiver::from_owned_fd(stderr)?];
        let group = Group(Kind::Confined(program.clone()));
        Ok(Child::new(Life::Confined(program), group, input, Some(stdout), Some(stderr)))
    }

    fn new(
        life: Life,
        group: Group,
        input: Option<(pipe::Sender, Vec<u8>)>,
        stdout: Option<pipe::Receiver>,
        stderr: Option<pipe::Receiver>,
    ) -> Child {
        let feeder = input.map(|(mut stdin, input)| {
            tokio::spawn(async move {
                // An error means that the child doesn't read all of its input, which is allowed.
                let _ = stdin.write_all(&input).await;
            })
        });
        let buffer = vec![0; 2 * CHUNK].into_boxed_slice();
        Child { life, group, stdout, stderr, buffer, feeder, drain_until: None, status: None }
    }

    /// The process id; none in the sandbox of a stage, which has numbers of its own.
    pub fn id(&self) -> Option<u32> {
        match &self.life {
            Life::Own { id, .. } => Some(*id),
            Life::Confined(program) => program.process,
        }
    }

    /// A handle to signal the group with while this value is borrowed elsewhere.
    pub fn group(&self) -> Group {
        self.group.clone()
    }

    /// Sends SIGTERM to the group.
    pub fn interrupt(&self) {
        self.group.interrupt();
    }

    /// Sends SIGKILL to the group.
    pub fn kill(&self) {
        self.group.kill();
    }

    /// The next piece of output, at most 64 KiB; none at the end of both streams.
    ///
    /// Neither stream starves the other. Nothing is read ahead, so a reader that is slow slows the child down. Once the
    /// child is dead, processes that still hold its pipes may write for half a second. Then the group is killed, and
    /// only what is in the pipes is still read. May be cancelled without loss.
    pub async fn next_chunk(&mut self) -> Option<(Source, Vec<u8>)> {
        loop {
            if self.stdout.is_none() && self.stderr.is_none() {
                return None;
            }
            if self.drain_until.is_some_and(|until| until <= Instant::now()) {
                return self.drain();
            }
            let (out_buffer, err_buffer) = self.buffer.split_at_mut(CHUNK);
            let (source, read) = tokio::select! {
                read = read(&mut self.stdout, out_buffer) => (Source::Stdout, read.map(|length| &out_buffer[..length])),
                read = read(&mut self.stderr, err_buffer) => (Source::Stderr, read.map(|length| &err_buffer[..length])),
                _ = self.life.ended(), if self.drain_until.is_none() => {
                    self.drain_until = Some(Instant::now() + DRAIN_GRACE);
                    continue;
                }
                () = sleep_until(self.drain_until.unwrap_or_else(Instant::now)), if self.drain_until.is_some() => {
                    continue;
                }
            };
            match (source, read) {
                (source, Ok(data)) if !data.is_empty() => return Some((source, data.to_vec())),
                // An error is handled like the end of the stream.
                (Source::Stdout, _) => self.stdout = None,
                (Source::Stderr, _) => self.stderr = None,
            }
        }
    }

    /// How it ended. Kills what is left of the group, then collects the child. May be cancelled, and called again.
    ///
    /// Reads no output: a child that fills its pipe waits for [`next_chunk`](Child::next_chunk).
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        self.life.ended().await?;
        let status = self.life.collect().await?;
        self.status = Some(status);
        Ok(status)
    }

    /// What the pipes hold now, in one piece a stream.
    fn drain(&mut self) -> Option<(Source, Vec<u8>)> {
        self.kill();
        for (source, pipe) in [(Source::Stdout, &mut self.stdout), (Source::Stderr, &mut self.stderr)] {
            let Some(pipe) = pipe.take() else { continue };
            let mut rest = Vec::new();
            while rest.len() < DRAIN_BYTES {
                // Reads the descriptor directly, because the runtime's readiness may be out of date.
                match rustix::io::read(&pipe, &mut self.buffer[..]) {
                    Ok(length) if length > 0 => rest.extend_from_slice(&self.buffer[..length]),
                    _ => break,
                }
            }
            if !rest.is_empty() {
                return Some((source, rest));
            }
        }
        None
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Some(feeder) = self.feeder.take() {
            feeder.abort();
        }
        match &mut self.life {
            Life::Own { id, process, group, .. } => {
                if let Some(process) = process.take() {
                    group.signal(Signal::KILL);
                    release(*id, group);
                    reap(process);
                }
            }
            Life::Confined(line) => line.signal(Signal::KILL),
        }
    }
}

/// Never ready for a stream that has ended.
async fn read(pipe: &mut Option<pipe::Receiver>, buffer: &mut [u8]) -> io::Result<usize> {
    match pipe {
        Some(pipe) => pipe.read(buffer).await,
        None => std::future::pending().await,
    }
}
