//! The processes that set up and run a sandbox: the maker, which all sandboxes share, the keeper, and init.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Gid, Pid, PidfdFlags, Signal, Uid, WaitOptions, getpid, kill_process_group, pidfd_open};
use rustix::thread::{CapabilitySet, UnshareFlags, unshare_unsafe};
use stagewright_files::remove_tree;

use super::monitor::{Deaths, Monitor};
use super::observe::CallObserver;
use super::refusal::Refusals;
use super::root::{self, image};
use super::wire::{InitAnswer, InitRequest, receive, send};
use super::{Confinement, Source, broker, confine, loopback, monitor, seccomp};

/// The most observations in one message. Each has a path of at most 4 KB, and six times that as JSON.
const MAX_OBSERVED: usize = 500;
/// The port of name servers (RFC 1035).
const NAME_SERVER: u16 = 53;
/// How many connections the kernel queues for each listener; it also applies its own maximum, `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// The body of the hidden subcommand. Standard input is the socket to the engine. Must be called while the process has
/// one thread.
pub fn run() -> ExitCode {
    match make() {
        Ok(()) => ExitCode::SUCCESS,
        // The engine reads errors from the socket; standard error is discarded.
        Err(_) => ExitCode::FAILURE,
    }
}

/// Forks keepers until the engine closes the socket. Also returns in each keeper, once its sandbox has ended.
fn make() -> io::Result<()> {
    crate::command::name_this_process();
    confine::close_on_exec()?;
    confine::fix_umask();
    let engine = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    rustix::stdio::dup2_stdin(crate::kernel::null()?)?;
    // The exit statuses of keepers are not needed: the kernel reaps keepers itself.
    keep_exit_statuses(false)?;
    while let Some((request, fds)) = receive(&engine)? {
        let (InitRequest::Fork, Some(socket)) = (request, fds.into_iter().next()) else { continue };
        let socket = UnixStream::from(socket);
        match fork()? {
            Fork::Child => {
                drop(engine);
                keep_exit_statuses(true)?;
                rustix::process::setpgid(None, None)?;
                return keep(socket);
            }
            Fork::Parent(_) => {}
        }
    }
    Ok(())
}

