//! A state folder: opening it, and where its parts lie.

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

/// What SQLite does at the end of a transaction.
///
/// In WAL mode both kinds survive the death of the process, and recovery after a power cut keeps a prefix of the
/// commits, so an unsynced one is never lost before an older one. A synced one also syncs all before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Commits {
    /// Waits for the disk.
    Synced,
    /// Leaves writing to the operating system.
    Unsynced,
}

/// A handle on one state folder.
#[derive(Debug)]
pub struct Store {
    pub(crate) connection: Connection,
    pub(crate) directory: PathBuf,
    /// How the last commit was made.
    pub(crate) commits: Option<Commits>,
    /// The run that was appended to last, and the number of its next event.
    pub(crate) next: Option<(RunId, u64)>,
    /// Rows of `decisions` that this handle has handed out.
    pub(crate) delivered: HashSet<i64>,
    /// Rows of `cancels` that this handle has handed out.
    pub(crate) delivered_cancels: HashSet<i64>,
}

impl Store {
    /// Opens the store in `directory`, and makes the folder and the database when they aren't there. The folder has mode
    /// 0700 from then on, whatever it had before.
    ///
    /// # Errors
    /// When the folder can't be made or written, when it belongs to another user, or when the database is not one of Stagewright's, is damaged as far
    /// as that shows without reading all of it, or has a newer schema than this version knows. In the last three cases
    /// it is left as it was found.
    pub fn open(directory: &Path) -> Result<Store, StoreError> {
        let new = !directory.exists();
        stagewright_files::private_folder(directory).map_err(|error| not_private(directory, error))?;
        if let Some(parent) = directory.parent().filter(|parent| new && !parent.as_os_str().is_empty()) {
            // What is durable below a folder is so only if the folder itself is.
            stagewright_files::sync_folder(parent).map_err(|error| error::file("sync", parent, error))?;
        }
        let ignore = directory.join(".gitignore");
        if !ignore.exists() {
            std::fs::write(&ignore, "*\n").map_err(|error| error::file("write", &ignore, error))?;
        }
        Ok(Store::new(schema::open(&directory.join(DATABASE))?, directory))
    }

    /// Opens the store in `directory` to read it, also where nothing can be written: a folder of somebody else, a disk
    /// that is mounted read-only. Where there is no store, none is made, and there are no runs. What would change
    /// something gives an error.
    ///
    /// # Errors
    /// As [`Store::open`]; and when the database's schema is an older one that can't be brought up to date here.
    pub fn open_read_only(directory: &Path) -> Result<Store, StoreError> {
        let database = directory.join(DATABASE);
        match schema::open_read_only(&database)? {
            Some(connection) => Ok(Store::new(connection, directory)),
            None if database.exists() => Store::open(directory),
            None => Ok(Store::new(schema::nothing(&database)?, directory)),
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
        }
    }

    /// The state folder.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The folder of one run's files. It exists from [`Store::create_run`] on.
    pub fn run_directory(&self, run: &RunId) -> PathBuf {
        run_directory(&self.directory, run)
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.directory.join(DATABASE)
    }

    /// Wraps what SQLite says about `doing`, which completes "can't …".
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
            Some("change its owner to the user who runs the engine, or name another folder with --state".to_owned());
    }
    failed
}

pub(crate) fn create_folder(path: &Path) -> Result<(), StoreError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| error::file("create", path, error))
}
