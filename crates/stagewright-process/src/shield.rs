//! Keeps the memory of this process, in which values of secrets are, from the disk and from other processes.
//!
//! A process that isn't dumpable leaves no core, whatever the machine's pattern for them is, and its memory,
//! environment and descriptors can be looked at by root alone, not by others of the same user. The kernel makes a program
//! that is started by it dumpable again. The limit on cores is lowered besides, for programs that are started outside
//! of a sandbox and get secrets; they can raise it again. A service that was deployed gets the limit that this process
//! was started with: its cores are its owner's affair.

use std::io;
use std::sync::OnceLock;

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

/// The limit before [`protect`].
static CORE: OnceLock<Option<u64>> = OnceLock::new();

/// Prevents core dumps of this process, and lowers the limit on them for its children. For a process that holds secrets and
/// starts others.
pub fn protect() -> io::Result<()> {
    hide()?;
    let Rlimit { current, maximum } = getrlimit(Resource::Core);
    let before = *CORE.get_or_init(|| current);
    if before != Some(0) {
        setrlimit(Resource::Core, Rlimit { current: Some(0), maximum })?;
    }
    Ok(())
}

/// For a process that holds secrets, and whose children keep its limits.
pub(crate) fn hide() -> io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Undoes for a child what [`protect`] does to limits. Makes system calls only, and may be called between fork and
/// exec.
pub(crate) fn restore_limits() -> io::Result<()> {
    let Some(&current) = CORE.get() else { return Ok(()) };
    let Rlimit { maximum, .. } = getrlimit(Resource::Core);
    Ok(setrlimit(Resource::Core, Rlimit { current, maximum })?)
}

#[cfg(test)]
mod tests {
    use rustix::process::dumpable_behavior;

    use super::*;

    #[test]
    fn this_process_is_not_dumpable_and_limits_are_restored() {
        let before = getrlimit(Resource::Core);
        let raised = Rlimit { current: before.maximum, ..before };
        setrlimit(Resource::Core, raised).unwrap();
        protect().unwrap();
        // A second call must not record the lowered limit.
        protect().unwrap();
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        assert_eq!(getrlimit(Resource::Core).current, Some(0));
        restore_limits().unwrap();
        assert_eq!(getrlimit(Resource::Core), raised);
    }
}
