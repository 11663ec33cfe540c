//! Garbage collection: removes old runs with their logs, and folders that belong to no run.
//!
//! A run is removed while its lock is held, so that it can't be resumed at the same time. First its rows are removed,
//! in the transaction that decides that the run is old, and then its folder. A crash in between leaves a folder without
//! rows, which the next collection removes as an orphan.
//!
//! The ledger is kept, and so are the environments: a fence must never be issued twice.

use std::collections::HashSet;
use std::fs::{self, DirEntry, Metadata};
use std::io;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use rusqlite::{Connection, Transaction};
use stagewright_engine::{RunId, StoreError, Timestamp};

use crate::row::integer;
use crate::run_lock::{self, RunLock};
use crate::schema::sibling;
use crate::store::run_directory;
use crate::{Store, error, ledger};

/// The most runs that are removed in one transaction. Other writers wait while it lasts.
const BATCH: usize = 50;

/// The pages that are released to the file system in one transaction.
const VACUUM_PAGES: u32 = 2_000;

/// The age at which a folder without a row counts as an orphan. The folder of a new run is created before its row.
const ORPHAN_AGE: Duration = Duration::from_hours(24);

/// What [`Store::gc`] keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// This many of each pipeline's newest runs, and as many of its newest rehearsals.
    pub runs: u32,
    /// Runs that ended at most this long ago.
    pub age: Duration,
    /// The runs of this many newest known-good releases of each environment, because a rollback needs the run of the
    /// release that it restores. The runs of the current and of the last known-good release are always kept.
    pub releases: u32,
    /// Whether to only report what would be removed.
    pub dry_run: bool,
}

impl Default for Retention {
    /// 50 runs, 30 days, 10 releases.
    fn default() -> Self {
        Retention { runs: 50, age: Duration::from_hours(24 * 30), releases: 10, dry_run: false }
    }
}

/// What [`Store::gc`] removed, or would remove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcReport {
    /// Runs, oldest first. Their artifacts, which are stored elsewhere, can be removed, too.
    pub runs: Vec<RunId>,
    /// Names of folders in `runs/` that belong to no run.
    pub orphans: Vec<String>,
    /// Size of the removed logs and other files in bytes.
    pub file_bytes: u64,
    /// Bytes by which the database and its write-ahead log became smaller; 0 if no run was removed.
    pub database_bytes: u64,
}

impl Store {
    /// Removes runs that have ended and that `policy` doesn't keep. Runs that a process drives are never removed, and
    /// with them no run that holds an environment or a concurrency group.
    ///
    /// May be called while runs are driven.
    ///
    /// # Errors
    /// If the database can't be read or written, or a folder can't be removed. What has been removed before stays
    /// removed.
    pub fn gc(&mut self, policy: &Retention, now: Timestamp) -> Result<GcReport, StoreError> {
        let mut report = GcReport::default();
        if policy.dry_run {
            let old = removable_runs(&self.connection, policy, now).map_err(self.failed("find old runs"))?;
            report.runs = old.into_iter().filter(|run| !run_lock::is_held(&self.run_directory(run))).collect();
            for run in &report.runs {
                report.file_bytes += self.size_of_folder(&self.run_directory(run))?;
            }
        } else {
            let before = self.database_size();
            while self.remove_batch(policy, now, &mut report)? > 0 {}
            if !report.runs.is_empty() {
                self.release_free_pages().map_err(self.failed("release free space"))?;
                report.database_bytes = before.saturating_sub(self.database_size());
            }
        }
        self.remove_orphans(policy, now, &mut report)?;
        Ok(report)
    }

    fn remove_batch(&mut self, policy: &Retention, now: Timestamp, report: &mut GcReport) -> Result<usize, StoreError> {
        let directory = self.directory.clone();
        let removed = self.durably("remove old runs", |transaction| {
            let mut removed: Vec<(RunId, RunLock)> = Vec::new();
            for run in removable_runs(transaction, policy, now)? {
                // A process drives the run, or is checking its lock at this moment. The next collection can remove it.
                let Ok(lock) = run_lock::acquire(&run_directory(&directory, &run), &run, 1) else { continue };
                remove(transaction, &run)?;
                removed.push((run, lock));
                if removed.len() == BATCH {
                    break;
                }
            }
            Ok(removed)
        })?;
        let count = removed.len();
        for (run, _lock) in removed {
            report.file_bytes += self.remove_folder(&self.run_directory(&run))?;
            report.runs.push(run);
        }
        Ok(count)
    }

    fn remove_orphans(&self, policy: &Retention, now: Timestamp, report: &mut GcReport) -> Result<(), StoreError> {
        let runs = self.directory.join("runs");
        // The folders are listed before the rows, because the folder of a new run is created before its row. In this
        // order a run that is created meanwhile is either not in the list of folders or, if it is, already in that of
        // the rows, unless its process stopped in between. The age limit of orphans covers that case.
        let old = old_folders(&runs, now).map_err(|error| error::file("list", &runs, error))?;
        let query = || -> rusqlite::Result<HashSet<String>> {
            self.connection.prepare("SELECT id FROM runs")?.query_map([], |row| row.get(0))?.collect()
        };
        let known = query().map_err(self.failed("list the runs"))?;
        for name in old.into_iter().filter(|name| !known.contains(name)) {
            let folder = runs.join(&name);
            if run_lock::is_held(&folder) {
                continue;
            }
            report.file_bytes +=
                if policy.dry_run { self.size_of_folder(&folder)? } else { self.remove_folder(&folder)? };
            report.orphans.push(name);
        }
        Ok(())
    }

