//! Reaps processes that are not waited for.

use std::thread;

/// Collects a process that was told to end, so that it doesn't stay a zombie, without waiting for it here.
pub(crate) fn reap(mut process: std::process::Child) {
    if matches!(process.try_wait(), Ok(None)) {
        // Without a thread the zombie stays until this process ends; and this can't be reported.
        let _ = thread::Builder::new().name("reaper".to_owned()).spawn(move || process.wait());
    }
}
