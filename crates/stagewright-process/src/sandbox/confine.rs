//! Restricts a process and all processes that it starts: files by Landlock, capabilities, and resource limits.

use std::io;

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, path_beneath_rules,
};
use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};

use super::{Access, Confinement, Rule, SandboxLimits, Source};

/// The newest Landlock rights that are requested; an older kernel enforces those that it supports.
const NEWEST: ABI = ABI::V5;

/// The capabilities that programs of root keep, for their own files and processes. All others are dropped, such as
/// mounting, tracing and configuring the network; so is `CAP_FSETID`, which keeps a file's set-user-ID bit on a write.
const KEPT: [CapabilitySet; 7] = [
    CapabilitySet::CHOWN,
    CapabilitySet::DAC_OVERRIDE,
    CapabilitySet::FOWNER,
    CapabilitySet::KILL,
    CapabilitySet::SETGID,
    CapabilitySet::SETUID,
    CapabilitySet::NET_BIND_SERVICE,
];

/// Soft and hard limits that programs can read. They are fixed so that results don't depend on the limits of the user's
/// shell; a lower hard limit of the machine still applies.
const FIXED: [(Resource, u64, u64); 7] = [
    (Resource::Nofile, 65_536, 65_536),
    // Compilers raise their soft limit.
    (Resource::Stack, 8 << 20, 1 << 30),
    (Resource::Memlock, 8 << 20, 8 << 20),
    (Resource::Sigpending, 4096, 4096),
    (Resource::Msgqueue, 819_200, 819_200),
    (Resource::Nice, 0, 0),
    (Resource::Rtprio, 0, 0),
];
/// Mode bits that are cleared for new files.
const UMASK: Mode = Mode::WGRP.union(Mode::WOTH);

/// Access that is granted in every sandbox. Of `/sys`, only a few folders are mounted; programs list the folder itself.
const ALWAYS: [(&str, Access); 4] =
    [("/proc", Access::Read), ("/sys", Access::Read), ("/dev", Access::Write), ("/dev/shm", Access::Write)];

/// Permanently restricts this process to the rules of the confinement. Must be called inside of the new root.
pub(super) fn restrict_files(confinement: &Confinement) -> Result<(), FilesError> {
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

/// Marks all descriptors from 3 on as close-on-exec, so that programs don't inherit what the engine itself inherited,
/// such as a lock or a pipe of the user's shell.
pub(super) fn close_on_exec() -> io::Result<()> {
    // SAFETY: the call takes three numbers, and closes nothing before an exec.
    let marked = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if marked == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Replaces the user's session keyring by an empty one: keyrings are inherited by child processes, in whatever
/// namespaces these are.
pub(super) fn leave_session_keyring() -> io::Result<()> {
    // SAFETY: without a name the call takes no pointer.
    let joined =
        unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>()) };
    match joined {
        -1 => match io::Error::last_os_error() {
            // The kernel is built without keyrings, or a container denies their use.
            error if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => Ok(()),
            error => Err(error),
        },
        _ => Ok(()),
    }
}

/// Drops the capabilities that could undo the sandbox, except for `more`. Programs that are started don't get `more`
/// either, because it is removed from the bounding set.
pub(crate) fn drop_capabilities(more: CapabilitySet) -> io::Result<()> {
    for capability in CapabilitySet::all().iter() {
        if KEPT.contains(&capability) {
            continue;
        }
        match remove_capability_from_bounding_set(capability) {
            // The kernel is older than the capability.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // The bounding set alone is not enough: it limits what an exec can gain, while this thread would keep the
    // capabilities that it has. And `no_new_privs` is required by Landlock and seccomp for processes without
    // `CAP_SYS_ADMIN`; it also makes the kernel ignore set-user-ID bits and file capabilities.
    keep(more)?;
    rustix::thread::set_no_new_privs(true)?;
    Ok(())
}

/// Drops, for this thread, the capabilities that [`drop_capabilities`] kept for the broker.
pub(super) fn drop_broker_capabilities() -> io::Result<()> {
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

/// Sets the umask that programs inherit, which isn't part of the cache key. Called by the maker, from which all sandboxes
/// inherit it.
pub(super) fn fix_umask() {
    rustix::process::umask(UMASK);
}

/// Drops the supplementary groups. Only root may: the groups of other users appear as `nogroup` inside, and still apply
/// to access to files.
pub(super) fn drop_groups() -> io::Result<()> {
    match rustix::thread::set_thread_groups(&[]) {
        Ok(()) | Err(rustix::io::Errno::PERM) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Limits this process and all processes that it starts. The address space isn't limited here, because init itself
/// must be able to start programs; see [`limit_address_space`].
pub(super) fn limit_resources(limits: &SandboxLimits) -> io::Result<()> {
    // To the same values on each machine, because they are not part of the cache key.
    FIXED.into_iter().try_for_each(|(resource, soft, hard)| bound(resource, soft, hard))?;
    set(Resource::Core, 0)?;
    if let Some(processes) = limits.processes {
        set(Resource::Nproc, processes.into())?;
    }
    if let Some(cpu) = limits.cpu {
        // The limit applies to all programs together, and init enforces it. The kernel's limit for each process is only
        // a backstop in case init is too slow. It is two seconds higher, so that init normally acts first and can
        // report which limit was exceeded; the kernel would kill the program without an explanation.
        set(Resource::Cpu, cpu.as_secs().saturating_add(2))?;
    }
    if let Some(bytes) = limits.file_size {
        set(Resource::Fsize, bytes)?;
    }
    Ok(())
}

/// Limits the address space of this process, in bytes. Called between fork and exec.
pub(super) fn limit_address_space(bytes: u64) -> io::Result<()> {
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
