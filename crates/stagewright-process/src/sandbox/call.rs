//! A system call that the filter reported, and the program that made it.

use std::ffi::OsStr;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use libc::{seccomp_notif, seccomp_notif_addfd, seccomp_notif_resp, sockaddr_storage};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags};

use crate::kernel;

/// How a call is answered when it succeeds.
pub(super) enum Reply {
    /// The kernel carries the call out unchanged.
    Continue,
    /// The broker has carried the call out; it returns 0.
    Done,
}

/// A system call that a program is blocked in until it is answered.
pub(super) struct BrokeredCall<'a> {
    listener: BorrowedFd<'a>,
    notice: seccomp_notif,
}

impl<'a> BrokeredCall<'a> {
    /// `listener`: the filter's descriptor, from which `notice` was received.
    pub(super) fn new(listener: BorrowedFd<'a>, notice: seccomp_notif) -> BrokeredCall<'a> {
        BrokeredCall { listener, notice }
    }
}

impl BrokeredCall<'_> {
    pub(super) fn number(&self) -> libc::c_long {
        libc::c_long::from(self.notice.data.nr)
    }

    pub(super) fn arguments(&self) -> [u64; 6] {
        self.notice.data.args
    }

    /// Duplicates the program's descriptor that is the first argument.
    pub(super) fn descriptor(&self) -> Result<OwnedFd, Errno> {
        // The kernel ignores the upper half as well.
        #[expect(clippy::cast_possible_truncation, reason = "a descriptor is an int")]
        let number = self.notice.data.args[0] as i32;
        let process = self.process()?;
        // The caller may have been killed since it made the call, and its process id reused before the pidfd was
        // opened. If the call is still pending now, the caller was alive all along, so the pidfd is the caller's: this
        // check must come after the opening, not before it.
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

    pub(super) fn caller(&self) -> i32 {
        i32::try_from(self.notice.pid).unwrap_or_default()
    }

    /// The numbers in a line of `/proc/PID/status`; none if the line can't be read.
    fn status(&self, name: &str) -> Option<Vec<u32>> {
        let status = kernel::read_text(format!("/proc/{}/status", self.caller())).ok()?;
        let fields = status.lines().find_map(|line| line.strip_prefix(name))?;
        fields.split_whitespace().map(|field| field.parse().ok()).collect()
    }

    /// Fails if the call is no longer pending. What was looked up by the caller's process id may then belong to another
    /// process.
    pub(super) fn is_waiting(&self) -> Result<(), Errno> {
        // SAFETY: this request takes a number, which lives for the call.
        let valid = unsafe {
            libc::ioctl(self.listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const self.notice.id)
        };
        if valid == 0 { Ok(()) } else { Err(last_error()) }
    }

    /// Reads a socket address of `length` bytes from the program's memory.
    pub(super) fn address(&self, from: u64, length: u64) -> Result<Vec<u8>, Errno> {
        // The length is an int; the kernel ignores the upper half as well.
        #[expect(clippy::cast_possible_truncation, reason = "a length is an int")]
        let length = length as u32 as usize;
        if length > size_of::<sockaddr_storage>() {
            return Err(Errno::INVAL);
        }
        self.memory(from, length)
    }

    /// Reads from the program's memory.
    pub(super) fn memory(&self, from: u64, length: usize) -> Result<Vec<u8>, Errno> {
        let mut bytes = vec![0; length];
        let (here, there) = spans(bytes.as_mut_ptr(), from, length);
        // SAFETY: what is written to is a vector of this length; the kernel checks the program's address.
        let read = unsafe { libc::process_vm_readv(self.caller(), &raw const here, 1, &raw const there, 1, 0) };
        match usize::try_from(read) {
            Ok(read) if read == length => Ok(bytes),
            Ok(_) => Err(Errno::FAULT),
            Err(_) => Err(last_error()),
        }
    }

    /// Opens a path as the program would, relative to its working directory.
    pub(super) fn open(&self, path: &OsStr) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let own = PathBuf::from(format!("/proc/{}", self.caller()));
        let cwd = || openat2(CWD, own.join("cwd"), flags, Mode::empty(), ResolveFlags::empty());
        let path = Path::new(path);
        // These links would resolve to init, whose descriptors and folders the program must not reach.
        let path = match path.strip_prefix("/proc/self").or_else(|_| path.strip_prefix("/proc/thread-self")) {
            Ok(below) => own.join(below),
            Err(_) => path.strip_prefix("/dev/fd").map_or_else(|_| path.to_owned(), |below| own.join("fd").join(below)),
        };
        openat2(cwd()?, path, flags, Mode::empty(), ResolveFlags::empty())
    }

    /// Runs `act` with the user and the group of the program, because the server can query them (`SO_PEERCRED`).
    pub(super) fn as_caller<T>(&self, act: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
        let effective = |name: &str| self.status(name).and_then(|ids| ids.get(1).copied());
        // Unless the engine runs as root, only one user is mapped into the sandbox.
        if !rustix::process::geteuid().is_root() {
            return act();
        }
        let (user, group) = (effective("Uid:").ok_or(Errno::SRCH)?, effective("Gid:").ok_or(Errno::SRCH)?);
        if user == 0 && group == 0 {
            return act();
        }
        // The group comes first and is restored last, because only root may change it freely. The user is restored even
        // if `act` failed: this thread goes on to serve programs of other users.
        set_effective(libc::SYS_setresgid, group)?;
        let acted = set_effective(libc::SYS_setresuid, user).and_then(|()| act());
        set_effective(libc::SYS_setresuid, 0)?;
        set_effective(libc::SYS_setresgid, 0)?;
        acted
    }

    /// Adds a descriptor to the program, and returns its number there.
    pub(super) fn add_descriptor(&self, descriptor: &OwnedFd, flags: u32) -> Result<i32, Errno> {
        let srcfd = descriptor.as_raw_fd().cast_unsigned();
        let add = seccomp_notif_addfd { id: self.notice.id, flags: 0, srcfd, newfd: 0, newfd_flags: flags };
        // SAFETY: this request takes such a structure, which lives for the call.
        let number = unsafe { libc::ioctl(self.listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ADDFD, &raw const add) };
        if number < 0 { Err(last_error()) } else { Ok(number) }
    }

    pub(super) fn reply(&self, reply: &Result<Reply, Errno>) {
        let (error, flags) = match reply {
            Ok(Reply::Done) => (0, 0),
            Ok(Reply::Continue) => (0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE),
            Err(error) => (-error.raw_os_error(), 0),
        };
        let flags = u32::try_from(flags).unwrap_or_default();
        let answer = seccomp_notif_resp { id: self.notice.id, val: 0, error, flags };
        // SAFETY: this request takes such a structure, which lives for the call. The error of a program
        // that has ended is ignored.
        unsafe { libc::ioctl(self.listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw const answer) };
    }
}

/// Sets the effective user or group of this thread only; the C library's functions would set it for all threads.
fn set_effective(call: libc::c_long, id: u32) -> Result<(), Errno> {
    let same = u32::MAX;
    // SAFETY: the call takes three numbers.
    if unsafe { libc::syscall(call, same, id, same) } == 0 { Ok(()) } else { Err(last_error()) }
}

pub(super) fn spans(here: *mut u8, there: u64, length: usize) -> (libc::iovec, libc::iovec) {
    let there = usize::try_from(there).unwrap_or_default();
    let here = libc::iovec { iov_base: here.cast(), iov_len: length };
    (here, libc::iovec { iov_base: std::ptr::without_provenance_mut(there), iov_len: length })
}

pub(super) fn last_error() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}
