//! `resume`: goes on with a run, on what it was started with.

use std::collections::BTreeMap;
use std::sync::Arc;

use stagewright_engine::{Event, EventKind, Input, Outcome, ReleaseWay, RunId, RunValues, Scheduler};
use stagewright_report::text;
use stagewright_store::Store;

use crate::admission::admit;
use crate::args::{DriveArgs, Global, ResumeArgs};
use crate::cache::CacheUse;
use crate::command::rollback::without_conditions;
use crate::command::run::{jobs, mode_of};
use crate::conduct::{Run, conduct};
use crate::error::CommandError;
use crate::exit::Exit;
use crate::host::Host;
use crate::repository::{PipelineFile, Repository};
use crate::{binding, console, git, load, packages, select};

/// `resume`.
pub(crate) fn resume(global: &Global, repository: &Repository, args: &ResumeArgs) -> Result<Exit, CommandError> {
    let store = Store::open(&repository.state)?;
    let id = store.find(&args.run)?;
    let wanted = Wanted { reason: "asked for", from: &args.from, accept_changes: args.accept_changes };
    go_on(global, repository, &args.drive, store, id, &wanted)
}

/// How a run is gone on with.
pub(crate) struct Wanted<'a> {
    /// Shown to people.
    pub(crate) reason: &'a str,
    /// Stages to run again, by name.
    pub(crate) from: &'a [String],
    pub(crate) accept_changes: bool,
}

/// Drives a run that has a past.
pub(crate) fn go_on(
    global: &Global,
    repository: &Repository,
    drive: &DriveArgs,
    store: Store,
    id: RunId,
    wanted: &Wanted<'_>,
) -> Result<Exit, CommandError> {
    let lease = store.claim(&id)?;
    let Some(record) = store.run(&id)? else {
        return Err(CommandError::internal(format!("run {id} has no record")));
    };
    let past = store.events(&id)?;
    let file = PipelineFile { name: record.file.clone(), text: record.pipeline_text.clone() };
    let mut plan = load::plan(global, repository, &file)?;
    if binding::is_rollback(&record.source) {
        plan = without_conditions(plan);
    }
    let from = select::named(&plan, "--from", wanted.from)?;
    refuse_finished(&id, &past, !from.is_empty())?;
    let mode = mode_of(record.rehearsal, &record.source);
    let host = Host::open(repository, &plan, jobs(drive), mode)?;
    let policy = admit(global, repository, &host, &file, &mut plan, drive.locked)?;
    let cache = CacheUse::of(policy.as_ref(), drive, repository, mode)?;
    host.check(global, &file, &plan, &BTreeMap::new())?;
    let plugins = host.facts(&plan)?;
    let git = git::read(repository)?;
    let way = if binding::is_rollback(&record.source) { ReleaseWay::Rollback } else { ReleaseWay::Deploy };
    let mut bound = record.source.clone();
    packages::record(&mut bound, &plan, host.packages());
    let values = RunValues {
        binding: Some(binding::digest(&file.text, &record.inputs, &bound, Some(&git), &plugins)),
        captured_binding: Some(binding::digest(&file.text, &record.inputs, &bound, None, &plugins))
            .filter(|_| !record.rehearsal),
        inputs: record.inputs,
        source: record.source.clone(),
        file: record.file,
        rehearsal: record.rehearsal,
        offline: mode.is_offline(),
        left_out: BTreeMap::new(),
        inherited: BTreeMap::new(),
        plugins: plugins.clone(),
        way,
    };
    let plan = Arc::new(plan);
    let scheduler = Scheduler::restore(Arc::clone(&plan), values, jobs(drive), &past).map_err(|error| {
        CommandError::internal(format!("the journal of run {id} doesn't hold together")).caused_by(error)
    })?;
    // What happens to the workspace is nothing to stages that are given what was captured.
    let looked_at = scheduler.needs_live_files(&from).then_some(&git);
    let mut changed = binding::changes(&plan, &past, &record.source, &plugins, looked_at);
    changed.extend(packages::changes(&past, &record.source, &plan, host.packages()));
    if !wanted.accept_changes {
        binding::refuse(&id.0, "resume", &changed)?;
    }
    tell_of_new_text(repository, &file);
    let caching = host.runner(repository, &file.name, cache);
    let rehearsed = id.clone();
    let run = Run {
        first: Input::Resume { reason: wanted.reason.to_owned(), from, changed },
        id,
        scheduler,
        runner: host.capturing(repository, &caching),
        caching,
        store,
        lease,
        rehearsal: record.rehearsal,
        past,
    };
    let result = conduct(global, repository, drive, run);
    if record.rehearsal {
        host.stop_rehearsal(&rehearsed)?;
    }
    result
}

/// Not refused: it changes nothing for the run.
fn tell_of_new_text(repository: &Repository, file: &PipelineFile) {
    let now = stagewright_files::read_text(&repository.root.join(&file.name), stagewright_files::CONFIGURATION);
    if now.is_ok_and(|now| now != file.text) {
        console::say(text!(
            "note: {} has changed since the run was started; the run goes by what it was started with",
            file.name
        ));
    }
}

fn refuse_finished(id: &RunId, past: &[Event], again: bool) -> Result<(), CommandError> {
    match past.last().map(|event| &event.kind) {
        Some(EventKind::RunEnded { conclusion: Outcome::Succeeded }) if !again => {
            Err(CommandError::not_ready(format!("run {id} has succeeded: nothing is left to do"))
                .hint(format!(
                    "to run a stage of it again, with all that needs it: stagewright resume {id} --from STAGE"
                ))
                .hint(format!("to start anew on the same inputs: stagewright rerun {id}")))
        }
        None => Err(CommandError::not_ready(format!("run {id} was never started")).hint("start anew: stagewright run")),
        Some(_) => Ok(()),
    }
}
