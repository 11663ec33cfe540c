//! Connects the programs of a sandbox to the Unix sockets that they may reach, and to no others.
//!
//! ```text
//! program ── connect ──> seccomp ──> broker ── which inode? whose? ── connect, on the program's descriptor ──> socket
//!         ── listen ───>         ──> broker ── keeps the inode that the socket is bound to
//! ```
//!
//! Connecting to a Unix socket requires its path and write permission on it. Neither a read-only mount nor Landlock
//! prevents it, and network namespaces don't apply to paths. Without this module, programs could connect to every
//! service with a socket in a folder that the stage may read. The alternatives were rejected:
//!
//! - Empty mounts over the sockets don't cover a socket that a service creates later.
//! - An overlay without an upper folder has other inodes than the sockets. For readable folders it works, but it hides
//!   later changes and nested mounts; for writable folders it would leave marks in the user's files.
//! - Landlock's access right for this is missing from the kernels of current distributions.
//!
//! So threads of init make the connections. A path is opened once, and the opened file is both checked and connected
//! to, so replacing the path in between has no effect. Allowed are the sockets of [`super::Source::Socket`], and those
//! that programs of this sandbox listen on: when a program calls `listen`, the kernel reports the file that its socket
//! is bound to (`SIOCUNIXFILE`). That file is held open from then on, so that its inode number isn't reused.
//!
//! Every `connect` is made here, with the address as it was read: if the program's own call continued after the check,
//! another thread could replace the address or the descriptor in between.
//!
//! A server sees the caller's user and group, and the process id of init.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io::{self, PipeReader, PipeWriter};
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::{fs, thread};

use libc::{seccomp_notif, sockaddr_storage};
use rustix::fs::FileType;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{PidfdFlags, PidfdGetfdFlags};
use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};

use super::call::{BrokeredCall, Reply, last_error, spans};
use super::observe::CallObserver;
use super::refusal::{self, Refusal, Refusals, internet_address};

/// The capabilities that the broker keeps and init drops: the first to access descriptors and memory of programs that
/// run as another user, the second to query the file of a socket. Both apply to the sandbox's namespaces only.
pub(super) const CAPABILITIES: CapabilitySet = CapabilitySet::SYS_PTRACE.union(CapabilitySet::NET_ADMIN);

/// The most calls that are carried out at a time. A call that blocks, such as a connection to a server that doesn't
/// accept it, occupies a thread.
const THREADS: usize = 64;
/// The most listening sockets with a path that are remembered for one sandbox.
const MAX_OWN_SOCKETS: usize = 512;
/// The most refused connections that are reported.
const MAX_REFUSALS: usize = 100;
/// Returns the file that a Unix socket is bound to, as in linux/un.h.
const SIOCUNIXFILE: libc::Ioctl = 0x89E0;

/// Identifies a file independently of its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// The identity of an open file; none if it isn't a socket.
    pub(super) fn from_socket(file: BorrowedFd<'_>) -> Result<Option<Identity>, Errno> {
        let stat = rustix::fs::fstat(file)?;
        let socket = FileType::from_raw_mode(stat.st_mode) == FileType::Socket;
        Ok(socket.then_some(Identity { device: stat.st_dev, inode: stat.st_ino }))
    }
}

/// A broker that doesn't have the filter's descriptor yet.
pub(super) struct Waiting(mpsc::Sender<OwnedFd>, PipeReader);

/// Starts the broker's first thread. Must be called before the filter is installed, which would otherwise apply to the
/// broker too. The mounts of the `granted` sockets keep their inodes in use for as long as the sandbox exists.
/// `observer`: hears of the calls that name files, if the filter reports them.
pub(super) fn start(granted: Vec<Identity>, observer: Option<Arc<CallObserver>>) -> io::Result<Waiting> {
    check_permissions()?;
    let (sender, listener) = mpsc::channel();
    let (refused, report) = io::pipe()?;
    let first = move || {
        let Ok(listener) = listener.recv() else { return };
        let [idle, threads] = [1, 1].map(AtomicUsize::new);
        let broker = Broker {
            listener,
            granted,
            own: Mutex::default(),
            report,
            refused: Mutex::default(),
            observer,
            idle,
            threads,
        };
        Arc::new(broker).work();
    };
    thread::Builder::new().name("broker".to_owned()).stack_size(STACK).spawn(first)?;
    Ok(Waiting(sender, refused))
}

/// The stack of each thread in bytes.
const STACK: usize = 256 * 1024;

/// Tries the system calls that every connection needs on this process. The seccomp filter of a container may deny them,
/// and the connections of programs would then fail without an explanation.
fn check_permissions() -> Result<(), Errno> {
    let this = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())?;
    rustix::process::pidfd_getfd(this, 0, PidfdGetfdFlags::empty())?;
    let (from, mut to) = ([1_u8], [0_u8]);
    let (here, there) = spans(to.as_mut_ptr(), from.as_ptr().expose_provenance() as u64, 1);
    let process = rustix::process::getpid().as_raw_nonzero().get();
    // SAFETY: both are arrays of this length.
    if unsafe { libc::process_vm_readv(process, &raw const here, 1, &raw const there, 1, 0) } == 1 {
        return Ok(());
    }
    Err(last_error())
}