/// Sets whether ended children remain as zombies until they are waited for.
fn keep_exit_statuses(keep: bool) -> io::Result<()> {
    let how = if keep { libc::SIG_DFL } else { libc::SIG_IGN };
    // SAFETY: no handler function is installed.
    if unsafe { libc::signal(libc::SIGCHLD, how) } == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

enum Fork {
    Child,
    Parent(Pid),
}

/// Must be called while the process has one thread.
fn fork() -> io::Result<Fork> {
    // SAFETY: there is only one thread, so no lock is held that the child could wait for.
    match unsafe { libc::fork() } {
        0 => Ok(Fork::Child),
        pid => Pid::from_raw(pid).filter(|_| pid > 0).map(Fork::Parent).ok_or_else(io::Error::last_os_error),
    }
}

/// Makes the namespaces, starts init in them, and cleans up after it.
fn keep(socket: UnixStream) -> io::Result<()> {
    let Some((InitRequest::Begin(confinement), _)) = receive(&socket)? else { return Ok(()) };
    if let Err(failed) = make_namespaces(&socket, &confinement) {
        return failed.report(&socket);
    }
    match fork() {
        Ok(Fork::Child) => init(&socket, &confinement),
        Ok(Fork::Parent(init)) => {
            // Init alone holds the socket from here on, so that the engine sees the end of the stream when init ends. A
            // copy in the keeper would delay that until the scratch folder is removed, and would hide it altogether if
            // the keeper hung.
            drop(socket);
            while let Err(Errno::INTR) = rustix::process::waitpid(Some(init), WaitOptions::empty()) {}
            // An error can't be reported any more. What remains is in this attempt's folder below the state folder.
            let _ = remove_tree(&confinement.scratch);
            Ok(())
        }
        Err(error) => Failed::at("start a process", error).report(&socket),
    }
}

/// A step of the setup that failed.
struct Failed {
    step: String,
    error: io::Error,
}

impl Failed {
    fn at(step: impl Into<String>, error: impl Into<io::Error>) -> Failed {
        Failed { step: step.into(), error: error.into() }
    }

    fn report(self, socket: &UnixStream) -> io::Result<()> {
        let errno = self.error.raw_os_error();
        let sent = send(socket, &InitAnswer::Impossible { step: self.step, error: self.error.to_string(), errno }, &[]);
        sent.and(Err(self.error))
    }
}

fn unshare(flags: UnshareFlags, what: &str) -> Result<(), Failed> {
    // SAFETY: the file descriptor table isn't shared, because there is only one thread.
    unsafe { unshare_unsafe(flags) }.map_err(|error| Failed::at(format!("make a {what}"), error))
}

fn make_namespaces(socket: &UnixStream, confinement: &Confinement) -> Result<(), Failed> {
    if confinement.image.is_none() || !image::is_privileged() {
        make_users(socket)?;
    }
    let others = [
        (UnshareFlags::NEWNET, "network namespace"),
        (UnshareFlags::NEWIPC, "namespace for shared memory"),
        (UnshareFlags::NEWPID, "process namespace"),
    ];
    let others = &others[usize::from(confinement.image.is_some())..];
    // All at once is faster. If it fails, they are made one by one, to find out which one this machine denies.
    unshare(others.iter().map(|(flag, _)| *flag).collect(), "namespace")
        .or_else(|_| others.iter().try_for_each(|(flag, what)| unshare(*flag, what)))
}

/// Makes a user namespace, whose users and groups the engine sets.
fn make_users(socket: &UnixStream) -> Result<(), Failed> {
    unshare(UnshareFlags::NEWUSER, "user namespace")?;
    let mapped = send(socket, &InitAnswer::Unmapped { keeper: std::process::id() }, &[]).and_then(|()| receive(socket));
    match mapped {
        Ok(Some((InitRequest::Mapped, _))) => Ok(()),
        Ok(_) => Err(Failed::at("set users and groups", io::ErrorKind::ConnectionAborted)),
        Err(error) => Err(Failed::at("set users and groups", error)),
    }
}

/// Process 1 of the sandbox.
fn init(socket: &UnixStream, confinement: &Confinement) -> io::Result<()> {
    let ready = || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
            .map_err(|error| Failed::at("be ended with the keeper", error))?;
        rustix::process::setsid().map_err(|error| Failed::at("leave the terminal", error))?;
        confine::leave_session_keyring().map_err(|error| Failed::at("leave the keys of the session", error))?;
        let listeners = listen(confinement)?;
        unshare(UnshareFlags::NEWNS, "mount namespace")?;
        let hiding = root::enter(confinement).map_err(|error| Failed::at(error.step, error.source))?;
        if confinement.image.is_none() {
            // A program with a user namespace of its own would have all capabilities in it: it could mount, configure
            // networks, and reach much of the kernel's attack surface. The limit is set before `/proc/sys` becomes
            // read-only below. It is that of this user namespace, which init has only without an image.
            fs::write("/proc/sys/user/max_user_namespaces", "0")
                .map_err(|error| Failed::at("forbid nested user namespaces", error))?;
            Monitor::bound_numbers(&confinement.limits);
        }
        root::protect(confinement, &hiding).map_err(|error| Failed::at(error.step, error.source))?;
        let deaths = Deaths::watch().map_err(|error| Failed::at("watch for ends", error))?;
        let watch = match &confinement.image {
            None => Some(restrict_programs(confinement)?),
            Some(_) => {
                confine::drop_groups().map_err(|error| Failed::at("leave the user's groups", error))?;
                confine::drop_capabilities(CapabilitySet::empty())
                    .map_err(|error| Failed::at("drop capabilities", error))?;
                None
            }
        };
        // Prevents programs of the same user from tracing init or reading its memory and descriptors.
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
            .map_err(|error| Failed::at("hide from programs", error))?;
        Ok((listeners, deaths, watch))
    };
    let (listeners, deaths, watch) = match ready() {
        Ok(ready) => ready,
        Err(failed) => return Failed::report(failed, socket),
    };
    let fds = listeners.iter().map(|listener| listener.as_fd()).collect::<Vec<BorrowedFd<'_>>>();
    send(socket, &InitAnswer::Ready, &fds)?;
    drop(listeners);
    let monitor = Monitor::new(confinement.limits);
    let (refusals, observer) = watch.map_or((None, None), |(refusals, observer)| (Some(refusals), observer));
    Serving { socket, confinement, deaths, refusals, observer, running: HashMap::new(), monitor }.serve()
}

