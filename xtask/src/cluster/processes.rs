//! Processes that outlive this program: how they are started, and how they are recognised later.
//!
//! The input is a command line; the output is a pid file in the state folder and a log. A process is identified by its pid,
//! the time of its start and the boot of the machine, because a pid alone may have been reused. Nothing here ends a process:
//! see [`super::cgroup`].

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use super::cgroup;
use super::folder::ClusterFolder;
use crate::cargo::Result;

/// Changed by each boot of the machine.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Enters the cgroup and writes the pid file before the program starts, so that there is no moment in which the program runs
/// unrecorded. `exec` keeps the pid and the time of the start, and `setsid` detaches the program from the terminal.
const LAUNCH: &str = r#"set -e
pid_file=$1 members=$2
shift 2
echo $$ > "$members"
cat /proc/sys/kernel/random/boot_id /proc/$$/stat > "$pid_file.new"
mv "$pid_file.new" "$pid_file"
exec setsid "$@"
"#;

/// A process, as a pid file identifies it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ProcessIdentity {
    boot: String,
    pub(super) pid: u32,
    /// In clock ticks since the boot.
    started: u64,
}

impl ProcessIdentity {
    /// Reads a pid file. None if there is none, or if it is damaged.
    pub(super) fn read(pid_file: &Path) -> Option<ProcessIdentity> {
        ProcessIdentity::parse(&std::fs::read_to_string(pid_file).ok()?)
    }

    /// The text has two lines: the boot's id, and the process's line of `/proc/PID/stat`.
    fn parse(text: &str) -> Option<ProcessIdentity> {
        let (boot, stat) = text.split_once('\n')?;
        let ProcessStat { pid, started, .. } = ProcessStat::parse(stat)?;
        Some(ProcessIdentity { boot: boot.to_owned(), pid, started })
    }

    /// Whether the process still runs.
    pub(super) fn is_alive(&self) -> bool {
        let boot = std::fs::read_to_string(BOOT_ID).unwrap_or_default();
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        self.matches(boot.trim_end(), &stat)
    }

    /// Whether the process with this `/proc/PID/stat`, since this boot, is the identified one and hasn't ended.
    fn matches(&self, boot: &str, stat: &str) -> bool {
        ProcessStat::parse(stat).is_some_and(|stat| {
            self.boot == boot
                && self.pid == stat.pid
                && self.started == stat.started
                && !matches!(stat.state, 'Z' | 'X')
        })
    }
}

/// Some fields of `/proc/PID/stat` (proc(5)).
struct ProcessStat {
    pid: u32,
    state: char,
    started: u64,
}

impl ProcessStat {
    fn parse(stat: &str) -> Option<ProcessStat> {
        // The second field is the program's name in parentheses, which may itself contain spaces and parentheses.
        let (before, after) = stat.rsplit_once(')')?;
        let pid = before.split_once(' ')?.0.parse().ok()?;
        let fields: Vec<_> = after.split_whitespace().collect();
        // Fields 3 and 22; `after` starts with the third.
        Some(ProcessStat { pid, state: fields.first()?.chars().next()?, started: fields.get(19)?.parse().ok()? })
    }
}

/// Starts a process in the cluster's cgroup, with its output in its log. `words` is its command line. Of the environment it
/// gets `PATH` only: a proxy, for example, must not be used for addresses of the cluster.
pub(super) fn start(folder: &ClusterFolder, name: &str, words: &[String]) -> Result<()> {
    let log = folder.log(name);
    let failed = |error| format!("can't start {name}: {error}");
    let output = File::create(&log).map_err(failed)?;
    let errors = output.try_clone().map_err(failed)?;
    let mut command = Command::new("sh");
    command.args(["-c", LAUNCH, "sh"]).arg(folder.pid_file(name)).arg(cgroup::members_file()).args(words);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", folder.path());
    command.current_dir(folder.path()).stdin(Stdio::null()).stdout(output).stderr(errors);
    command.spawn().map_err(failed)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "42 (a (b) c) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1000 200";

    fn identity() -> ProcessIdentity {
        ProcessIdentity::parse(&format!("boot-1\n{STAT}\n")).expect("a valid pid file")
    }

    #[test]
    fn a_pid_file_identifies_a_process_by_boot_pid_and_start() {
        assert_eq!(identity(), ProcessIdentity { boot: "boot-1".to_owned(), pid: 42, started: 98765 });
        for damaged in ["", "boot-1", "boot-1\n", "boot-1\n42 (a", "boot-1\n42 (a) S 1 2 3"] {
            assert_eq!(ProcessIdentity::parse(damaged), None, "{damaged:?}");
        }
    }

    #[test]
    fn a_reused_pid_is_another_process() {
        assert!(identity().matches("boot-1", STAT));
        assert!(!identity().matches("boot-1", &STAT.replace("98765", "98766")));
        assert!(!identity().matches("boot-1", &STAT.replace("42 (a", "43 (a")));
        assert!(!identity().matches("boot-2", STAT));
    }

    #[test]
    fn a_process_that_has_ended_and_waits_for_its_parent_is_not_alive() {
        assert!(!identity().matches("boot-1", &STAT.replace(") S", ") Z")));
        assert!(!identity().matches("boot-1", ""));
    }

    #[test]
    fn the_launcher_records_the_process_that_it_becomes() {
        let folder = tempfile::tempdir().unwrap();
        let (pid_file, members) = (folder.path().join("pid"), folder.path().join("cgroup.procs"));
        let mut command = Command::new("sh");
        command.args(["-c", LAUNCH, "sh"]).arg(&pid_file).arg(&members).args(["sh", "-c", "echo $$; read -r line"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let output = child.stdout.take().expect("a pipe");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).unwrap();
        let identity = ProcessIdentity::read(&pid_file).expect("written before the program starts");
        assert_eq!(identity.pid.to_string(), line.trim(), "the pid of the program");
        assert_eq!(identity.pid, child.id());
        assert_eq!(std::fs::read_to_string(&members).unwrap().trim(), child.id().to_string());
        assert!(identity.is_alive());
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(!identity.is_alive());
    }
}
