//! The cgroup that contains every process of the cluster: its daemons, what these start, and all containers.
//!
//! Membership is inherited and known to the kernel, so that ending a cluster ends exactly its processes, even those that no
//! pid file names and those of a crashed daemon. It is a cgroup of version 1, since this Kubernetes needs that version.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::cargo::Result;

/// The name of the cgroup, in each hierarchy.
pub(super) const NAME: &str = "stagewright-cluster";

const MOUNTS: &str = "/sys/fs/cgroup";

/// The hierarchy that says which processes belong to the cluster.
const HIERARCHY: &str = "pids";

/// Controllers without which the kubelet doesn't start.
const REQUIRED: [&str; 5] = ["cpu", "cpuacct", "cpuset", "memory", HIERARCHY];

/// Processes end immediately after SIGKILL, unless the kernel is busy on their behalf.
const END_LIMIT: Duration = Duration::from_secs(20);

/// A process that writes its pid to this file joins the cgroup.
pub(super) fn members_file() -> PathBuf {
    membership().join("cgroup.procs")
}

/// The cgroup in the hierarchy that says which processes belong to the cluster.
fn membership() -> PathBuf {
    Path::new(MOUNTS).join(HIERARCHY).join(NAME)
}

/// An error if this machine lacks cgroups that the kubelet needs.
pub(super) fn require_controllers() -> Result<()> {
    require_controllers_in(Path::new(MOUNTS))
}

/// Creates the cgroup in each hierarchy of version 1.
pub(super) fn create() -> Result<()> {
    let is_second_version = |path: &Path| path.join("cgroup.controllers").exists();
    for hierarchy in hierarchies()?.iter().filter(|hierarchy| !is_second_version(hierarchy)) {
        let own = hierarchy.join(NAME);
        std::fs::create_dir_all(&own).map_err(|error| format!("can't create the cgroup {}: {error}", own.display()))?;
        // A cgroup of the controller cpuset accepts no processes until it has processors and memory.
        for name in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(value) = std::fs::read(hierarchy.join(name)) {
                let path = own.join(name);
                std::fs::write(&path, value).map_err(|error| format!("can't write {}: {error}", path.display()))?;
            }
        }
    }
    Ok(())
}

fn require_controllers_in(mounts: &Path) -> Result<()> {
    let missing = REQUIRED.iter().filter(|name| !mounts.join(name).join("cgroup.procs").is_file()).copied();
    let missing = missing.collect::<Vec<_>>();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "the cgroup controllers {} are not mounted in {}\n  help: this version of Kubernetes needs cgroups of version 1; \
         a system with systemd has them after a boot with `systemd.unified_cgroup_hierarchy=0`",
        missing.join(", "),
        mounts.display()
    ))
}

/// The mounted hierarchies, without the links to those of several controllers. runc also uses one of version 2, if there is
/// one beside those of version 1.
fn hierarchies() -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(MOUNTS).map_err(|error| format!("can't read {MOUNTS}: {error}"))?;
    let folders = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    Ok(folders.map(|entry| entry.path()).filter(|path| path.join("cgroup.procs").is_file()).collect())
}

/// Kills every process in the cgroup, waits until all have ended, and removes the cgroup from each hierarchy.
pub(super) fn remove() -> Result<()> {
    let deadline = Instant::now() + END_LIMIT;
    let own = membership();
    while kill_members(&own) {
        if Instant::now() > deadline {
            return Err(format!("some processes in {} don't end", own.display()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    for hierarchy in hierarchies()? {
        let own = hierarchy.join(NAME);
        // A cgroup stays busy for a moment after its last process has ended.
        while let Err(error) = remove_tree(&own) {
            if Instant::now() > deadline {
                return Err(format!("can't remove the cgroup {}: {error}", own.display()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

/// Sends SIGKILL to all processes in a cgroup and below. Returns whether there were any: they may have forked meanwhile.
fn kill_members(folder: &Path) -> bool {
    let members = members(folder);
    for &pid in &members {
        kill_member(pid);
    }
    !members.is_empty()
}

/// The handle is opened before the membership is checked: a pid that was reused before that isn't a member, and one that is
/// reused later doesn't concern the handle.
fn kill_member(pid: i32) {
    let Some(process) = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else { return };
    let memberships = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    if is_membership(&memberships) {
        // Fails only if the process has ended by itself.
        let _ = pidfd_send_signal(process, Signal::KILL);
    }
}

/// Whether this text of `/proc/PID/cgroup` is of a process in the cluster's cgroup or below.
fn is_membership(text: &str) -> bool {
    let path = text.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        controllers.split(',').any(|controller| controller == HIERARCHY).then_some(path)
    });
    let below = path.and_then(|path| path.strip_prefix('/')?.strip_prefix(NAME));
    below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The pids in a cgroup and below.
fn members(folder: &Path) -> Vec<i32> {
    let own = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    let mut pids: Vec<i32> = own.lines().filter_map(|line| line.parse().ok()).collect();
    for child in child_cgroups(folder) {
        pids.extend(members(&child));
    }
    pids
}

/// A cgroup is removed as an empty folder: its files can't be.
fn remove_tree(folder: &Path) -> std::io::Result<()> {
    for child in child_cgroups(folder) {
        remove_tree(&child)?;
    }
    match std::fs::remove_dir(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn child_cgroups(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_processes_in_the_cgroup_and_below_are_members() {
        let text = |path: &str| format!("9:memory:/elsewhere\n8:pids:{path}\n0::/\n");
        assert!(is_membership(&text("/stagewright-cluster")));
        assert!(is_membership(&text("/stagewright-cluster/kubepods/pod1")));
        for path in ["/", "/stagewright-cluster-2", "/user/stagewright-cluster", ""] {
            assert!(!is_membership(&text(path)), "{path}");
        }
        assert!(!is_membership("9:memory:/stagewright-cluster\n"), "another hierarchy");
        assert!(!is_membership(""), "a process that has ended");
    }

    #[test]
    fn processes_below_are_members_and_folders_are_removed_from_the_innermost() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("kubepods/pod1");
        std::fs::create_dir_all(&inner).unwrap();
        for (folder, pids) in [(root.path(), "3\n5\n"), (&inner, "7\n")] {
            std::fs::write(folder.join("cgroup.procs"), pids).unwrap();
        }
        assert_eq!(members(root.path()), [3, 5, 7]);
        remove_tree(root.path()).expect_err("in an ordinary folder, the files are in the way");
        for folder in [root.path(), &inner] {
            std::fs::remove_file(folder.join("cgroup.procs")).unwrap();
        }
        remove_tree(root.path()).unwrap();
        assert!(!root.path().exists());
        remove_tree(root.path()).expect("it is absent already");
    }

    #[test]
    fn missing_controllers_are_named() {
        let mounts = tempfile::tempdir().unwrap();
        for name in ["cpu", "cpuacct", "cpuset", "memory"] {
            std::fs::create_dir(mounts.path().join(name)).unwrap();
            std::fs::write(mounts.path().join(name).join("cgroup.procs"), "").unwrap();
        }
        let error = require_controllers_in(mounts.path()).expect_err("one is missing");
        assert!(error.starts_with("the cgroup controllers pids are not mounted"), "{error}");
    }
}
