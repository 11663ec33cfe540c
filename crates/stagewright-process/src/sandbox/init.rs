//! The processes that make up a sandbox, from within: the maker, which there is one of, the keeper, and init.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process_group};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use stagewright_files::remove_tree;

use super::broker::Refusals;
use super::monitor::{Deaths, Monitor};
use super::wire::{InitAnswer, InitRequest, receive, send};
use super::{Confinement, Source, broker, confine, loopback, monitor, root, seccomp};

/// The body of the hidden subcommand. Standard input is the socket to the engine. Must be called while the process has
/// one thread.
pub fn run() -> ExitCode {
    match make() {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever started this reads messages, not words.
        Err(_) => ExitCode::FAILURE,
    }
}

/// Makes keepers until the engine lets go; returns in each of them when it is done.
fn make() -> io::Result<()> {
    crate::command::name_this_process();
    confine::descriptors()?;
    confine::inherited()?;
    let engine = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    rustix::stdio::dup2_stdin(crate::kernel::null()?)?;
    // How keepers ended is never asked.
    ends_are_told(false)?;
    while let Some((request, fds)) = receive(&engine)? {
        let (InitRequest::Fork, Some(socket)) = (request, fds.into_iter().next()) else { continue };
        let socket = UnixStream::from(socket);
        match fork()? {
            Fork::Child => {
                drop(engine);
                ends_are_told(true)?;
                rustix::process::setpgid(None, None)?;
                return keep(socket);
            }
            Fork::Parent(_) => {}
        }
    }
    Ok(())
}

