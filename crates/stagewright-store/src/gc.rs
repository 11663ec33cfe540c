//! Removes what is too old to be of use: runs with their logs, and folders that no run has.
//!
//! A run is removed only while its lock is held, so that it can't be resumed meanwhile: first its rows, in one
//! transaction with the decision that it may go, then its folder. A crash in between leaves a folder without rows,
//! which the next time finds.
//!
//! The ledger stays, and so do environments: fences must not start again.

use std::collections::HashSet;
use std::fs::{self, DirEntry, Metadata};
use std::io;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use rusqlite::{Connection, Transaction};
use stagewright_engine::{RunId, StoreError, Timestamp};

use crate::row::integer;
use crate::run_lock::{self, RunLock};
use crate::schema::beside;
use crate::store::run_directory;
use crate::{Store, error, ledger};

/// Runs that are removed in one transaction. Others that want to write wait for it.
const BATCH: usize = 50;

/// Pages that are given back in one transaction.
const PAGES: u32 = 2_000;

/// How old a folder that no run has must be. A new run's folder is made before its row.
const ORPHAN: Duration = Duration::from_hours(24);

/// What [`Store::gc`] keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// So many of each pipeline's newest runs; of its rehearsals, as many again.
    pub runs: u32,
    /// Runs that ended no longer ago than this.
    pub age: Duration,
    /// The runs that made so many of each environment's newest releases that proved good and still stand: to go back
    /// to one takes its run. The run of the current release and that of the last known good one are kept in any case.
    pub releases: u32,
    /// Whether only to tell what would be removed.
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
    /// Runs, oldest first. What others keep for them (artifacts) is of no use any more.
    pub runs: Vec<RunId>,
    /// Names of folders in `runs/` that no run has.
    pub orphans: Vec<String>,
    /// Bytes of logs and other files.
    pub file_bytes: u64,
    /// Bytes by which the database and its write-ahead log are smaller; 0 when nothing was removed.
    pub database_bytes: u64,
}

impl Store {
    /// Removes runs that ended, are older than `policy` wants them to be, and of which nothing stands that somebody
    /// might go back to. Runs that a process drives are left alone, and so is, with that, whoever has an environment
    /// or a concurrency group.
    ///
    /// May be called while runs are driven.
    ///
    /// # Errors
    /// When the database can't be read or written, or a folder can't be removed. What was removed by then stays so.
    pub fn gc(&mut self, policy: &Retention, now: Timestamp) -> Result<GcReport, StoreError> {
        let mut report = GcReport::default();
        if policy.dry_run {
            let old = old_runs(&self.connection, policy, now).map_err(self.failed("look for old runs"))?;
            report.runs = old.into_iter().filter(|run| !run_lock::is_held(&self.run_directory(run))).collect();
            for run in &report.runs {
                report.file_bytes += self.sized(&self.run_directory(run))?;
            }
        } else {
            let before = self.database_size();
            while self.remove_batch(policy, now, &mut report)? > 0 {}
            if !report.runs.is_empty() {
                self.give_back().map_err(self.failed("give space back to the file system"))?;
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
            for run in old_runs(transaction, policy, now)? {
                // Somebody is at it, or looks at it this instant: another time.
                let Ok(lease) = run_lock::take(&run_directory(&directory, &run), &run, 1) else { continue };
                remove(transaction, &run)?;
                removed.push((run, lease));
                if removed.len() == BATCH {
                    break;
                }
            }
            Ok(removed)
        })?;
        let count = removed.len();
        for (run, _lease) in removed {
            report.file_bytes += self.remove_folder(&self.run_directory(&run))?;
            report.runs.push(run);
        }
        Ok(count)
    }

