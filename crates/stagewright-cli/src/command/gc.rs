//! `gc`: removes old runs with their files, and unused cache results, download caches and captures.

use std::time::Duration;

use stagewright_api as api;
use stagewright_model::count;
use stagewright_report::wire::ToWire as _;
use stagewright_report::{Printer, size, text};
use stagewright_session::{GcRequest, GcSummary, Session};

use crate::args::GcArgs;
use crate::error::CommandError;
use crate::exit::Exit;

/// `gc`.
pub(crate) fn gc(session: &Session, args: &GcArgs, out: &mut Printer) -> Result<Exit, CommandError> {
    let age = Duration::from_secs(u64::from(args.days) * 24 * 60 * 60);
    let removed = session.collect_garbage(&GcRequest { runs: args.keep, age, dry_run: args.dry_run })?;
    if args.json {
        let GcSummary { runs, orphans, results, download_caches, captures, bytes } = removed;
        out.json(&api::GcAnswer {
            removed: runs.to_wire(),
            orphans,
            results,
            download_caches,
            captures,
            bytes,
            dry_run: args.dry_run,
        })?;
        return Ok(Exit::Success);
    }
    let verb = if args.dry_run { "would be removed" } else { "removed" };
    for run in &removed.runs {
        out.line(text!("run {run} {verb}"))?;
    }
    for orphan in &removed.orphans {
        out.line(text!("folder {orphan} of an unknown run {verb}"))?;
    }
    if removed.results > 0 {
        out.line(text!("{} {verb}", count(removed.results, "unused cache result")))?;
    }
    if removed.download_caches > 0 {
        out.line(text!("{} {verb}", count(removed.download_caches, "unused download cache")))?;
    }
    if removed.captures > 0 {
        out.line(text!("{} {verb}", count(removed.captures, "unused capture")))?;
    }
    let runs = count(removed.runs.len(), "run");
    out.line(text!("{runs} {verb}, {}", size(removed.bytes)))?;
    Ok(Exit::Success)
}