/// Whether ended children wait to be asked how they ended.
fn ends_are_told(told: bool) -> io::Result<()> {
    let how = if told { libc::SIG_DFL } else { libc::SIG_IGN };
    // SAFETY: no function is called on the signal.
    if unsafe { libc::signal(libc::SIGCHLD, how) } == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

enum Fork {
    Child,
    Parent(Pid),
}

/// To be called while the process has one thread.
fn fork() -> io::Result<Fork> {
    // SAFETY: there is one thread, so nothing is held that the child could wait for.
    match unsafe { libc::fork() } {
        0 => Ok(Fork::Child),
        pid => Pid::from_raw(pid).filter(|_| pid > 0).map(Fork::Parent).ok_or_else(io::Error::last_os_error),
    }
}

/// Makes the namespaces, starts init in them, and cleans up after it.
fn keep(socket: UnixStream) -> io::Result<()> {
    let Some((InitRequest::Begin(confinement), _)) = receive(&socket)? else { return Ok(()) };
    if let Err(failed) = namespaces(&socket) {
        return failed.tell(&socket);
    }
    match fork() {
        // Back to where the keeper's caller is, with nothing of the keeper's left to do.
        Ok(Fork::Child) => init(&socket, &confinement),
        Ok(Fork::Parent(init)) => {
            // Init alone speaks from here on, and when it ends the engine sees the end.
            drop(socket);
            while let Err(Errno::INTR) = rustix::process::waitpid(Some(init), WaitOptions::empty()) {}
            // There is no one left to report to; what stays is below the state folder and named for this attempt.
            let _ = remove_tree(&confinement.scratch);
            Ok(())
        }
        Err(error) => Failed::at("start a process", error).tell(&socket),
    }
}

/// A step of setting up that failed.
struct Failed {
    step: String,
    error: io::Error,
}

impl Failed {
    fn at(step: impl Into<String>, error: impl Into<io::Error>) -> Failed {
        Failed { step: step.into(), error: error.into() }
    }

    fn tell(self, socket: &UnixStream) -> io::Result<()> {
        let errno = self.error.raw_os_error();
        let told = send(socket, &InitAnswer::Impossible { step: self.step, error: self.error.to_string(), errno }, &[]);
        told.and(Err(self.error))
    }
}

fn namespaces(socket: &UnixStream) -> Result<(), Failed> {
    let unshare = |flags, what: &str| {
        // SAFETY: the file descriptor table isn't shared: there is one thread.
        unsafe { unshare_unsafe(flags) }.map_err(|error| Failed::at(format!("make a {what}"), error))
    };
    unshare(UnshareFlags::NEWUSER, "user namespace")?;
    let mapped = send(socket, &InitAnswer::Unmapped { keeper: std::process::id() }, &[]).and_then(|()| receive(socket));
    match mapped {
        Ok(Some((InitRequest::Mapped, _))) => {}
        Ok(_) => return Err(Failed::at("set users and groups", io::ErrorKind::ConnectionAborted)),
        Err(error) => return Err(Failed::at("set users and groups", error)),
    }
    let others = [
        (UnshareFlags::NEWNET, "network namespace"),
        (UnshareFlags::NEWIPC, "namespace for shared memory"),
        (UnshareFlags::NEWPID, "process namespace"),
    ];
    // One after the other they take longer, and say which of them this machine doesn't offer.
    unshare(others.iter().map(|(flag, _)| *flag).collect(), "namespace")
        .or_else(|_| others.into_iter().try_for_each(|(flag, what)| unshare(flag, what)))
}

/// Process 1 of the sandbox.
fn init(socket: &UnixStream, confinement: &Confinement) -> io::Result<()> {
    let ready = (|| {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
            .map_err(|error| Failed::at("be ended with the keeper", error))?;
        rustix::process::setsid().map_err(|error| Failed::at("leave the terminal", error))?;
        confine::keys().map_err(|error| Failed::at("leave the keys of the session", error))?;
        loopback::up().map_err(|error| Failed::at("raise the loopback", error))?;
        let listeners = confinement.listeners.iter().map(|&port| {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
            listener.map(OwnedFd::from).map_err(|error| Failed::at(format!("listen at port {port}"), error))
        });
        let listeners = listeners.collect::<Result<Vec<_>, _>>()?;
        // SAFETY: as above.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.map_err(|error| Failed::at("make a mount namespace", error))?;
        let hiding = root::enter(confinement).map_err(|error| Failed::at(error.step, error.source))?;
        // Nested user namespaces would bring back powers over mounts and networks, and much of the kernel with them.
        // A kernel without the file has no such namespaces.
        let _ = fs::write("/proc/sys/user/max_user_namespaces", "0");
        Monitor::bound_numbers(&confinement.limits);
        root::protect(&hiding).map_err(|error| Failed::at(error.step, error.source))?;
        let deaths = Deaths::watch().map_err(|error| Failed::at("watch for ends", error))?;
        confine::resources(&confinement.limits).map_err(|error| Failed::at("set the limits", error))?;
        confine::groups().map_err(|error| Failed::at("leave the user's groups", error))?;
        confine::powers(broker::POWERS).map_err(|error| Failed::at("drop capabilities", error))?;
        confine::files(confinement).map_err(|error| Failed::at("restrict files", io::Error::other(error)))?;
        // It keeps what this thread gives up next, and is not under the filter itself.
        let broker = broker::start(sockets(confinement)).map_err(|error| Failed::at("connect for programs", error))?;
        confine::last_powers().map_err(|error| Failed::at("drop capabilities", error))?;
        let listener = seccomp::install().map_err(|error| Failed::at("filter system calls", error))?;
        let refusals = broker.serve(listener).map_err(|error| Failed::at("start a thread", error))?;
        // Programs inside can't look into this process then, nor trace it.
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
            .map_err(|error| Failed::at("hide from programs", error))?;
        Ok((listeners, deaths, refusals))
    })();
    let (listeners, deaths, refusals) = match ready {
        Ok(ready) => ready,
        Err(failed) => return Failed::tell(failed, socket),
    };
    let fds = listeners.iter().map(|listener| listener.as_fd()).collect::<Vec<BorrowedFd<'_>>>();
    send(socket, &InitAnswer::Ready, &fds)?;
    drop(listeners);
    let monitor = Monitor::new(confinement.limits);
    Serving { socket, confinement, deaths, refusals, running: HashMap::new(), monitor }.serve()
}

fn sockets(confinement: &Confinement) -> Vec<broker::Identity> {
    let sockets = confinement.places.iter().filter_map(|place| match &place.source {
        Source::Socket(socket) => Some(socket.identity()),
        _ => None,
    });
    sockets.collect()
}

/// Starts programs and tells of their ends, until the engine lets go.
struct Serving<'a> {
    socket: &'a UnixStream,
    confinement: &'a Confinement,
    deaths: Deaths,
    refusals: Refusals,
    /// By process number inside.
    running: HashMap<i32, (u64, Child)>,
    monitor: Monitor,
}

