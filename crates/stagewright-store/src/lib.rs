//! Keeps runs: their journals, their history, their logs, the ledger of what they deployed, and what people leave for
//! them; and keeps them out of each other's way.
//!
//! In flow the events and log lines of runs; out flow the same, in order, to whoever resumes, lists or shows a run.
//! All of it lives in one state folder, which `docs/store.md` describes for those who look after one:
//!
//! ```text
//! <state>/.gitignore                          *
//! <state>/stagewright.db                      SQLite in WAL mode; the schema is in `schema/*.sql`
//! <state>/runs/<run>/lease                    locked by the process that drives the run
//! <state>/runs/<run>/logs/<stage>-<attempt>.log
//! ```
//!
//! Several processes may hold a [`Store`] on the same folder at a time: one drives a run, others list, follow or
//! decide. A reader sees an event as soon as [`append`](stagewright_engine::RunStore::append) has returned, durable
//! or not.
//!
//! Architecture invariant: nothing here starts or stops anything, prints, or reads a clock. Times come from the
//! callers, and nothing is put in order by them: runs have numbers, events are counted, tokens only grow. What the
//! history, the ledger and the open gates say follows from the events, and is written in their transactions.

mod environment;
mod error;
mod gc;
mod group;
mod history;
mod inbox;
mod journal;
mod lease;
mod ledger;
mod log;
mod replay;
mod schema;
mod turns;

use std::collections::HashSet;
use std::fmt::Display;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use stagewright_engine::{RunId, StoreError};

pub use environment::{EnvironmentRow, Freeze};
pub use gc::{GcReport, Retention};
pub use history::{Filter, OpenGate, RunRecord, RunRow, RunState};
pub use lease::Lease;
pub use ledger::ReleaseRow;
pub use log::{LogLine, LogReader, RunLogs};

/// The database's file name within the state folder.
pub const DATABASE: &str = "stagewright.db";

/// A handle on one state folder.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    directory: PathBuf,
    /// How the last commit was made.
    commits: Option<journal::Commits>,
    /// The run that was appended to last, and the number of its next event.
    next: Option<(RunId, u64)>,
    /// Rows of `decisions` that this handle has handed out.
    delivered: HashSet<i64>,
    /// Rows of `cancels` that this handle has handed out.
    delivered_cancels: HashSet<i64>,
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

    fn database(&self) -> PathBuf {
        self.directory.join(DATABASE)
    }

    /// Wraps what SQLite says about `doing`, which completes "can't …".
    fn failed<D: Display>(&self, doing: D) -> impl FnOnce(rusqlite::Error) -> StoreError {
        move |error| error::database(doing, &self.database())(error)
    }
}

fn run_directory(directory: &Path, run: &RunId) -> PathBuf {
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

fn create_folder(path: &Path) -> Result<(), StoreError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| error::file("create", path, error))
}
