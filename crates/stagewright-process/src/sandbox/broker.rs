//! Connects the programs of a sandbox to the Unix sockets that they may reach, and to no others.
//!
//! ```text
//! program ── connect ──> seccomp ──> broker ── which inode? whose? ── connect, on the program's descriptor ──> socket
//!         ── listen ───>         ──> broker ── keeps the inode that the socket is bound to
//! ```
//!
//! To connect to a Unix socket takes a path and the right to write to it. Neither a read-only mount nor Landlock stops
//! that, and the network namespace doesn't know of paths: without more, every service with a socket in a folder that a
//! stage may read could be spoken to. Weighed were
//!
//! - covering sockets by empty mounts: doesn't hold for one that a service makes later;
//! - an overlay without an upper folder, whose inodes aren't those of the sockets: holds for what is read, but hides
//!   what others write below meanwhile, and mounts below; for what is written it would leave marks in the user's files;
//! - Landlock's own right for it: no kernel of today's distributions has it.
//!
//! So a thread of init does it for them. A path is opened once, and what was opened is both looked at and connected to,
//! so that nothing that is exchanged meanwhile matters. Allowed are the sockets of [`super::Source::Socket`], and those
//! that programs of this sandbox listen at: when one of them calls `listen`, the kernel says which inode its socket is
//! bound to (`SIOCUNIXFILE`), which is held open from then on, so that its number isn't used again.
//!
//! Whatever `connect` is asked for is done here, with what was read of the address: to let the program's own call go
//! on after a look would let another thread exchange address or descriptor after it.
//!
//! A server sees the caller's user and group, and this process's number.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::{fs, thread};

use libc::{seccomp_notif, seccomp_notif_addfd, seccomp_notif_resp, sockaddr_storage};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags};
use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};

use crate::kernel;

/// What the broker has beyond init: descriptors and memory of programs that act for another user, and the inode of a
/// socket. Both are bounded to the sandbox's namespaces.
pub(super) const POWERS: CapabilitySet = CapabilitySet::SYS_PTRACE.union(CapabilitySet::NET_ADMIN);

/// Calls that are carried out at a time. One that blocks, such as a connection to a server that accepts none, holds a
/// thread.
const THREADS: usize = 64;
/// Sockets that programs of one sandbox listen at by a path.
const OWN: usize = 512;
/// Paths that are reported.
const REFUSALS: usize = 100;
/// Gives the file that a Unix socket is bound to. linux/un.h.
const SIOCUNIXFILE: libc::Ioctl = 0x89E0;
/// `PIPE_BUF`, less the length.
const MESSAGE: u16 = 4094;

/// What is one and the same file by whatever name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// Of a socket; else none.
    pub(super) fn of_socket(file: BorrowedFd<'_>) -> Result<Option<Identity>, Errno> {
        let stat = rustix::fs::fstat(file)?;
        let socket = FileType::from_raw_mode(stat.st_mode) == FileType::Socket;
        Ok(socket.then_some(Identity { device: stat.st_dev, inode: stat.st_ino }))
    }
}

/// A broker without anything to listen to yet.
pub(super) struct Waiting(mpsc::Sender<OwnedFd>, PipeReader);

/// Starts the broker's first thread, which must not be under the filter itself. `granted` are held by mounts for as
/// long as the sandbox is there.
pub(super) fn start(granted: Vec<Identity>) -> io::Result<Waiting> {
    possible()?;
    let (sender, listener) = mpsc::channel();
    let (refused, report) = io::pipe()?;
    let first = move || {
        let Ok(listener) = listener.recv() else { return };
        let [idle, threads] = [1, 1].map(AtomicUsize::new);
        let broker =
            Broker { listener, granted, own: Mutex::default(), report, refused: Mutex::default(), idle, threads };
        Arc::new(broker).work();
    };
    thread::Builder::new().name("broker".to_owned()).stack_size(STACK).spawn(first)?;
    Ok(Waiting(sender, refused))
}

const STACK: usize = 256 * 1024;

/// Tries on this process what every connection takes. A filter around a container may refuse it, and programs would
/// see connections fail without a reason.
fn possible() -> Result<(), Errno> {
    let this = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())?;
    rustix::process::pidfd_getfd(this, 0, PidfdGetfdFlags::empty())?;
    let (from, mut to) = ([1_u8], [0_u8]);
    let (here, there) = spans(to.as_mut_ptr(), from.as_ptr().expose_provenance() as u64, 1);
    let process = rustix::process::getpid().as_raw_nonzero().get();
    // SAFETY: both are arrays of this length.
    if unsafe { libc::process_vm_readv(process, &raw const here, 1, &raw const there, 1, 0) } == 1 {
        return Ok(());
    }
    Err(last())
}