impl Waiting {
    /// Starts answering calls. `listener` is the filter's descriptor. Returns the source of refusals.
    pub(super) fn serve(self, listener: OwnedFd) -> io::Result<Refusals> {
        self.0.send(listener).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(Refusals::new(self.1))
    }
}

struct Broker {
    listener: OwnedFd,
    granted: Vec<Identity>,
    /// The files of sockets that programs of the sandbox listen on. Open, so that their inodes aren't reused.
    own: Mutex<HashMap<Identity, OwnedFd>>,
    report: PipeWriter,
    /// The refusals that were reported already.
    refused: Mutex<HashSet<Vec<u8>>>,
    observer: Option<Arc<CallObserver>>,
    /// The number of threads that wait for a call.
    idle: AtomicUsize,
    threads: AtomicUsize,
}

impl Broker {
    /// The body of each thread.
    fn work(self: Arc<Self>) {
        // This thread runs in init. If it panicked alone, the program whose call it holds would wait forever: the
        // kernel fails pending calls only when the listener is closed, and the other threads keep that open. So a panic
        // ends init, and with it the whole sandbox.
        let _exit = ExitOnPanic;
        while let Ok(call) = self.next() {
            // A thread must always be waiting for the next call. Without one, a program that connects to a server of
            // its own sandbox could deadlock: its `connect` may block this thread until the server accepts, and the
            // server may need a call of its own answered before it does.
            if self.idle.fetch_sub(1, Ordering::Relaxed) == 1 {
                self.start_thread();
            }
            self.answer(&call);
            self.idle.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn start_thread(self: &Arc<Self>) {
        if self.threads.load(Ordering::Relaxed) < THREADS {
            let broker = Arc::clone(self);
            let thread = thread::Builder::new().name("broker".to_owned()).stack_size(STACK);
            // If no thread can be started, calls wait for each other.
            if thread.spawn(move || broker.work()).is_ok() {
                self.threads.fetch_add(1, Ordering::Relaxed);
                self.idle.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn next(&self) -> Result<BrokeredCall<'_>, Errno> {
        loop {
            // SAFETY: all zeros is a valid value, and the one that the kernel insists on.
            let mut notice: seccomp_notif = unsafe { std::mem::zeroed() };
            // SAFETY: this request takes such a structure, which lives for the call.
            let heard =
                unsafe { libc::ioctl(self.listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut notice) };
            match heard {
                0 => return Ok(BrokeredCall::new(self.listener.as_fd(), notice)),
                _ => match last_error() {
                    // Interrupted by a signal, or the program has ended since.
                    Errno::INTR | Errno::NOENT => {}
                    error => return Err(error),
                },
            }
        }
    }

    fn answer(&self, call: &BrokeredCall<'_>) {
        let reply = match call.number() {
            libc::SYS_connect => self.connect(call),
            libc::SYS_listen => self.listen(call),
            libc::SYS_socketpair => socket_pair(call),
            _ => match &self.observer {
                Some(observer) => {
                    observer.observe(call);
                    Ok(Reply::Continue)
                }
                None => Err(Errno::NOSYS),
            },
        };
        call.reply(&reply);
    }

    fn connect(&self, call: &BrokeredCall<'_>) -> Result<Reply, Errno> {
        let socket = call.descriptor()?;
        let [_, address, length, ..] = call.arguments();
        let address = call.address(address, length)?;
        let Some(path) = path_of(&address) else {
            // Internet addresses and abstract Unix sockets are confined by the network namespace.
            call.is_waiting()?;
            let connected = connect(&socket, &address);
            if connected == Err(Errno::NETUNREACH) {
                self.report_unreachable(&socket, &address);
            }
            return connected.map(|()| Reply::Done);
        };
        let file = call.open(path)?;
        let identity = Identity::from_socket(file.as_fd())?.ok_or(Errno::CONNREFUSED)?;
        let own = || self.own.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&identity);
        if !self.granted.contains(&identity) && !own() {
            self.refuse(&file);
            return Err(Errno::ACCESS);
        }
        call.is_waiting()?;
        call.as_caller(|| connect(&socket, &address_of(&file)))?;
        Ok(Reply::Done)
    }

    /// Lets the sandbox's programs connect to the socket's path. If this fails, only their connections are refused.
    fn listen(&self, call: &BrokeredCall<'_>) -> Result<Reply, Errno> {
        let remember = || {
            let socket = call.descriptor()?;
            if rustix::net::sockopt::socket_domain(&socket)? != AddressFamily::UNIX {
                return Ok(());
            }
            // SAFETY: this request takes no pointer.
            let file = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCUNIXFILE, 0) };
            if file < 0 {
                return Err(last_error());
            }
            // SAFETY: the descriptor is new and owned by nothing else.
            let file = unsafe { OwnedFd::from_raw_fd(file) };
            let Some(identity) = Identity::from_socket(file.as_fd())? else { return Ok(()) };
            let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
            if own.len() >= MAX_OWN_SOCKETS {
                own.retain(|_, file| rustix::fs::fstat(&*file).is_ok_and(|stat| stat.st_nlink > 0));
            }
            if own.len() < MAX_OWN_SOCKETS {
                own.insert(identity, file);
            }
            Ok::<_, Errno>(())
        };
        let _ = remember();
        Ok(Reply::Continue)
    }

    fn refuse(&self, file: &OwnedFd) {
        let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).map(OsString::from);
        if let Ok(path) = path {
            self.report(&Refusal::Socket(path.into()));
        }
    }

