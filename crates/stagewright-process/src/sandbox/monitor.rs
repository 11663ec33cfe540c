//! Watches the programs of a sandbox: their ends, their number, and their total CPU time.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::Timespec;

use super::SandboxLimits;
use super::wire::Exceeded;

/// How often the limits are checked.
const PERIOD: Duration = Duration::from_millis(100);
/// Once all process numbers were given, the kernel gives those from here on again, and none below: `RESERVED_PIDS` of
/// `kernel/pid.c`.
const RESERVED_NUMBERS: u32 = 300;
/// Numbers beyond those, at least. Threads have numbers, too.
const FEWEST_NUMBERS: u32 = 256;
/// The kernel from which on the bound of process numbers is each namespace's own.
const OWN_NUMBERS: (u32, u32) = (6, 14);

/// Readable when a child has ended.
pub(super) struct Deaths(OwnedFd);

impl Deaths {
    pub(super) fn watch() -> io::Result<Deaths> {
        // SAFETY: the set is filled before it is read, and the descriptor is new and has no other owner.
        unsafe {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, libc::SIGCHLD);
            if libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) != 0 {
                return Err(io::Error::last_os_error());
            }
            match libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
                -1 => Err(io::Error::last_os_error()),
                fd => Ok(Deaths(OwnedFd::from_raw_fd(fd))),
            }
        }
    }

    /// Discards the pending signals. The caller collects the ended children.
    pub(super) fn clear(&self) {
        let mut buffer = [0; 1024];
        while rustix::io::read(&self.0, &mut buffer).is_ok_and(|length| length > 0) {}
    }
}

impl AsFd for Deaths {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Unblocks SIGCHLD, which [`Deaths::watch`] blocks, for a program: programs inherit blocked signals, and a shell that
/// doesn't get it waits forever for its children.
pub(super) fn unblock() -> io::Result<()> {
    // SAFETY: the set is filled before it is read.
    let result = unsafe {
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Checks the limits that the kernel doesn't enforce for all processes of a sandbox together.
pub(super) struct Monitor {
    limits: SandboxLimits,
    next: Instant,
}

impl Monitor {
    pub(super) fn new(limits: SandboxLimits) -> Monitor {
        Monitor { limits, next: Instant::now() }
    }

    /// Where the kernel offers it, more processes than the bound can't even be numbered. To be called as process 1,
    /// with the right to write to `/proc/sys`.
    pub(super) fn bound_numbers(limits: &SandboxLimits) {
        let Some(processes) = limits.processes else { return };
        // On an older kernel this setting applies to the whole machine.
        if kernel().is_some_and(|kernel| kernel >= OWN_NUMBERS) {
            // If this fails, the periodic check alone enforces the limit.
            let bound = processes.saturating_mul(4).max(FEWEST_NUMBERS).saturating_add(RESERVED_NUMBERS);
            let _ = fs::write("/proc/sys/kernel/pid_max", bound.to_string());
        }
    }

    /// The time until the next check; none if there are no limits to check.
    pub(super) fn wait(&self) -> Option<Timespec> {
        let bounded = self.limits.processes.is_some() || self.limits.cpu.is_some();
        bounded.then(|| {
            let left = self.next.saturating_duration_since(Instant::now());
            Timespec { tv_sec: 0, tv_nsec: i64::from(left.subsec_nanos()) }
        })
    }

    /// Checks the limits if the period has passed; returns the one that is exceeded.
    pub(super) fn check(&mut self) -> Option<Exceeded> {
        let now = Instant::now();
        if now < self.next {
            return None;
        }
        self.next = now + PERIOD;
        let processes = numbers();
        if let Some(limit) = self.limits.processes
            && processes.len() > limit as usize + 1
        {
            return Some(Exceeded::Processes(limit));
        }
        let limit = self.limits.cpu?;
        // A process that is collected while `/proc` is read can be counted twice: once itself, and once in the total of
        // its parent. So the limit counts as exceeded only if two measurements in a row say so.
        let passed = (0..2).all(|_| processes.iter().filter_map(|number| cpu_time(number)).sum::<Duration>() > limit);
        passed.then(|| Exceeded::Cpu(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// Major and minor version.
fn kernel() -> Option<(u32, u32)> {
    let release = rustix::system::uname();
    let mut numbers = release.release().to_str().ok()?.split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The process ids in this namespace, including init's.
fn numbers() -> Vec<String> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).collect()
}

/// The CPU time of a process and of the children that it has collected: user and system time of both, which are fields
/// 14 to 17 of `/proc/PID/stat`.
fn cpu_time(number: &str) -> Option<Duration> {
    // A program chooses its own name: a name that isn't UTF-8 must not exempt it from the limit.
    let stat = crate::kernel::read_lossy(format!("/proc/{number}/stat")).ok()?;
    let fields = stat.rsplit_once(") ")?.1.split(' ').skip(11).take(4);
    let ticks = fields.map(str::parse::<u64>).sum::<Result<u64, _>>().ok()?;
    Some(Duration::from_millis(ticks.saturating_mul(1000) / rustix::param::clock_ticks_per_second()))
}