impl Waiting {
    /// `listener` is that of the filter. Gives where paths that were refused can be read.
    pub(super) fn serve(self, listener: OwnedFd) -> io::Result<Refusals> {
        self.0.send(listener).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(Refusals(self.1))
    }
}

/// Paths that a connection was refused to.
pub(super) struct Refusals(PipeReader);

impl Refusals {
    /// The next one. Blocks until there is one.
    pub(super) fn next(&mut self) -> io::Result<PathBuf> {
        let mut length = [0; 2];
        self.0.read_exact(&mut length)?;
        let mut path = vec![0; usize::from(u16::from_ne_bytes(length))];
        self.0.read_exact(&mut path)?;
        Ok(OsString::from_vec(path).into())
    }
}

impl std::os::fd::AsFd for Refusals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

struct Broker {
    listener: OwnedFd,
    granted: Vec<Identity>,
    /// What programs of the sandbox listen at, held open.
    own: Mutex<HashMap<Identity, OwnedFd>>,
    report: PipeWriter,
    /// What was reported.
    refused: Mutex<HashSet<Vec<u8>>>,
    /// Threads that wait for a call.
    idle: AtomicUsize,
    threads: AtomicUsize,
}

/// What a program gets.
enum Reply {
    /// Its call is carried out by the kernel as it is.
    Continue,
    Done,
}

impl Broker {
    /// The body of each thread.
    fn work(self: Arc<Self>) {
        // Programs would wait for ever on a broker of which a thread is lost.
        let _end = EndWithPanic;
        while let Ok(call) = self.next() {
            // While this one is carried out there is always one to hear of the next.
            if self.idle.fetch_sub(1, Ordering::Relaxed) == 1 {
                self.another();
            }
            self.answer(&call);
            self.idle.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn another(self: &Arc<Self>) {
        if self.threads.load(Ordering::Relaxed) < THREADS {
            let broker = Arc::clone(self);
            let thread = thread::Builder::new().name("broker".to_owned()).stack_size(STACK);
            // Where there may be no more threads calls wait for each other.
            if thread.spawn(move || broker.work()).is_ok() {
                self.threads.fetch_add(1, Ordering::Relaxed);
                self.idle.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn next(&self) -> Result<Call<'_>, Errno> {
        loop {
            // SAFETY: all zeros is a valid value, and the one that the kernel insists on.
            let mut notice: seccomp_notif = unsafe { std::mem::zeroed() };
            // SAFETY: this request takes such a structure, which lives for the call.
            let heard =
                unsafe { libc::ioctl(self.listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut notice) };
            match heard {
                0 => return Ok(Call { listener: self.listener.as_fd(), notice }),
                _ => match last() {
                    // A signal; a program that ended meanwhile.
                    Errno::INTR | Errno::NOENT => {}
                    error => return Err(error),
                },
            }
        }
    }

    fn answer(&self, call: &Call<'_>) {
        let number = i64::from(call.notice.data.nr);
        let reply = match number {
            libc::SYS_connect => self.connect(call),
            libc::SYS_listen => self.listen(call),
            libc::SYS_socketpair => pair(call),
            _ => Err(Errno::NOSYS),
        };
        call.reply(&reply);
    }

    fn connect(&self, call: &Call<'_>) -> Result<Reply, Errno> {
        let socket = call.descriptor()?;
        let [_, address, length, ..] = call.notice.data.args;
        let address = call.address(address, length)?;
        let Some(path) = path_of(&address) else {
            // Within the network namespace, as names that begin with a zero are.
            call.is_waiting()?;
            return connect(&socket, &address).map(|()| Reply::Done);
        };
        let file = call.open(path)?;
        let identity = Identity::of_socket(file.as_fd())?.ok_or(Errno::CONNREFUSED)?;
        let own = || self.own.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&identity);
        if !self.granted.contains(&identity) && !own() {
            self.refuse(&file);
            return Err(Errno::ACCESS);
        }
        call.is_waiting()?;
        call.as_caller(|| connect(&socket, &address_of(&file)))?;
        Ok(Reply::Done)
    }

    /// The sandbox may go on to the socket's path from now on. When this fails, it may not, which is all.
    fn listen(&self, call: &Call<'_>) -> Result<Reply, Errno> {
        let remember = || {
            let socket = call.descriptor()?;
            if rustix::net::sockopt::socket_domain(&socket)? != AddressFamily::UNIX {
                return Ok(());
            }
            // SAFETY: this request takes no pointer.
            let file = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCUNIXFILE, 0) };
            if file < 0 {
                return Err(last());
            }
            // SAFETY: the descriptor is new and owned by nothing else.
            let file = unsafe { OwnedFd::from_raw_fd(file) };
            let Some(identity) = Identity::of_socket(file.as_fd())? else { return Ok(()) };
            let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
            if own.len() >= OWN {
                own.retain(|_, file| rustix::fs::fstat(&*file).is_ok_and(|stat| stat.st_nlink > 0));
            }
            if own.len() < OWN {
                own.insert(identity, file);
            }
            Ok::<_, Errno>(())
        };
        let _ = remember();
        Ok(Reply::Continue)
    }

    fn refuse(&self, file: &OwnedFd) {
        let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).map(OsString::from);
        let Ok(path) = path.map(OsString::into_vec) else { return };
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.len() >= REFUSALS || !refused.insert(path.clone()) {
            return;
        }
        // A pipe takes so few bytes as a whole.
        let Some(length) = u16::try_from(path.len()).ok().filter(|&length| length < MESSAGE) else { return };
        let _ = (&self.report).write_all(&[&length.to_ne_bytes(), path.as_slice()].concat());
    }
}