/// Brings up the network of the sandbox, with the sockets that the engine accepts from.
fn listen(confinement: &Confinement) -> Result<Vec<OwnedFd>, Failed> {
    if confinement.image.is_some() {
        return Ok(Vec::new());
    }
    loopback::up().map_err(|error| Failed::at("raise the loopback", error))?;
    let others = confinement.listeners.iter().map(|address| *address.ip()).filter(|address| !address.is_loopback());
    for (number, address) in others.collect::<BTreeSet<_>>().into_iter().enumerate() {
        loopback::add(number, address).map_err(|error| Failed::at(format!("add the address {address}"), error))?;
    }
    let listeners = confinement.listeners.iter().map(|address| {
        let listener = TcpListener::bind(address).and_then(|listener| {
            rustix::net::listen(&listener, BACKLOG)?;
            Ok(listener)
        });
        listener.map(OwnedFd::from).map_err(|error| Failed::at(format!("listen at {address}"), error))
    });
    let mut listeners = listeners.collect::<Result<Vec<_>, _>>()?;
    if confinement.name_server {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, NAME_SERVER));
        listeners.push(socket.map(OwnedFd::from).map_err(|error| Failed::at("listen for lookups of names", error))?);
    }
    Ok(listeners)
}

/// What init hears of the programs of a sandbox.
type Watched = (Refusals, Option<Arc<CallObserver>>);

/// Restricts the files, the system calls and the resources of all programs.
fn restrict_programs(confinement: &Confinement) -> Result<Watched, Failed> {
    confine::limit_resources(&confinement.limits).map_err(|error| Failed::at("set the limits", error))?;
    confine::drop_groups().map_err(|error| Failed::at("leave the user's groups", error))?;
    confine::drop_capabilities(broker::CAPABILITIES).map_err(|error| Failed::at("drop capabilities", error))?;
    confine::restrict_files(confinement).map_err(|error| Failed::at("restrict files", io::Error::other(error)))?;
    // The order matters. The broker's thread is started first: it keeps the capabilities that this thread drops
    // next, and isn't subject to the filter, which applies to the calling thread only. If it were, its own
    // `connect` would be handed to itself, and wait forever.
    let observer = confinement.observe.clone().map(|observe| Arc::new(CallObserver::new(observe)));
    let broker = broker::start(granted_sockets(confinement), observer.clone())
        .map_err(|error| Failed::at("connect for programs", error))?;
    confine::drop_broker_capabilities().map_err(|error| Failed::at("drop capabilities", error))?;
    let listener = seccomp::install(observer.is_some()).map_err(|error| Failed::at("filter system calls", error))?;
    let refusals = broker.serve(listener).map_err(|error| Failed::at("start a thread", error))?;
    Ok((refusals, observer))
}

fn granted_sockets(confinement: &Confinement) -> Vec<broker::Identity> {
    let sockets = confinement.places.iter().filter_map(|place| match &place.source {
        Source::Socket(socket) => Some(socket.identity()),
        _ => None,
    });
    sockets.collect()
}

/// Starts programs and reports their ends, until the engine closes the socket.
struct Serving<'a> {
    socket: &'a UnixStream,
    confinement: &'a Confinement,
    deaths: Deaths,
    /// None with an image, whose programs are refused nothing.
    refusals: Option<Refusals>,
    observer: Option<Arc<CallObserver>>,
    /// By process number inside.
    running: HashMap<i32, (u64, Child)>,
    monitor: Monitor,
}

