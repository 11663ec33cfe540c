//! One driving process per run: a file lock, which the operating system releases when the process ends, however it
//! ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use stagewright_engine::{LEASE, RunId, StoreError, StoreErrorKind, Timestamp};

use crate::store::create_folder;
use crate::{Store, error};

/// How often acquiring the lock is tried. [`is_held`] in another process holds it for a moment, which must not look
/// like a driver.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(20);

/// The exclusive right to drive a run. Released when it is dropped or the process ends.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

impl Store {
    /// Locks `run` for driving it, and releases the environments that an earlier process held for it when it died.
    ///
    /// # Errors
    /// If another live process, or another [`RunLock`] of this one, drives the run.
    pub fn lock_run(&self, run: &RunId) -> Result<RunLock, StoreError> {
        let lock = acquire(&self.run_directory(run), run, TRIES)?;
        // The holder of an environment is recorded as a run and not as a process, and counts as alive while the run's
        // lock is held. Now that this process holds it, a record left by the dead process would count as alive again
        // and keep other runs waiting, although this process has acquired nothing yet.
        self.connection
            .execute("UPDATE environments SET holder = NULL, beat = NULL WHERE holder = ?1", [&run.0])
            .map_err(self.failed(format_args!("release the environments of run {run}")))?;
        Ok(lock)
    }
}

/// Acquires the lock, and creates the run's folder if it doesn't exist.
pub(crate) fn acquire(run_directory: &Path, run: &RunId, tries: u32) -> Result<RunLock, StoreError> {
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
            Err(TryLockError::WouldBlock) => return Err(held_error(run, &mut file)),
            Err(TryLockError::Error(error)) => return Err(error::file("lock", &path, error)),
        }
    }
    write_holder(&mut file).map_err(|error| error::file("write", &path, error))?;
    Ok(RunLock { _file: file })
}

/// Whether a process drives the run whose folder this is.
pub(crate) fn is_held(run_directory: &Path) -> bool {
    stagewright_files::open(&run_directory.join("lease"))
        .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Writes the process id, which is only used in the message of [`held_error`].
fn write_holder(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn held_error(run: &RunId, file: &mut File) -> StoreError {
    let mut text = String::new();
    let holder = match file.read_to_string(&mut text) {
        Ok(1..) => format!("process {}", text.trim()),
        _ => "another process".to_owned(),
    };
    let help = "wait for it to end, or stop it; then resume the run";
    StoreError { kind: StoreErrorKind::Busy, ..error::refused(format!("run {run} is being driven by {holder}"), help) }
}

/// Whether a run that holds something can still act on it.
pub(crate) fn is_alive(run_directory: &Path, beat: Timestamp, now: Timestamp) -> bool {
    u128::from(now.since(beat)) <= LEASE.as_millis() && is_held(run_directory)
}
