//! What a process gives up for itself and all that it starts: files by Landlock, capabilities, resources.

use std::io;

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, path_beneath_rules,
};
use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};

use super::{Access, Confinement, Limits, Rule, Source};

/// The newest rights that are asked for; an older kernel enforces those that it knows.
const NEWEST: ABI = ABI::V5;

/// What root may do with files and processes of its own. Everything else, such as to mount, to trace or to change the
/// network, goes; so does the power to leave a file its set-user-ID bit while it is written to.
const KEPT: [CapabilitySet; 7] = [
    CapabilitySet::CHOWN,
    CapabilitySet::DAC_OVERRIDE,
    CapabilitySet::FOWNER,
    CapabilitySet::KILL,
    CapabilitySet::SETGID,
    CapabilitySet::SETUID,
    CapabilitySet::NET_BIND_SERVICE,
];

/// Limits that programs can read, soft and hard, so that what they make of them doesn't differ from shell to shell. Where
/// the machine allows less, it is that.
const FIXED: [(Resource, u64, u64); 7] = [
    (Resource::Nofile, 65_536, 65_536),
    // Compilers raise theirs.
    (Resource::Stack, 8 << 20, 1 << 30),
    (Resource::Memlock, 8 << 20, 8 << 20),
    (Resource::Sigpending, 4096, 4096),
    (Resource::Msgqueue, 819_200, 819_200),
    (Resource::Nice, 0, 0),
    (Resource::Rtprio, 0, 0),
];
/// Which bits new files lack.
const UMASK: Mode = Mode::WGRP.union(Mode::WOTH);

/// Inside of every sandbox, whoever it is for.
const ALWAYS: [(&str, Access); 3] = [("/proc", Access::Read), ("/dev", Access::Write), ("/dev/shm", Access::Write)];

/// Restricts this process to the rules of the confinement, for good. To be called inside of the new root.
pub(super) fn files(confinement: &Confinement) -> Result<(), FilesError> {
    let handled = AccessFs::from_all(NEWEST);
    let mut rules = Ruleset::default().set_compatibility(CompatLevel::BestEffort).handle_access(handled)?.create()?;
    let places = confinement.places.iter().filter(|place| !matches!(place.source, Source::Link(_)));
    let places = places.filter_map(|place| Some((place.path.as_path(), place.access?)));
    let granted = confinement.rules.iter().map(|Rule { path, access }| (path.as_path(), *access));
    let always = ALWAYS.iter().map(|(path, access)| (std::path::Path::new(path), *access));
    for (path, access) in always.chain(places).chain(granted) {
        rules = rules.add_rules(path_beneath_rules([path], rights(access)))?;
    }
    let status = rules.restrict_self()?;
    match status.ruleset {
        RulesetStatus::NotEnforced => Err(FilesError::Unsupported),
        _ => Ok(()),
    }
}

/// Why files can't be restricted.
#[derive(Debug, thiserror::Error)]
pub(super) enum FilesError {
    #[error("the kernel has no Landlock, or it isn't switched on")]
    Unsupported,
    #[error(transparent)]
    Ruleset(#[from] RulesetError),
}

fn rights(access: Access) -> BitFlags<AccessFs> {
    match access {
        Access::Read => AccessFs::ReadFile | AccessFs::ReadDir,
        Access::Execute => AccessFs::from_read(NEWEST),
        Access::Write => AccessFs::from_all(NEWEST),
    }
}

/// Keeps what whoever started the engine left open, such as the lock or the pipe of a shell, from programs.
pub(super) fn descriptors() -> io::Result<()> {
    // SAFETY: three numbers; nothing is closed before another program takes this one's place.
    let marked = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if marked == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Leaves the keys that the kernel holds for the user's session: they are handed down from process to process, whatever
/// namespaces these are in.
pub(super) fn keys() -> io::Result<()> {
    // SAFETY: without a name the call takes no pointer.
    let joined =
        unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>()) };
    match joined {
        -1 => match io::Error::last_os_error() {
            // A kernel that keeps no keys, or a container that allows no use of them.
            error if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => Ok(()),
            error => Err(error),
        },
        _ => Ok(()),
    }
}

/// Gives up what could undo the sandbox, but for `more`. Programs that are started get nothing of that.
pub(crate) fn powers(more: CapabilitySet) -> io::Result<()> {
    for capability in CapabilitySet::all().iter() {
        if KEPT.contains(&capability) {
            continue;
        }
        match remove_capability_from_bounding_set(capability) {
            // A kernel that is older than the capability.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    keep(more)?;
    rustix::thread::set_no_new_privs(true)?;
    Ok(())
}

/// Gives up what [`powers`] left beyond what programs have, for this thread.
pub(super) fn last_powers() -> io::Result<()> {
    keep(CapabilitySet::empty())
}

fn keep(more: CapabilitySet) -> io::Result<()> {
    let kept = KEPT.into_iter().collect::<CapabilitySet>() | more;
    let mut sets = rustix::thread::capabilities(None)?;
    sets.effective &= kept;
    sets.permitted &= kept;
    sets.inheritable = CapabilitySet::empty();
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

/// What programs inherit and can see, the same on each machine: it isn't in the key of the cache. For the maker, from
/// which all sandboxes have it.
pub(super) fn inherited() -> io::Result<()> {
    rustix::process::umask(UMASK);
    FIXED.into_iter().try_for_each(|(resource, soft, hard)| bound(resource, soft, hard))
}

/// Leaves the groups that the engine's user is in beside their own. A user who isn't root may not: theirs show as
/// `nogroup` inside, and still count for files.
pub(super) fn groups() -> io::Result<()> {
    match rustix::thread::set_thread_groups(&[]) {
        Ok(()) | Err(rustix::io::Errno::PERM) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// For this process and all that it starts. The address space is not among them: a process that is to start others
/// needs its own, see [`address_space`].
pub(super) fn resources(limits: &Limits) -> io::Result<()> {
    set(Resource::Core, 0)?;
    if let Some(processes) = limits.processes {
        set(Resource::Nproc, processes.into())?;
    }
    if let Some(cpu) = limits.cpu {
        // The bound is on all programs together, and init watches it. The kernel's own is a backstop for each process,
        // later by so much that it is init that says why a single program was stopped.
        set(Resource::Cpu, cpu.as_secs().saturating_add(2))?;
    }
    if let Some(bytes) = limits.file_size {
        set(Resource::Fsize, bytes)?;
    }
    Ok(())
}

/// For this process, between fork and exec.
pub(super) fn address_space(bytes: u64) -> io::Result<()> {
    set(Resource::As, bytes)
}

fn set(resource: Resource, limit: u64) -> io::Result<()> {
    bound(resource, limit, limit)
}

fn bound(resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let allowed = rustix::process::getrlimit(resource).maximum;
    let within = |limit: u64| Some(allowed.map_or(limit, |allowed| allowed.min(limit)));
    Ok(setrlimit(resource, Rlimit { current: within(soft), maximum: within(hard) })?)
}
