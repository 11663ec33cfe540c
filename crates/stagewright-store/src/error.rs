//! What went wrong below, said with the path and a remedy.

use std::fmt::Display;
use std::io;
use std::path::Path;

use rusqlite::ErrorCode;
use stagewright_engine::{StoreError, StoreErrorKind};

pub(crate) const WRITABLE: &str = "give this user write access to it, or choose another state folder";
const SPACE: &str = "free some disk space, then resume the run: what was recorded is kept";

/// What to do about a database that can't be used as it is.
pub(crate) const DAMAGED: &str = "the database is damaged: restore a copy, or move it away together with its -wal and \
    -shm files to begin anew; the logs in runs/ stay readable";

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
            Some("another process keeps the database locked: wait for it or end it, then try again")
        }
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Some(DAMAGED),
        ErrorCode::SystemIoFailure => Some("check the disk and what the kernel's log says of it"),
        _ => None,
    }
}

/// For a file or folder: `doing` completes "can't …".
pub(crate) fn file(doing: &str, path: &Path, error: io::Error) -> StoreError {
    let help = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(SPACE),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Some(WRITABLE),
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            Some("a file stands where a folder is needed: move it away, or choose another state folder")
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

/// A run that was named, and is not one.
pub(crate) fn not_found(message: String, help: &str) -> StoreError {
    StoreError { kind: StoreErrorKind::NotFound, ..refused(message, help) }
}

/// A rule of this crate that was not kept.
pub(crate) fn refused(message: String, help: &str) -> StoreError {
    StoreError { kind: StoreErrorKind::Storage, message, help: Some(help.to_owned()), source: None }
}