impl Serving<'_> {
    fn serve(mut self) -> io::Result<()> {
        loop {
            let refusals = self.refusals.as_ref().map_or(self.deaths.as_fd(), |refusals| refusals.as_fd());
            let mut fds = [
                PollFd::new(self.socket, PollFlags::IN),
                PollFd::new(&self.deaths, PollFlags::IN),
                PollFd::from_borrowed_fd(refusals, PollFlags::IN),
            ];
            let wait = self.monitor.wait();
            match poll(&mut fds, wait.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let [asked, died, refused] = fds.map(|fd| !fd.revents().is_empty());
            // First, so that the engine knows what a program was refused before it knows that the program has ended.
            if let Some(refusals) = self.refusals.as_mut().filter(|_| refused) {
                send(self.socket, &InitAnswer::Refused(refusals.next()?), &[])?;
                continue;
            }
            if died {
                self.deaths.clear();
                self.reap()?;
            }
            if let Some(exceeded) = self.monitor.check() {
                // When init returns from here and exits, the kernel kills everything inside.
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
                let child = match spawned {
                    Ok(child) => child,
                    Err(error) => {
                        let (errno, error) = (error.raw_os_error(), error.to_string());
                        return send(self.socket, &InitAnswer::NotStarted { id, errno, error }, &[]);
                    }
                };
                let known = self.confinement.image.as_ref().map(|_| [Pid::from_child(&child), getpid()]);
                let known = known.iter().flatten().map(|pid| pidfd_open(*pid, PidfdFlags::empty()));
                let known = known.collect::<Result<Vec<_>, _>>()?;
                let number = i32::try_from(child.id()).map_err(io::Error::other)?;
                self.running.insert(number, (id, child));
                let known = known.iter().map(|fd| fd.as_fd()).collect::<Vec<_>>();
                send(self.socket, &InitAnswer::Started { id }, &known)
            }
            InitRequest::Signal { id, signal } => {
                let leader = self.running.iter().find(|(_, (known, _))| *known == id).map(|(&number, _)| number);
                if let (Some(leader), Some(signal)) = (leader.and_then(Pid::from_raw), Signal::from_named_raw(signal)) {
                    // An error means that the group has ended already.
                    let _ = kill_process_group(leader, signal);
                }
                Ok(())
            }
            InitRequest::Fork | InitRequest::Begin(_) | InitRequest::Mapped => Ok(()),
        }
    }

    /// Reports what was observed so far, before the end of the program that may have done it.
    fn send_observations(&self) -> io::Result<()> {
        let observed = self.observer.as_ref().map(|observer| observer.take()).unwrap_or_default();
        observed.chunks(MAX_OBSERVED).try_for_each(|part| send(self.socket, &InitAnswer::Observed(part.to_vec()), &[]))
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
        if let Some(user) = self.confinement.image.as_ref().and_then(|image| image.user.as_ref()) {
            // A program may open `/dev/stdout`, which only the owner of the pipe can. In a user namespace it belongs to the
            // user already.
            for pipe in [&stdout, &stderr] {
                let _ = rustix::fs::fchown(pipe, Some(Uid::from_raw(user.uid)), None);
            }
        }
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
        let user = self.confinement.image.as_ref().and_then(|image| image.user.clone());
        let groups: Vec<Gid> = user.iter().flat_map(|user| &user.groups).map(|group| Gid::from_raw(*group)).collect();
        // SAFETY: the closure makes system calls only, and neither allocates nor locks.
        unsafe {
            command.pre_exec(move || {
                monitor::unblock()?;
                memory.map_or(Ok(()), confine::limit_address_space)?;
                user.as_ref().map_or(Ok(()), |user| user.become_it(&groups))
            });
        }
        command.spawn()
    }

    /// Collects all ended processes: requested programs, and orphans that init inherited from them.
    fn reap(&mut self) -> io::Result<()> {
        loop {
            let (pid, status) = match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some(ended)) => ended,
                Ok(None) | Err(Errno::CHILD) => return Ok(()),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let Some((id, _)) = self.running.remove(&pid.as_raw_nonzero().get()) else { continue };
            // What is left of the group is killed with its leader. The kernel doesn't reuse the leader's number as long
            // as the group has members.
            let _ = kill_process_group(pid, Signal::KILL);
            let status = ExitStatus::from_raw(status.as_raw());
            self.send_observations()?;
            send(self.socket, &InitAnswer::Ended { id, code: status.code(), signal: status.signal() }, &[])?;
        }
    }
}