struct EndWithPanic;

impl Drop for EndWithPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::exit(1);
        }
    }
}

/// A call that a program waits for the end of.
struct Call<'a> {
    listener: BorrowedFd<'a>,
    notice: seccomp_notif,
}

impl Call<'_> {
    /// What the first argument is in the program.
    fn descriptor(&self) -> Result<OwnedFd, Errno> {
        // The kernel takes no more of it than this either.
        #[expect(clippy::cast_possible_truncation, reason = "a descriptor is an int")]
        let number = self.notice.data.args[0] as i32;
        let process = self.process()?;
        // Before this, the number may be another process's by now.
        self.is_waiting()?;
        rustix::process::pidfd_getfd(process, number, PidfdGetfdFlags::empty())
    }

    fn process(&self) -> Result<OwnedFd, Errno> {
        // `PIDFD_THREAD`, of Linux 6.9: the caller may be any of a process's threads.
        let thread = PidfdFlags::from_bits_retain(OFlags::EXCL.bits());
        let caller = Pid::from_raw(self.caller()).ok_or(Errno::SRCH)?;
        rustix::process::pidfd_open(caller, thread).or_else(|_| {
            let leader = self.status("Tgid:").and_then(|fields| fields.first().copied());
            let leader = leader.and_then(|number| Pid::from_raw(i32::try_from(number).ok()?)).ok_or(Errno::SRCH)?;
            rustix::process::pidfd_open(leader, PidfdFlags::empty())
        })
    }

    fn caller(&self) -> i32 {
        i32::try_from(self.notice.pid).unwrap_or_default()
    }

    /// Of proc(5).
    fn status(&self, name: &str) -> Option<Vec<u32>> {
        let status = kernel::read_text(format!("/proc/{}/status", self.caller())).ok()?;
        let fields = status.lines().find_map(|line| line.strip_prefix(name))?;
        fields.split_whitespace().map(|field| field.parse().ok()).collect()
    }

    /// An error when the program is gone, or no longer waits: what was found by its number may be another's.
    fn is_waiting(&self) -> Result<(), Errno> {
        // SAFETY: this request takes a number, which lives for the call.
        let valid = unsafe {
            libc::ioctl(self.listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const self.notice.id)
        };
        if valid == 0 { Ok(()) } else { Err(last()) }
    }

    fn address(&self, from: u64, length: u64) -> Result<Vec<u8>, Errno> {
        // As the kernel does, from an int.
        #[expect(clippy::cast_possible_truncation, reason = "a length is an int")]
        let length = length as u32 as usize;
        if length > size_of::<sockaddr_storage>() {
            return Err(Errno::INVAL);
        }
        let mut address = vec![0; length];
        let (here, there) = spans(address.as_mut_ptr(), from, length);
        // SAFETY: what is written to is a vector of this length; what is read is the program's, and the kernel's matter.
        let read = unsafe { libc::process_vm_readv(self.caller(), &raw const here, 1, &raw const there, 1, 0) };
        match usize::try_from(read) {
            Ok(read) if read == length => Ok(address),
            Ok(_) => Err(Errno::FAULT),
            Err(_) => Err(last()),
        }
    }

    /// What a path leads to for the program, without following it any further than the program could.
    fn open(&self, path: &OsStr) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let own = PathBuf::from(format!("/proc/{}", self.caller()));
        let cwd = || openat2(CWD, own.join("cwd"), flags, Mode::empty(), ResolveFlags::empty());
        let path = Path::new(path);
        // Else they would be this process's.
        let path = match path.strip_prefix("/proc/self").or_else(|_| path.strip_prefix("/proc/thread-self")) {
            Ok(below) => own.join(below),
            Err(_) => path.strip_prefix("/dev/fd").map_or_else(|_| path.to_owned(), |below| own.join("fd").join(below)),
        };
        openat2(cwd()?, path, flags, Mode::empty(), ResolveFlags::empty())
    }

    /// Runs `act` with the user and the group of the program, which is what a server at the other end asks for.
    fn as_caller<T>(&self, act: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
        let effective = |name: &str| self.status(name).and_then(|ids| ids.get(1).copied());
        // Others than root have one user in the whole sandbox.
        if !rustix::process::geteuid().is_root() {
            return act();
        }
        let (user, group) = (effective("Uid:").ok_or(Errno::SRCH)?, effective("Gid:").ok_or(Errno::SRCH)?);
        if user == 0 && group == 0 {
            return act();
        }
        set_effective(libc::SYS_setresgid, group)?;
        let acted = set_effective(libc::SYS_setresuid, user).and_then(|()| act());
        set_effective(libc::SYS_setresuid, 0)?;
        set_effective(libc::SYS_setresgid, 0)?;
        acted
    }

    /// The number of a descriptor in the program from now on.
    fn give(&self, descriptor: &OwnedFd, flags: u32) -> Result<i32, Errno> {
        let srcfd = descriptor.as_raw_fd().cast_unsigned();
        let add = seccomp_notif_addfd { id: self.notice.id, flags: 0, srcfd, newfd: 0, newfd_flags: flags };
        // SAFETY: this request takes such a structure, which lives for the call.
        let number = unsafe { libc::ioctl(self.listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ADDFD, &raw const add) };
        if number < 0 { Err(last()) } else { Ok(number) }
    }

    fn reply(&self, reply: &Result<Reply, Errno>) {
        let (error, flags) = match reply {
            Ok(Reply::Done) => (0, 0),
            Ok(Reply::Continue) => (0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE),
            Err(error) => (-error.raw_os_error(), 0),
        };
        let flags = u32::try_from(flags).unwrap_or_default();
        let answer = seccomp_notif_resp { id: self.notice.id, val: 0, error, flags };
        // SAFETY: this request takes such a structure, which lives for the call. A program that is gone needs no answer.
        unsafe { libc::ioctl(self.listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw const answer) };
    }
}