impl Serving<'_> {
    fn serve(mut self) -> io::Result<()> {
        loop {
            let mut fds = [
                PollFd::new(self.socket, PollFlags::IN),
                PollFd::new(&self.deaths, PollFlags::IN),
                PollFd::new(&self.refusals, PollFlags::IN),
            ];
            let wait = self.monitor.wait();
            match poll(&mut fds, wait.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let [asked, died, refused] = fds.map(|fd| !fd.revents().is_empty());
            if died {
                self.deaths.clear();
                self.reap()?;
            }
            if refused {
                send(self.socket, &InitAnswer::Refused { socket: self.refusals.next()? }, &[])?;
            }
            if let Some(exceeded) = self.monitor.look() {
                // To end is to kill everything inside, at once.
                return send(self.socket, &InitAnswer::Exceeded(exceeded), &[]);
            }
            if asked {
                let Some((request, fds)) = receive::<InitRequest>(self.socket)? else { return Ok(()) };
                self.answer(request, fds)?;
            }
        }
    }

    fn answer(&mut self, request: InitRequest, fds: Vec<OwnedFd>) -> io::Result<()> {
        match request {
            InitRequest::Spawn { id, program, args, env, current_dir } => {
                let spawned = self.spawn(program, &args, env, current_dir, fds);
                let answer = match spawned {
                    Ok(child) => {
                        let number = i32::try_from(child.id()).map_err(io::Error::other)?;
                        self.running.insert(number, (id, child));
                        InitAnswer::Started { id }
                    }
                    Err(error) => InitAnswer::NotStarted { id, errno: error.raw_os_error(), error: error.to_string() },
                };
                send(self.socket, &answer, &[])
            }
            InitRequest::Signal { id, signal } => {
                let leader = self.running.iter().find(|(_, (known, _))| *known == id).map(|(&number, _)| number);
                if let (Some(leader), Some(signal)) = (leader.and_then(Pid::from_raw), Signal::from_named_raw(signal)) {
                    // All of them gone is what was asked for.
                    let _ = kill_process_group(leader, signal);
                }
                Ok(())
            }
            InitRequest::Fork | InitRequest::Begin(_) | InitRequest::Mapped => Ok(()),
        }
    }

    fn spawn(
        &self,
        program: PathBuf,
        args: &[String],
        env: Vec<(String, String)>,
        current_dir: PathBuf,
        fds: Vec<OwnedFd>,
    ) -> io::Result<Child> {
        let [stdin, stdout, stderr] =
            <[OwnedFd; 3]>::try_from(fds).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let mut command = Command::new(program);
        command
            .args(args)
            .env_clear()
            .envs(env)
            .current_dir(current_dir)
            .stdin(Stdio::from(stdin))
            .stdout(Stdio::from(stdout))
            .stderr(Stdio::from(stderr))
            .process_group(0);
        let memory = self.confinement.limits.memory;
        // SAFETY: system calls, and no memory of which somebody else could hold a lock.
        unsafe {
            command.pre_exec(move || {
                monitor::unblock()?;
                memory.map_or(Ok(()), confine::address_space)
            });
        }
        command.spawn()
    }

    /// Collects all that ended: programs that were asked for, and what they left behind.
    fn reap(&mut self) -> io::Result<()> {
        loop {
            let (pid, status) = match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some(ended)) => ended,
                Ok(None) | Err(Errno::CHILD) => return Ok(()),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let Some((id, _)) = self.running.remove(&pid.as_raw_nonzero().get()) else { continue };
            // A group ends with its leader. Until now the leader kept its number.
            let _ = kill_process_group(pid, Signal::KILL);
            let status = ExitStatus::from_raw(status.as_raw());
            send(self.socket, &InitAnswer::Ended { id, code: status.code(), signal: status.signal() }, &[])?;
        }
    }
}