    /// Datagrams aren't reported: a resolver probes with them which of its addresses it could use.
    fn report_unreachable(&self, socket: &OwnedFd, address: &[u8]) {
        let is_stream = rustix::net::sockopt::socket_type(socket) == Ok(SocketType::STREAM);
        if let Some(address) = internet_address(address).filter(|_| is_stream) {
            self.report(&Refusal::Address(address));
        }
    }

    fn report(&self, refusal: &Refusal) {
        let Ok(message) = serde_json::to_vec(refusal) else { return };
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.len() >= MAX_REFUSALS || !refused.insert(message.clone()) {
            return;
        }
        refusal::send(&self.report, &message);
    }
}

/// Ends the process when its thread panics.
struct ExitOnPanic;

impl Drop for ExitOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::exit(1);
        }
    }
}

/// Makes a pair of `SOCK_SEQPACKET` sockets instead of datagram sockets: it keeps message boundaries too, and its
/// messages can't carry an address.
fn socket_pair(call: &BrokeredCall<'_>) -> Result<Reply, Errno> {
    let [_, kind, _, numbers, ..] = call.arguments();
    #[expect(clippy::cast_possible_truncation, reason = "flags are an int")]
    let kind = kind as i32;
    let mut flags = SocketFlags::CLOEXEC;
    if kind & libc::SOCK_NONBLOCK != 0 {
        flags |= SocketFlags::NONBLOCK;
    }
    let close = if kind & libc::SOCK_CLOEXEC == 0 { 0 } else { libc::O_CLOEXEC.cast_unsigned() };
    let (one, other) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    let mut added = [call.add_descriptor(&one, close)?, call.add_descriptor(&other, close)?];
    call.is_waiting()?;
    let length = size_of_val(&added);
    let (here, there) = spans(added.as_mut_ptr().cast(), numbers, length);
    // SAFETY: what is read is an array of this length; the kernel checks the program's address.
    let written = unsafe { libc::process_vm_writev(call.caller(), &raw const here, 1, &raw const there, 1, 0) };
    if usize::try_from(written) == Ok(length) { Ok(Reply::Done) } else { Err(Errno::FAULT) }
}

/// The path in the address of a Unix socket; none for other addresses and for abstract names.
fn path_of(address: &[u8]) -> Option<&OsStr> {
    let (family, path) = address.split_first_chunk()?;
    let unix = i32::from(u16::from_ne_bytes(*family)) == libc::AF_UNIX;
    let path = path.split(|&byte| byte == 0).next().filter(|path| unix && !path.is_empty())?;
    Some(OsStr::from_bytes(path))
}

/// The address of an open socket file, by its descriptor in `/proc`.
fn address_of(file: &OwnedFd) -> Vec<u8> {
    let family = u16::try_from(libc::AF_UNIX).unwrap_or_default();
    let mut address = family.to_ne_bytes().to_vec();
    address.extend(format!("/proc/self/fd/{}\0", file.as_raw_fd()).into_bytes());
    address
}

fn connect(socket: &OwnedFd, address: &[u8]) -> Result<(), Errno> {
    let length = libc::socklen_t::try_from(address.len()).map_err(|_| Errno::INVAL)?;
    let mut aligned = MaybeUninit::<sockaddr_storage>::zeroed();
    if address.len() > size_of::<sockaddr_storage>() {
        return Err(Errno::INVAL);
    }
    // SAFETY: the buffer has room for this many bytes, which was checked above.
    unsafe { std::ptr::copy_nonoverlapping(address.as_ptr(), aligned.as_mut_ptr().cast(), address.len()) };
    // SAFETY: the address has this length and lives for the call.
    let connected = unsafe { libc::connect(socket.as_raw_fd(), aligned.as_ptr().cast(), length) };
    if connected == 0 { Ok(()) } else { Err(last_error()) }
}
