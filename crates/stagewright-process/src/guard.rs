//! Kills the children of this process when this process is killed.
//!
//! The kernel could do it: a parent-death signal. But that is set between fork and exec, which rules out `posix_spawn`,
//! and it reaches the direct child alone. A fork copies the page tables: measured at 13 ms for each child of a process
//! with 300 MB resident, against 1 ms whatever its size.
//!
//! So there is one more process, a shell that gets the number of every group. It reads from a pipe whose other end only
//! this process has, and when that closes it kills the groups that are left.
//!
//! ```text
//! spawn ──  + -GROUP ──┐
//! collect ─ - -GROUP ──┴─> pipe ─> guard ── at the end of the pipe: kill -KILL -GROUP …
//! ```
//!
//! A child escapes when this process is killed in the microseconds between starting it and registering it with the
//! guard.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::reap::reap;

/// A POSIX shell script that uses builtins only. It ignores signals, because it must outlive a Ctrl-C that ends this
/// process.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
left=' '
while read -r change target; do
    case $change in
        +) left="$left$target " ;;
        -) left="${left%% $target *} ${left#* $target }" ;;
    esac
done
for target in $left; do kill -KILL "$target"; done
"#;

static GUARD: Mutex<Guard> = Mutex::new(Guard::new());

struct Guard {
    shell: Option<Child>,
    watched: BTreeSet<Target>,
}

/// What to kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    /// The group that a process leads.
    Group(u32),
    /// The process alone.
    Process(u32),
}

/// As in kill(2).
impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::Group(leader) => write!(f, "-{leader}"),
            Target::Process(pid) => write!(f, "{pid}"),
        }
    }
}

/// Starts the guard. Must be called before a child is started, so that registering the child doesn't have to wait.
pub(crate) fn prepare() -> io::Result<()> {
    lock().prepare()
}

/// Registers a target to be killed when this process ends.
pub(crate) fn watch(target: Target) -> io::Result<()> {
    lock().watch(target)
}

/// Unregisters a target. Must be called before it is collected: afterwards its number may be reused by another process.
pub(crate) fn forget(target: Target) {
    lock().forget(target);
}

fn lock() -> MutexGuard<'static, Guard> {
    GUARD.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Guard {
    const fn new() -> Guard {
        Guard { shell: None, watched: BTreeSet::new() }
    }

    fn prepare(&mut self) -> io::Result<()> {
        if self.shell.is_none() {
            self.shell = Some(self.start()?);
        }
        Ok(())
    }

    fn watch(&mut self, target: Target) -> io::Result<()> {
        self.watched.insert(target);
        let sent = self.send(&format!("+ {target}\n"));
        if sent.is_err() {
            self.watched.remove(&target);
        }
        sent
    }

    fn forget(&mut self, target: Target) {
        if self.watched.remove(&target) {
            // If the guard can't be reached, it can't kill the target either. The next `watch` reports the error.
            let _ = self.send(&format!("- {target}\n"));
        }
    }

    /// Sends a change to the guard. If the guard isn't running, starts it with all watched targets.
    fn send(&mut self, change: &str) -> io::Result<()> {
        if let Some(mut pipe) = self.shell.as_ref().and_then(|shell| shell.stdin.as_ref())
            && pipe.write_all(change.as_bytes()).is_ok()
        {
            return Ok(());
        }
        if let Some(gone) = self.shell.take() {
            reap(gone);
        }
        if self.watched.is_empty() {
            return Ok(());
        }
        self.shell = Some(self.start()?);
        Ok(())
    }

    /// Starts a guard with all watched targets.
    fn start(&self) -> io::Result<Child> {
        let mut shell = start().map_err(|error| {
            io::Error::new(error.kind(), format!("`/bin/sh`, which guards processes, can't be started: {error}"))
        })?;
        let all: String = self.watched.iter().map(|target| format!("+ {target}\n")).collect();
        if let Some(pipe) = &mut shell.stdin {
            pipe.write_all(all.as_bytes())?;
        }
        Ok(shell)
    }
}

fn start() -> io::Result<Child> {
    Command::new("/bin/sh")
        .args(["-c", SCRIPT])
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests read what they made themselves")]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    fn sleeper() -> (Child, Target) {
        let child = Command::new("/bin/sleep").arg("600").process_group(0).spawn().unwrap();
        let target = Target::Group(child.id());
        (child, target)
    }

    /// Closes the pipe, as the kernel does when the process that started the guard ends.
    fn end(guard: Guard) {
        let mut shell = guard.shell.unwrap();
        drop(shell.stdin.take());
        assert!(shell.wait().unwrap().success());
    }

    #[test]
    fn what_is_watched_is_killed_and_what_was_forgotten_is_not() {
        let mut guard = Guard::new();
        let mut sleepers: Vec<(Child, Target)> = (0..4).map(|_| sleeper()).collect();
        for (_, target) in &sleepers {
            guard.watch(*target).unwrap();
        }
        guard.forget(sleepers[0].1);
        guard.forget(sleepers[2].1);
        end(guard);
        for watched in [1, 3] {
            assert_eq!(sleepers[watched].0.wait().unwrap().signal(), Some(9));
        }
        for forgotten in [0, 2] {
            assert_eq!(sleepers[forgotten].0.try_wait().unwrap(), None);
            sleepers[forgotten].0.kill().unwrap();
            sleepers[forgotten].0.wait().unwrap();
        }
    }

    #[test]
    fn a_guard_that_was_killed_is_replaced() {
        let mut guard = Guard::new();
        let ((mut first, before), (mut second, after)) = (sleeper(), sleeper());
        guard.watch(before).unwrap();
        let shell = guard.shell.as_mut().unwrap();
        shell.kill().unwrap();
        shell.wait().unwrap();
        guard.watch(after).unwrap();
        end(guard);
        for child in [&mut first, &mut second] {
            assert_eq!(child.wait().unwrap().signal(), Some(9));
        }
    }

    #[test]
    fn a_guard_does_not_end_with_a_request_to_end() {
        let mut guard = Guard::new();
        let (mut child, target) = sleeper();
        guard.watch(target).unwrap();
        let shell = rustix::process::Pid::from_child(guard.shell.as_ref().unwrap());
        while !ignores_sigterm(shell) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        for signal in [rustix::process::Signal::INT, rustix::process::Signal::TERM, rustix::process::Signal::HUP] {
            rustix::process::kill_process(shell, signal).unwrap();
        }
        end(guard);
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }

    /// Whether the shell has run its `trap`.
    fn ignores_sigterm(shell: rustix::process::Pid) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/status", shell.as_raw_nonzero())).unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
        u64::from_str_radix(mask.trim(), 16).unwrap() & (1 << (15 - 1)) != 0
    }
}
