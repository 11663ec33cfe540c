//! `gc`: removes old runs with all that only they need, unused results of the cache, and unused download caches.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use stagewright_cache::{CapturesNeeded, RemovedCaptures, gc_captures};
use stagewright_engine::{Outcome, RunId};
use stagewright_model::count;
use stagewright_plugin_host::{remove_kept, remove_runs};
use stagewright_report::{Printer, text};
use stagewright_session::{Repository, Session, SystemClock};
use stagewright_store::{Filter, Retention, RunState, Store};

use crate::args::GcArgs;
use crate::error::CommandError;
use crate::exit::Exit;

/// `gc`.
pub(crate) fn gc(session: &Session, args: &GcArgs, out: &mut Printer) -> Result<Exit, CommandError> {
    let repository = session.repository();
    let shared = session.store()?;
    let mut store = shared.lock();
    let age = Duration::from_secs(u64::from(args.days) * 24 * 60 * 60);
    let policy = Retention { runs: args.keep, age, dry_run: args.dry_run, ..Retention::default() };
    let report = store.gc(&policy, SystemClock::timestamp())?;
    let mut bytes = report.file_bytes + report.database_bytes;
    if !args.dry_run {
        let removed = remove_runs(&repository.artifacts(), &report.runs);
        let failed = |error| CommandError::internal("can't remove the artifacts of old runs").caused_by(error);
        bytes += removed.map_err(failed)?.bytes;
        for run in &report.runs {
            // Its services were stopped when it ended, unless they were to be kept.
            let _ = stagewright_files::remove_tree(&repository.rehearsals().join(&run.0));
        }
    }
    let captures = remove_captures(repository, &store, &report.runs, args.dry_run)?;
    bytes += captures.bytes;
    let failed = |error| CommandError::internal("can't remove old results from the cache").caused_by(error);
    let cached = stagewright_cache::gc(&repository.results(), age, args.dry_run).map_err(failed)?;
    let failed = |error| CommandError::internal("can't remove old download caches of stages").caused_by(error);
    let downloads = remove_kept(&repository.kept(), age, args.dry_run).map_err(failed)?;
    bytes += cached.bytes + downloads.bytes;
    if args.json {
        let (runs, orphans, results) = (&report.runs, &report.orphans, cached.results);
        let told = json!({
            "removed": runs, "orphans": orphans, "results": results, "download-caches": downloads.caches,
            "captures": captures.captures, "bytes": bytes, "dry-run": args.dry_run
        });
        out.json(&told)?;
        return Ok(Exit::Success);
    }
    let verb = if args.dry_run { "would be removed" } else { "removed" };
    for run in &report.runs {
        out.line(text!("run {run} {verb}"))?;
    }
    for orphan in &report.orphans {
        out.line(text!("folder of {orphan}, which no run has, {verb}"))?;
    }
    if cached.results > 0 {
        out.line(text!("{} of the cache, unused since, {verb}", count(cached.results, "result")))?;
    }
    if downloads.caches > 0 {
        out.line(text!("{} of stages {verb}", count(downloads.caches, "download cache")))?;
    }
    if captures.captures > 0 {
        out.line(text!("{} of files, not needed by an unfinished run, {verb}", count(captures.captures, "capture")))?;
    }
    let count = report.runs.len();
    out.line(text!(
        "{count} run{} {verb}, {:.1} MiB",
        if count == 1 { "" } else { "s" },
        bytes as f64 / f64::from(1 << 20)
    ))?;
    Ok(Exit::Success)
}

/// A run that may be gone on with needs the files that were captured for it; one that is kept, what its stages made.
fn remove_captures(
    repository: &Repository,
    store: &Store,
    removed: &[RunId],
    dry_run: bool,
) -> Result<RemovedCaptures, CommandError> {
    let needs: BTreeMap<String, CapturesNeeded> = store
        .list(&Filter { pipeline: None, limit: None })?
        .into_iter()
        .filter(|row| !removed.contains(&row.id))
        .map(|row| match row.state {
            RunState::Ended(Outcome::Succeeded | Outcome::Rejected) => (row.id.0, CapturesNeeded::Lists),
            _ => (row.id.0, CapturesNeeded::All),
        })
        .collect();
    let failed = |error| CommandError::internal("can't remove the captures of old runs").caused_by(error);
    let needs = |run: &str| needs.get(run).copied().unwrap_or_default();
    gc_captures(&repository.captures(), needs, dry_run).map_err(failed)
}
