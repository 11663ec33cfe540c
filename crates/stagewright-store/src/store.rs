//! The state folder: opening it, and the paths in it.

use std::collections::HashSet;
use std::fmt::Display;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use stagewright_engine::{RunId, StoreError};

use crate::{error, schema};

/// The database's file name within the state folder.
pub const DATABASE: &str = "stagewright.db";

/// How durable a commit is.
///
/// In WAL mode both kinds survive the end of the process. After a power cut, recovery keeps a prefix of the commits, so
/// that an older commit is never lost while a newer one is kept. A synced commit also syncs all earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// The commit is on disk when it returns.
    Synced,
    /// The operating system writes it to disk later.
    Unsynced,
}

/// A handle on one state folder.
#[derive(Debug)]
pub struct Store {
    pub(crate) connection: Connection,
    pub(crate) directory: PathBuf,
    /// The durability that is set on the connection.
    pub(crate) commits: Option<Durability>,
    /// The run that this handle last appended to, and the number of its next event.
    pub(crate) next: Option<(RunId, u64)>,
    /// Rows of `decisions` that this handle has returned.
    pub(crate) delivered: HashSet<i64>,
    /// Rows of `cancels` that this handle has returned.
    pub(crate) delivered_cancels: HashSet<i64>,
    /// Rows of `signals` that this handle has returned.
    pub(crate) delivered_signals: HashSet<i64>,
}

impl Store {
    /// Opens the store in `directory`, and creates the folder and the database if they don't exist. Sets the mode of
    /// the folder to 0700.
    ///
    /// # Errors
    /// If the folder can't be created or written, or belongs to another user; if the database belongs to another
    /// program, is visibly damaged, or has a newer schema than this version supports. In the last three cases the
    /// database isn't changed.
    pub fn open(directory: &Path) -> Result<Store, StoreError> {
        let new = !directory.exists();
        stagewright_files::private_folder(directory).map_err(|error| not_private(directory, error))?;
        if let Some(parent) = directory.parent().filter(|parent| new && !parent.as_os_str().is_empty()) {
            // Files in a new folder are only durable if its entry in the parent folder is.
            stagewright_files::sync_folder(parent).map_err(|error| error::file("sync", parent, error))?;
        }
        let ignore = directory.join(".gitignore");
        if !ignore.exists() {
            std::fs::write(&ignore, "*\n").map_err(|error| error::file("write", &ignore, error))?;
        }
        Ok(Store::new(schema::open(&directory.join(DATABASE))?, directory))
    }

    /// Opens the store in `directory` for reading, even if nothing can be written, for example in another user's folder
    /// or on a read-only file system. A store that doesn't exist isn't created, and has no runs. Calls that change
    /// something return an error.
    ///
    /// # Errors
    /// The same as for [`Store::open`]; also if the database has an older schema that can't be migrated here.
    pub fn open_read_only(directory: &Path) -> Result<Store, StoreError> {
        let database = directory.join(DATABASE);
        match schema::open_read_only(&database)? {
            Some(connection) => Ok(Store::new(connection, directory)),
            None if database.exists() => Store::open(directory),
            None => Ok(Store::new(schema::open_empty(&database)?, directory)),
        }
    }

    fn new(connection: Connection, directory: &Path) -> Store {
        Store {
            connection,
            directory: directory.to_owned(),
            commits: None,
            next: None,
            delivered: HashSet::new(),
            delivered_cancels: HashSet::new(),
            delivered_signals: HashSet::new(),
        }
    }

    /// The state folder.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The folder of a run's files. [`Store::create_run`] creates it.
    pub fn run_directory(&self, run: &RunId) -> PathBuf {
        run_directory(&self.directory, run)
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.directory.join(DATABASE)
    }

    /// Wraps an error of SQLite; `doing` completes "can't …".
    pub(crate) fn failed<D: Display>(&self, doing: D) -> impl FnOnce(rusqlite::Error) -> StoreError {
        move |error| error::database(doing, &self.database())(error)
    }
}

pub(crate) fn run_directory(directory: &Path, run: &RunId) -> PathBuf {
    directory.join("runs").join(&run.0)
}

fn not_private(directory: &Path, source: std::io::Error) -> StoreError {
    let is_foreign = source.kind() == std::io::ErrorKind::PermissionDenied && source.raw_os_error().is_none();
    let mut failed = error::file("create", directory, source);
    if is_foreign {
        failed.message = format!("can't use the state folder {}", directory.display());
        failed.help =
            Some("change its owner to the user who runs the engine, or choose another folder with --state".to_owned());
    }
    failed
}

pub(crate) fn create_folder(path: &Path) -> Result<(), StoreError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| error::file("create", path, error))
}
