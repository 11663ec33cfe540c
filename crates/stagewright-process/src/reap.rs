//! Reaps processes that are not waited for.

use std::thread;

/// Collects a process that was signalled to end, so that it doesn't stay a zombie. Doesn't block.
pub(crate) fn reap(mut process: std::process::Child) {
    if matches!(process.try_wait(), Ok(None)) {
        // If no thread can be started, the zombie stays until this process ends. There is no caller to report it to.
        let _ = thread::Builder::new().name("reaper".to_owned()).spawn(move || process.wait());
    }
}