/// Of this thread alone: the C library would set it for all.
fn set_effective(call: libc::c_long, id: u32) -> Result<(), Errno> {
    let same = u32::MAX;
    // SAFETY: three numbers.
    if unsafe { libc::syscall(call, same, id, same) } == 0 { Ok(()) } else { Err(last()) }
}

/// A pair that keeps messages apart, as datagrams are, and whose messages carry no address.
fn pair(call: &Call<'_>) -> Result<Reply, Errno> {
    let [_, kind, _, numbers, ..] = call.notice.data.args;
    #[expect(clippy::cast_possible_truncation, reason = "flags are an int")]
    let kind = kind as i32;
    let mut flags = SocketFlags::CLOEXEC;
    if kind & libc::SOCK_NONBLOCK != 0 {
        flags |= SocketFlags::NONBLOCK;
    }
    let close = if kind & libc::SOCK_CLOEXEC == 0 { 0 } else { libc::O_CLOEXEC.cast_unsigned() };
    let (one, other) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    let mut given = [call.give(&one, close)?, call.give(&other, close)?];
    call.is_waiting()?;
    let length = size_of_val(&given);
    let (here, there) = spans(given.as_mut_ptr().cast(), numbers, length);
    // SAFETY: what is read is an array of this length; what is written to is the program's, and the kernel's matter.
    let written = unsafe { libc::process_vm_writev(call.caller(), &raw const here, 1, &raw const there, 1, 0) };
    if usize::try_from(written) == Ok(length) { Ok(Reply::Done) } else { Err(Errno::FAULT) }
}

fn spans(here: *mut u8, there: u64, length: usize) -> (libc::iovec, libc::iovec) {
    let there = usize::try_from(there).unwrap_or_default();
    let here = libc::iovec { iov_base: here.cast(), iov_len: length };
    (here, libc::iovec { iov_base: std::ptr::without_provenance_mut(there), iov_len: length })
}

/// Of an address of a Unix socket that has one.
fn path_of(address: &[u8]) -> Option<&OsStr> {
    let (family, path) = address.split_first_chunk()?;
    let unix = i32::from(u16::from_ne_bytes(*family)) == libc::AF_UNIX;
    let path = path.split(|&byte| byte == 0).next().filter(|path| unix && !path.is_empty())?;
    Some(OsStr::from_bytes(path))
}

/// That leads to what is open.
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
    // SAFETY: there is room for as many bytes.
    unsafe { std::ptr::copy_nonoverlapping(address.as_ptr(), aligned.as_mut_ptr().cast(), address.len()) };
    // SAFETY: the address is as long as is said, for the time of the call.
    let connected = unsafe { libc::connect(socket.as_raw_fd(), aligned.as_ptr().cast(), length) };
    if connected == 0 { Ok(()) } else { Err(last()) }
}

fn last() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}
