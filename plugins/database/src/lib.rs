//! Backups of databases: what `db-backup`, `db-verify` and `db-restore` have in common.
//!
//! ```text
//! Database ── dump ──> file ── encryption ──> Store: a folder, a bucket
//!     └─── contents ───> Backup, its record ────┘ └─ retention: which ones are kept
//! ```
//!
//! A backup is a file, and a record beside it in JSON. The record is written last and deleted first, so that a backup exists
//! once it is whole. Data and record are about the same moment: the record has the number of rows and a digest of each table
//! as the transaction of the dump sees them, with which a restored database is compared, row by row.
//!
//! The databases' own programs do the work, in the sandbox of the stage. A program that can't dump what it is asked for fails
//! the stage before anything is stored.

mod backup;
mod encryption;
mod postgresql;
mod program;
mod retention;
mod server;
mod source;
mod store;
mod time;

use stagewright_sdk::{Error, Problem, Requirement, Result, workspace};

pub use backup::{Backup, Contents, Table, Verification, differences};
pub use encryption::{Recipients, decrypt, encrypt, identity_requirements};
pub use postgresql::{Owners, Postgresql, Switch, Tls, text};
pub use retention::{Retention, surplus};
pub use server::Server;
pub use source::BackupSource;
pub use store::Store;
pub use time::{millis, shown, since_epoch, timestamp};

/// Mistakes in the name of a database, by which backups are named too.
pub fn name_problems(key: &str, database: &str) -> Vec<Problem> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let is_own = database == "postgres" || database.starts_with("template");
    if database.is_empty() || !database.chars().all(fits) {
        let help = "use a name of letters, digits, `_` and `-`: files of backups are named by it";
        return vec![Problem::at(key, format!("`{database}` isn't the name of a database")).help(help)];
    }
    let problem = || Problem::at(key, format!("`{database}` is the server's own database"));
    is_own.then(problem).into_iter().collect()
}

/// The folder of the workspace for files on their way, if the stage names no other.
pub const SCRATCH: &str = ".database";

/// A folder of the workspace that is removed when the stage ends, since what is in it isn't encrypted.
#[derive(Debug)]
pub struct Scratch(String);

impl Scratch {
    /// An empty folder at this path.
    ///
    /// # Errors
    /// When it isn't granted.
    pub fn new(path: &str) -> Result<Scratch> {
        let path = path.trim_end_matches('/').to_owned();
        workspace::remove(&path)?;
        // Programs don't create the folder of the file that they write.
        workspace::write(&format!("{path}/.gitignore"), "*\n")?;
        Ok(Scratch(path))
    }

    /// The path of a file in it.
    pub fn file(&self, name: &str) -> String {
        format!("{}/{name}", self.0)
    }

    /// What a stage is granted for it.
    pub fn requirement(path: &str) -> Requirement {
        Requirement::write(format!("{}/", path.trim_end_matches('/'))).because("has the data on its way")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = workspace::remove(&self.0);
    }
}

/// The mistake of a key that must not be empty.
fn empty(key: &str, value: &str) -> Option<Problem> {
    value.trim().is_empty().then(|| Problem::at(key, "must not be empty"))
}

/// What a restored database has instead of what its backup says.
///
/// # Errors
/// If they differ.
pub fn compare(backup: &Backup, restored: &Contents) -> Result<()> {
    let found = differences(&backup.contents, restored);
    if found.is_empty() {
        return Ok(());
    }
    let message = format!("the restored database differs from the backup `{}`", backup.name);
    Err(Error::failed(message).causes(found).never_retry())
}
