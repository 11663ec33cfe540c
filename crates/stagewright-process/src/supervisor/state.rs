//! `state.json`, and processes known by more than their number.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use super::SupervisorError;
use crate::exit_status::ExitStatus;
use crate::kernel;

/// The phase of a service's life cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// About to be started, for the first time or again.
    Starting,
    /// The program runs. Whether it is healthy is up to a health check.
    Running,
    /// Stopped, or given up.
    Exited,
}

/// What a supervisor last reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Status {
    /// The current phase.
    pub phase: Phase,
    /// The supervisor.
    pub supervisor: ProcessId,
    /// The program, leader of its group.
    pub child: Option<ProcessId>,
    /// How often the program was restarted.
    pub restarts: u32,
    /// How the program last ended; none if it never has.
    pub last_exit: Option<ExitStatus>,
    /// Why the service is not running although it wasn't stopped.
    pub failure: Option<String>,
    /// Where a service with a network of its own is reached, on this machine's loopback; or where the supervisor listens
    /// for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// Identifies a process, also against a later process with the same process id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ProcessId {
    /// Its number.
    pub pid: u32,
    /// Clock ticks from boot to its start.
    pub start_time: u64,
    /// The machine's boot, folded into a number.
    pub boot: u64,
}

impl ProcessId {
    /// The process that has this number now; none when there is none, or a zombie.
    pub fn of(pid: u32) -> Option<ProcessId> {
        // The second field is the program's name in parentheses, and may hold any bytes, parentheses too.
        let text = kernel::read_lossy(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace();
        if matches!(fields.next()?, "Z" | "X") {
            return None;
        }
        // proc_pid_stat(5): starttime is field 22, and the state above was field 3.
        let start_time = fields.nth(18)?.parse().ok()?;
        Some(ProcessId { pid, start_time, boot: boot()? })
    }

    /// Whether this very process is there.
    pub fn is_alive(self) -> bool {
        ProcessId::of(self.pid) == Some(self)
    }

    /// A pidfd of this process; none if it has ended. The pidfd is opened first and the identity checked afterwards: if
    /// the process id was reused before the opening, the check fails, and later reuse doesn't affect the pidfd.
    fn open(self) -> Option<OwnedFd> {
        let descriptor = pidfd_open(self.raw()?, PidfdFlags::empty()).ok()?;
        self.is_alive().then_some(descriptor)
    }

    fn raw(self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.pid).ok()?)
    }

    /// Sends SIGTERM, unless the process has ended.
    pub(super) fn terminate(self) {
        self.send(Signal::TERM);
    }

    /// Sends SIGKILL, unless the process has ended.
    pub(super) fn kill(self) {
        self.send(Signal::KILL);
    }

    fn send(self, signal: Signal) {
        if let Some(descriptor) = self.open() {
            let _ = pidfd_send_signal(descriptor, signal);
        }
    }

    /// SIGKILL to the group that this process leads, if it is alive.
    pub(super) fn kill_group(self) {
        if let (Some(_held), Some(leader)) = (self.open(), self.raw()) {
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }

    /// Waits until the process has ended, for at most `limit`; returns whether it has.
    pub(super) fn wait_gone(self, limit: Duration) -> bool {
        let Some(descriptor) = self.open() else { return true };
        let Ok(limit) = Timespec::try_from(limit) else { return false };
        let mut descriptors = [PollFd::new(&descriptor, PollFlags::IN)];
        matches!(poll(&mut descriptors, Some(&limit)), Ok(ready) if ready > 0)
    }

    /// The environment it was started with.
    pub(super) fn environment(self) -> Option<Vec<(String, String)>> {
        let bytes = kernel::read(format!("/proc/{}/environ", self.pid)).ok()?;
        if !self.is_alive() {
            return None;
        }
        let entries = bytes.split(|&byte| byte == 0).filter(|entry| !entry.is_empty());
        Some(
            entries
                .filter_map(|entry| String::from_utf8_lossy(entry).split_once('=').map(|(k, v)| (k.into(), v.into())))
                .collect(),
        )
    }
}

/// The machine's boot. Without it, a process after a reboot could have the same process id and start time.
fn boot() -> Option<u64> {
    let id = kernel::read_text("/proc/sys/kernel/random/boot_id").ok()?;
    u64::from_str_radix(id.trim().replace('-', "").get(..16)?, 16).ok()
}

pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join("state.json")
}

pub(super) fn read_state(dir: &Path) -> Result<Option<Status>, SupervisorError> {
    let path = path(dir);
    match stagewright_files::read(&path, stagewright_files::RECORD) {
        Ok(text) => {
            serde_json::from_slice(&text).map(Some).map_err(|source| SupervisorError::Malformed { path, source })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SupervisorError::File { path, source }),
    }
}

/// Replaces the file as a whole, so that a reader sees the old one or the new one.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), SupervisorError> {
    let temporary = path.with_extension("json.new");
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(&serde_json::to_vec_pretty(value)?)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(SupervisorError::file(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_process_of_the_same_number_is_not_alive() {
        let me = ProcessId::of(std::process::id()).unwrap();
        assert!(me.is_alive());
        assert!(!ProcessId { start_time: me.start_time + 1, ..me }.is_alive());
        assert!(!ProcessId { boot: me.boot ^ 1, ..me }.is_alive());
        assert!(ProcessId { start_time: me.start_time + 1, ..me }.environment().is_none());
    }
}
