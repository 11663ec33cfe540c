//! Keeps runs: their journals, their history, their logs, and the answers that people leave for them.
//!
//! In flow the events and log lines of runs; out flow the same, in order, to whoever resumes, lists or shows a run.
//! All of it lives in one state folder:
//!
//! ```text
//! <state>/.gitignore                          *
//! <state>/stagewright.db                      SQLite in WAL mode: runs, events, open gates, decisions
//! <state>/runs/<run>/lease                    locked by the process that drives the run
//! <state>/runs/<run>/logs/<stage>-<attempt>.log
//! ```
//!
//! Several processes may hold a [`Store`] on the same folder at a time: one drives a run, others list, follow or
//! decide. A reader sees an event as soon as [`append`](stagewright_engine::RunStore::append) has returned, durable
//! or not.
//!
//! Architecture invariant: nothing here starts or stops anything, prints, or reads a clock. Times come from the
//! callers.

mod error;
mod history;
mod inbox;
mod journal;
mod lease;
mod log;
mod schema;

use std::collections::HashSet;
use std::fmt::Display;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use stagewright_engine::{RunId, StoreError};

pub use history::{Filter, OpenGate, RunRecord, RunRow, RunState};
pub use lease::Lease;
pub use log::{LogLine, LogReader, RunLogs};

/// The database's file name within the state folder.
pub const DATABASE: &str = "stagewright.db";

/// A handle on one state folder.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    directory: PathBuf,
    commits: journal::Commits,
    /// Rows of `decisions` that this handle has handed out.
    delivered: HashSet<i64>,
}

impl Store {
    /// Opens the store in `directory`, and makes the folder (mode 0700) and the database when they aren't there.
    ///
    /// # Errors
    /// When the folder can't be made or written, or when the database is not one of Stagewright's, is damaged, or has
    /// a newer schema than this version knows. In the last three cases it is left as it was found.
    pub fn open(directory: &Path) -> Result<Store, StoreError> {
        create_folder(directory)?;
        let ignore = directory.join(".gitignore");
        if !ignore.exists() {
            std::fs::write(&ignore, "*\n").map_err(|error| error::file("write", &ignore, error))?;
        }
        let connection = schema::open(&directory.join(DATABASE))?;
        Ok(Store {
            connection,
            directory: directory.to_owned(),
            commits: journal::Commits::Synced,
            delivered: HashSet::new(),
        })
    }

    /// The state folder.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The folder of one run's files. It exists from [`Store::create_run`] on.
    pub fn run_directory(&self, run: &RunId) -> PathBuf {
        self.directory.join("runs").join(&run.0)
    }

    fn database(&self) -> PathBuf {
        self.directory.join(DATABASE)
    }

    /// Wraps what SQLite says about `doing`, which completes "can't …".
    fn failed<D: Display>(&self, doing: D) -> impl FnOnce(rusqlite::Error) -> StoreError {
        move |error| error::database(doing, &self.database())(error)
    }
}

fn create_folder(path: &Path) -> Result<(), StoreError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| error::file("create", path, error))
}