    /// Returns the size of the removed files in bytes.
    fn remove_folder(&self, folder: &Path) -> Result<u64, StoreError> {
        let bytes = self.size_of_folder(folder)?;
        match stagewright_files::remove_tree(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error::file("remove", folder, error)),
            _ => Ok(bytes),
        }
    }

    fn size_of_folder(&self, folder: &Path) -> Result<u64, StoreError> {
        size(folder).map_err(|error| error::file("measure the size of", folder, error))
    }

    fn database_size(&self) -> u64 {
        let path = self.database();
        [sibling(&path, "-wal"), path].iter().filter_map(|path| path.metadata().ok()).map(|file| file.len()).sum()
    }

    /// Releases the free pages to the file system in small steps, and truncates the write-ahead log.
    fn release_free_pages(&self) -> rusqlite::Result<()> {
        let free = || self.connection.pragma_query_value(None, "freelist_count", |row| row.get::<_, i64>(0));
        let mut before = i64::MAX;
        let mut left = free()?;
        // The number doesn't change in a database that was created without `auto_vacuum`. SQLite reuses its free pages.
        while 0 < left && left < before {
            // SQLite releases pages while the statement is stepped through, so read all its rows.
            let mut statement = self.connection.prepare(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))?;
            let mut rows = statement.query([])?;
            while rows.next()?.is_some() {}
            before = left;
            left = free()?;
        }
        // While a reader uses a part of the log, SQLite can't truncate it. A later checkpoint does.
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
    }
}

/// The runs that have ended and that `policy` doesn't keep, oldest first.
fn removable_runs(connection: &Connection, policy: &Retention, now: Timestamp) -> rusqlite::Result<Vec<RunId>> {
    let age = u64::try_from(policy.age.as_millis()).unwrap_or(u64::MAX);
    let ended_by = integer(now.0.saturating_sub(age));
    let kept = runs_kept_for_rollback(connection, policy.releases)?;
    let mut statement = connection.prepare_cached(
        "SELECT id FROM
             (SELECT id, number, ended, row_number() OVER (PARTITION BY pipeline, rehearsal ORDER BY number DESC)
                  AS place FROM runs)
         WHERE place > ?1 AND ended < ?2 ORDER BY number",
    )?;
    let old = statement.query_map((policy.runs, ended_by), |row| row.get::<_, String>(0))?;
    old.filter(|run| !run.as_ref().is_ok_and(|run| kept.contains(run))).map(|run| run.map(RunId)).collect()
}

fn runs_kept_for_rollback(connection: &Connection, releases: u32) -> rusqlite::Result<HashSet<String>> {
    let mut statement = connection.prepare_cached(
        "SELECT run FROM
             (SELECT run, row_number() OVER (PARTITION BY environment, rehearsal ORDER BY number DESC) AS place
              FROM releases WHERE confirmed AND NOT undone)
         WHERE place <= ?1",
    )?;
    let mut kept = statement.query_map([releases], |row| row.get(0))?.collect::<rusqlite::Result<HashSet<String>>>()?;
    let mut environments =
        connection.prepare_cached("SELECT DISTINCT environment FROM releases WHERE rehearsal = 0")?;
    let mut rows = environments.query([])?;
    while let Some(row) = rows.next()? {
        let releases = ledger::environment_releases(connection, &row.get::<_, String>(0)?, None, None)?;
        kept.extend([releases.current, releases.last_known_good].into_iter().flatten().map(|release| release.run.0));
    }
    Ok(kept)
}

/// Removes a run's row; the schema's foreign keys remove the rows that belong to it.
fn remove(transaction: &Transaction<'_>, run: &RunId) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("UPDATE environments SET holder = NULL, beat = NULL WHERE holder = ?1")?
        .execute([&run.0])?;
    transaction.prepare_cached("DELETE FROM runs WHERE id = ?1")?.execute([&run.0])?;
    Ok(())
}

/// Names of the folders in `runs` that haven't changed for [`ORPHAN_AGE`].
fn old_folders(runs: &Path, now: Timestamp) -> io::Result<Vec<String>> {
    let mut old = Vec::new();
    for (entry, metadata) in entries(runs)? {
        let changed = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let age = u128::from(now.0).saturating_sub(changed);
        if metadata.is_dir() && age >= ORPHAN_AGE.as_millis() {
            old.extend(entry.file_name().into_string());
        }
    }
    old.sort_unstable();
    Ok(old)
}

/// The total size of the files below a folder in bytes; 0 if it doesn't exist. Links aren't followed.
fn size(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for (entry, metadata) in entries(folder)? {
        bytes += if metadata.is_dir() { size(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}

/// The entries of a folder, without those that another process removes at the same time.
fn entries(folder: &Path) -> io::Result<Vec<(DirEntry, Metadata)>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        match entry.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            metadata => found.push((entry, metadata?)),
        }
    }
    Ok(found)
}
