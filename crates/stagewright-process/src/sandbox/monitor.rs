//! What init watches while programs run: their ends, their number, and the CPU time that they took together.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::Timespec;

use super::Limits;
use super::wire::Exceeded;

/// How often the bounds are looked at.
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

    /// What is readable is taken; who ended is asked elsewhere.
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

/// Undoes for a program what [`Deaths::watch`] does: a shell whose children's ends are kept from it waits for ever.
pub(super) fn unblock() -> io::Result<()> {
    // SAFETY: the set is filled before it is read.
    let result = unsafe {
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Holds the processes of this namespace to the bounds that the kernel doesn't hold them to.
pub(super) struct Monitor {
    limits: Limits,
    next: Instant,
}

impl Monitor {
    pub(super) fn new(limits: Limits) -> Monitor {
        Monitor { limits, next: Instant::now() }
    }

    /// Where the kernel offers it, more processes than the bound can't even be numbered. To be called as process 1,
    /// with the right to write to `/proc/sys`.
    pub(super) fn bound_numbers(limits: &Limits) {
        let Some(processes) = limits.processes else { return };
        // On an older kernel this file is the whole machine's.
        if kernel().is_some_and(|kernel| kernel >= OWN_NUMBERS) {
            // Without it the look has to do.
            let bound = processes.saturating_mul(4).max(FEWEST_NUMBERS).saturating_add(RESERVED_NUMBERS);
            let _ = fs::write("/proc/sys/kernel/pid_max", bound.to_string());
        }
    }

    /// How long there is nothing to look at; none for ever.
    pub(super) fn wait(&self) -> Option<Timespec> {
        let bounded = self.limits.processes.is_some() || self.limits.cpu.is_some();
        bounded.then(|| {
            let left = self.next.saturating_duration_since(Instant::now());
            Timespec { tv_sec: 0, tv_nsec: i64::from(left.subsec_nanos()) }
        })
    }

    /// The bound that was passed, if one was.
    pub(super) fn look(&mut self) -> Option<Exceeded> {
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
        // Twice: one that is collected between two glances counts for itself and for who collected it.
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

/// Every process, init included.
fn numbers() -> Vec<String> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).collect()
}

/// Of a process that runs and of all that it collected: user and system time of both, fields 14 to 17 of proc(5).
fn cpu_time(number: &str) -> Option<Duration> {
    // A program chooses its name, and one that isn't UTF-8 must not hide what it takes.
    let stat = crate::kernel::read_lossy(format!("/proc/{number}/stat")).ok()?;
    let fields = stat.rsplit_once(") ")?.1.split(' ').skip(11).take(4);
    let ticks = fields.map(str::parse::<u64>).sum::<Result<u64, _>>().ok()?;
    Some(Duration::from_millis(ticks.saturating_mul(1000) / rustix::param::clock_ticks_per_second()))
}