    fn remove_orphans(&self, policy: &Retention, now: Timestamp, report: &mut GcReport) -> Result<(), StoreError> {
        let runs = self.directory.join("runs");
        // Listed before the rows are read: a run that is made meanwhile has no folder here, or has its row.
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
            report.file_bytes += if policy.dry_run { self.sized(&folder)? } else { self.remove_folder(&folder)? };
            report.orphans.push(name);
        }
        Ok(())
    }

    /// Gives the bytes that its files had.
    fn remove_folder(&self, folder: &Path) -> Result<u64, StoreError> {
        let bytes = self.sized(folder)?;
        match stagewright_files::remove_tree(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error::file("remove", folder, error)),
            _ => Ok(bytes),
        }
    }

    fn sized(&self, folder: &Path) -> Result<u64, StoreError> {
        size(folder).map_err(|error| error::file("look into", folder, error))
    }

    fn database_size(&self) -> u64 {
        let path = self.database();
        [beside(&path, "-wal"), path].iter().filter_map(|path| path.metadata().ok()).map(|file| file.len()).sum()
    }

    /// Moves the free pages to the end of the file and cuts them off, a few at a time.
    fn give_back(&self) -> rusqlite::Result<()> {
        let free = || self.connection.pragma_query_value(None, "freelist_count", |row| row.get::<_, i64>(0));
        let mut before = i64::MAX;
        let mut left = free()?;
        // They stay as many in a database that was made without this; its free pages are used again.
        while 0 < left && left < before {
            // It works while it is stepped through.
            let mut statement = self.connection.prepare(&format!("PRAGMA incremental_vacuum({PAGES})"))?;
            let mut rows = statement.query([])?;
            while rows.next()?.is_some() {}
            before = left;
            left = free()?;
        }
        // Readers may keep a part of the log; then it goes another time.
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
    }
}

/// Runs that ended and that nothing speaks for, oldest first.
fn old_runs(connection: &Connection, policy: &Retention, now: Timestamp) -> rusqlite::Result<Vec<RunId>> {
    let age = u64::try_from(policy.age.as_millis()).unwrap_or(u64::MAX);
    let ended_by = integer(now.0.saturating_sub(age));
    let kept = runs_to_go_back_to(connection, policy.releases)?;
    let mut statement = connection.prepare_cached(
        "SELECT id FROM
             (SELECT id, number, ended, row_number() OVER (PARTITION BY pipeline, rehearsal ORDER BY number DESC)
                  AS place FROM runs)
         WHERE place > ?1 AND ended < ?2 ORDER BY number",
    )?;
    let old = statement.query_map((policy.runs, ended_by), |row| row.get::<_, String>(0))?;
    old.filter(|run| !run.as_ref().is_ok_and(|run| kept.contains(run))).map(|run| run.map(RunId)).collect()
}

fn runs_to_go_back_to(connection: &Connection, releases: u32) -> rusqlite::Result<HashSet<String>> {
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
        let standing = ledger::standing(connection, &row.get::<_, String>(0)?, None, None)?;
        kept.extend([standing.current, standing.last_known_good].into_iter().flatten().map(|release| release.run.0));
    }
    Ok(kept)
}

/// What belongs to a run goes with it, by the schema's foreign keys.
fn remove(transaction: &Transaction<'_>, run: &RunId) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("UPDATE environments SET holder = NULL, beat = NULL WHERE holder = ?1")?
        .execute([&run.0])?;
    transaction.prepare_cached("DELETE FROM runs WHERE id = ?1")?.execute([&run.0])?;
    Ok(())
}

/// Names of the folders in `runs` that nothing was added to for a while.
fn old_folders(runs: &Path, now: Timestamp) -> io::Result<Vec<String>> {
    let mut old = Vec::new();
    for (entry, metadata) in entries(runs)? {
        let changed = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let age = u128::from(now.0).saturating_sub(changed);
        if metadata.is_dir() && age >= ORPHAN.as_millis() {
            old.extend(entry.file_name().into_string());
        }
    }
    old.sort_unstable();
    Ok(old)
}

/// Bytes of the files below a folder; 0 when it isn't there. Links are not followed.
fn size(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for (entry, metadata) in entries(folder)? {
        bytes += if metadata.is_dir() { size(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}

/// What is in a folder, as far as nobody else removes it at this moment.
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
