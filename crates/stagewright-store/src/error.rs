//! Errors of SQLite and the file system, with the path and a remedy.

use std::fmt::Display;
use std::io;
use std::path::Path;

use rusqlite::ErrorCode;
use stagewright_engine::{StoreError, StoreErrorKind};

pub(crate) const WRITABLE: &str = "give this user write access to it, or choose another state folder";
const SPACE: &str = "free some disk space, then resume the run: the recorded events are kept";

/// The remedy for a damaged database.
pub(crate) const DAMAGED: &str = "the database is damaged: restore a copy, or move it away together with its -wal and \
    -shm files to start with an empty one; the logs in runs/ stay readable";

/// For `map_err`: `doing` completes "can't …".
pub(crate) fn database<D: Display>(doing: D, path: &Path) -> impl FnOnce(rusqlite::Error) -> StoreError {
    move |error| StoreError {
        kind: StoreErrorKind::Storage,
        message: format!("can't {doing} in {}", path.display()),
        help: error.sqlite_error_code().and_then(remedy).map(str::to_owned),
        source: Some(Box::new(error)),
    }
}

fn remedy(code: ErrorCode) -> Option<&'static str> {
    match code {
        ErrorCode::DiskFull => Some(SPACE),
        ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied => Some(WRITABLE),
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
            Some("another process keeps the database locked: wait for it or stop it, then retry")
        }
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Some(DAMAGED),
        ErrorCode::SystemIoFailure => Some("check the disk and the kernel's log"),
        _ => None,
    }
}

/// For a file or folder: `doing` completes "can't …".
pub(crate) fn file(doing: &str, path: &Path, error: io::Error) -> StoreError {
    let help = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(SPACE),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Some(WRITABLE),
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            Some("a file is in the place of a folder: move it away, or choose another state folder")
        }
        _ => None,
    };
    StoreError {
        kind: StoreErrorKind::Storage,
        message: format!("can't {doing} {}", path.display()),
        help: help.map(str::to_owned),
        source: Some(Box::new(error)),
    }
}

/// A request that names a run that doesn't exist.
pub(crate) fn not_found(message: String, help: &str) -> StoreError {
    StoreError { kind: StoreErrorKind::NotFound, ..refused(message, help) }
}

/// A request that this crate refuses.
pub(crate) fn refused(message: String, help: &str) -> StoreError {
    StoreError { kind: StoreErrorKind::Storage, message, help: Some(help.to_owned()), source: None }
}
