//! One driver a run: a lock on a file, which the operating system drops when its process ends, however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use stagewright_engine::{LEASE, RunId, StoreError, StoreErrorKind, Timestamp};

use crate::store::create_folder;
use crate::{Store, error};

/// [`is_held`] takes the lock for an instant. A claim that meets it tries again, so many times.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(20);

/// The right to drive a run; ends when dropped, or with the process.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

impl Store {
    /// Claims the right to drive `run`. What a process that drove it before and died had of environments is free.
    ///
    /// # Errors
    /// When another live process (or another [`RunLock`] of this one) drives it.
    pub fn lock_run(&self, run: &RunId) -> Result<RunLock, StoreError> {
        let lease = take(&self.run_directory(run), run, TRIES)?;
        // Or it would seem to be this process that has them, until their time is up.
        self.connection
            .execute("UPDATE environments SET holder = NULL, beat = NULL WHERE holder = ?1", [&run.0])
            .map_err(self.failed(format_args!("let go of what run {run} had")))?;
        Ok(lease)
    }
}

/// Takes the lock, and makes the run's folder when it isn't there.
pub(crate) fn take(run_directory: &Path, run: &RunId, tries: u32) -> Result<RunLock, StoreError> {
    create_folder(run_directory)?;
    let path = run_directory.join("lease");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .mode(0o600)
        .truncate(false)
        .open(&path)
        .map_err(|error| error::file("open", &path, error))?;
    for attempt in 1.. {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if attempt < tries => std::thread::sleep(PAUSE),
            Err(TryLockError::WouldBlock) => return Err(held(run, &mut file)),
            Err(TryLockError::Error(error)) => return Err(error::file("lock", &path, error)),
        }
    }
    note_holder(&mut file).map_err(|error| error::file("write", &path, error))?;
    Ok(RunLock { _file: file })
}

/// Whether a process drives the run of this folder.
pub(crate) fn is_held(run_directory: &Path) -> bool {
    stagewright_files::open(&run_directory.join("lease"))
        .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Only for the message of [`held`]: the lock is what counts.
fn note_holder(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn held(run: &RunId, file: &mut File) -> StoreError {
    let mut text = String::new();
    let holder = match file.read_to_string(&mut text) {
        Ok(1..) => format!("process {}", text.trim()),
        _ => "another process".to_owned(),
    };
    let help = "wait for it to end, or stop it; then resume the run";
    StoreError { kind: StoreErrorKind::Busy, ..error::refused(format!("run {run} is being driven by {holder}"), help) }
}

/// Whether a run that has something can still act on it.
pub(crate) fn is_alive(run_directory: &Path, beat: Timestamp, now: Timestamp) -> bool {
    u128::from(now.since(beat)) <= LEASE.as_millis() && is_held(run_directory)
}
