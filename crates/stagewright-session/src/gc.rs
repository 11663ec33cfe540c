//! Garbage collection: removes old runs with everything that only they need, unused results of the cache, and unused
//! download caches.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use stagewright_cache::{CapturesNeeded, gc_captures};
use stagewright_engine::{Outcome, RunId};
use stagewright_plugin_host::{remove_kept, remove_runs};
use stagewright_store::{GcReport, Retention, RunFilter, RunPhase, Store};

use crate::clock::SystemClock;
use crate::error::SessionError;
use crate::repository::Repository;
use crate::session::Session;

/// What is kept.
#[derive(Clone, Copy, Debug)]
pub struct GcRequest {
    /// Keep this many runs of each pipeline.
    pub runs: u32,
    /// Keep runs younger than this, and results and download caches that were used within this time.
    pub age: Duration,
    /// Whether to only report what would be removed.
    pub dry_run: bool,
}

/// What was removed, or would be.
#[derive(Clone, Debug, Default)]
pub struct GcSummary {
    /// Runs.
    pub runs: Vec<RunId>,
    /// Folders of runs that aren't in the database.
    pub orphans: Vec<String>,
    /// Results of the cache.
    pub results: u64,
    /// Download caches of stages.
    pub download_caches: u64,
    /// Captures of files.
    pub captures: u64,
    /// The total size in bytes.
    pub bytes: u64,
}

impl Session {
    /// Removes what the request doesn't keep. Never removes what an environment runs on or can be rolled back to.
    ///
    /// Blocks on disk access.
    ///
    /// # Errors
    /// If something can't be read or removed.
    pub fn collect_garbage(&self, request: &GcRequest) -> Result<GcSummary, SessionError> {
        let GcRequest { runs, age, dry_run } = *request;
        let store = self.store()?;
        let retention = Retention { runs, age, dry_run, ..Retention::default() };
        let report = store.lock().gc(&retention, SystemClock::timestamp())?;
        let needed = captures_needed(&store.lock(), &report.runs)?;
        let mut bytes = report.file_bytes + report.database_bytes;
        if !dry_run {
            bytes += remove_files_of_runs(&self.repository, &report)?;
            remove_abandoned_rehearsals(&self.repository, &store.lock())?;
        }
        let failed = |error| SessionError::internal("can't remove the captures of old runs").caused_by(error);
        let needs = |run: &str| needed.get(run).copied().unwrap_or_default();
        let captures = gc_captures(&self.repository.captures(), needs, dry_run).map_err(failed)?;
        let failed = |error| SessionError::internal("can't remove old results from the cache").caused_by(error);
        let cached = stagewright_cache::gc(&self.repository.results(), age, dry_run).map_err(failed)?;
        let failed = |error| SessionError::internal("can't remove old download caches of stages").caused_by(error);
        let downloads = remove_kept(&self.repository.kept(), age, dry_run).map_err(failed)?;
        bytes += captures.bytes + cached.bytes + downloads.bytes;
        Ok(GcSummary {
            runs: report.runs,
            orphans: report.orphans,
            results: cached.results,
            download_caches: downloads.caches,
            captures: captures.captures,
            bytes,
        })
    }
}

/// Removes the artifacts of runs and the stand-ins of rehearsals, whose services were stopped at their end unless they
/// were kept on request.
fn remove_files_of_runs(repository: &Repository, report: &GcReport) -> Result<u64, SessionError> {
    let failed = |error| SessionError::internal("can't remove the artifacts of old runs").caused_by(error);
    let removed = remove_runs(&repository.artifacts(), &report.runs).map_err(failed)?;
    for run in &report.runs {
        // Errors are ignored, because a service that was kept may still be writing there.
        let _ = stagewright_files::remove_tree(&repository.rehearsals().join(&run.0));
    }
    Ok(removed.bytes)
}

/// Removes the files of rehearsals that were killed before their run was recorded, such as a copy of the workspace.
fn remove_abandoned_rehearsals(repository: &Repository, store: &Store) -> Result<(), SessionError> {
    // A run that starts at this moment has no row yet.
    const AGE: Duration = Duration::from_secs(24 * 60 * 60);
    let known = store.list(&RunFilter { pipeline: None, limit: None })?;
    let known: BTreeSet<&str> = known.iter().map(|row| row.id.0.as_str()).collect();
    for entry in repository.rehearsals().read_dir().into_iter().flatten().flatten() {
        let is_known = entry.file_name().to_str().is_some_and(|name| known.contains(name));
        let age = entry.metadata().ok().and_then(|found| found.modified().ok()?.elapsed().ok());
        if !is_known && age.is_some_and(|age| age > AGE) {
            // An error is ignored: the next collection tries again.
            let _ = stagewright_files::remove_tree(&entry.path());
        }
    }
    Ok(())
}

/// What each run that isn't `removed` needs of its captures: a run that can be resumed needs the captured files, any
/// other run only the lists of the files that its stages produced.
fn captures_needed(store: &Store, removed: &[RunId]) -> Result<BTreeMap<String, CapturesNeeded>, SessionError> {
    let rows = store.list(&RunFilter { pipeline: None, limit: None })?;
    let kept = rows.into_iter().filter(|row| !removed.contains(&row.id));
    let needs = kept.map(|row| match row.state {
        RunPhase::Ended(Outcome::Succeeded | Outcome::Rejected) => (row.id.0, CapturesNeeded::Lists),
        _ => (row.id.0, CapturesNeeded::All),
    });
    Ok(needs.collect())
}
