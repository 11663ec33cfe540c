//! `rollback`: deploys the last release of an environment that proved good once more, as a run of its own.
//!
//! The run has the text, the inputs and the outputs of the run that made the release; all of its stages but those that
//! deployed to the environment are left out. So what is deployed is what was deployed then, by digest.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};
use stagewright_engine::ReleaseWay;
use stagewright_model::Plan;
use stagewright_report::{Printer, text};
use stagewright_store::{ReleaseRow, Store};

use crate::args::{Global, RollbackArgs};
use crate::clock::SystemClock;
use crate::command::decide::user;
use crate::command::history::state_of;
use crate::command::run::{NewRun, start};
use crate::error::CommandError;
use crate::exit::Exit;
use crate::git::Git;
use crate::host::{Host, RunMode};
use crate::load;
use crate::repository::{PipelineFile, Repository};

/// `rollback`.
pub(crate) fn rollback(
    global: &Global,
    repository: &Repository,
    args: &RollbackArgs,
    out: &mut Printer,
) -> Result<Exit, CommandError> {
    let store = Store::open(&repository.state)?;
    let name = &args.environment;
    let Some((current, target)) = choose(&store, args)? else {
        out.line(text!("Nothing was deployed to {name}: there is nothing to go back from, and nothing was done."))?;
        return Ok(Exit::Success);
    };
    if current.as_ref().is_some_and(|current| same(current, &target)) {
        out.line(text!("{name} runs {} already: nothing was done.", target.release.artifact))?;
        return Ok(Exit::Success);
    }
    let from = current.map_or_else(|| "nothing".to_owned(), |current| describe(&current));
    out.line(text!("{name} goes back from {from}"))?;
    out.line(text!("  to {}", describe(&target)))?;
    if args.dry_run {
        out.line(text!("Nothing was done (--dry-run)."))?;
        return Ok(Exit::Success);
    }
    out.flush()?;
    let new = run_of(global, repository, &store, &target)?;
    drop(store);
    start(global, repository, &args.drive, new)
}

/// What runs now, and what to go back to; none when nothing was ever deployed.
fn choose(store: &Store, args: &RollbackArgs) -> Result<Option<(Option<ReleaseRow>, ReleaseRow)>, CommandError> {
    let name = &args.environment;
    let rows = store.releases(name, false, u32::MAX)?;
    let environment =
        store.environments(false, SystemClock::timestamp())?.into_iter().find(|environment| &environment.name == name);
    let (Some(environment), false) = (environment, rows.is_empty()) else { return Ok(None) };
    let history = || format!("stagewright env history {name}");
    let target = match args.to {
        Some(number) => rows.into_iter().find(|row| row.number == number).ok_or_else(|| {
            CommandError::usage(format!("{name} has no release {number}")).hint(format!("`{}` lists them", history()))
        })?,
        None => environment.last_known_good.ok_or_else(|| {
            let message = format!("no earlier release of {name} proved good, so there is none to go back to");
            CommandError::not_ready(message).hint(format!("choose one yourself: `{}`, then --to NUMBER", history()))
        })?,
    };
    Ok(Some((environment.current, target)))
}

fn same(one: &ReleaseRow, other: &ReleaseRow) -> bool {
    one.release.artifact == other.release.artifact && one.release.config == other.release.config
}

fn describe(row: &ReleaseRow) -> String {
    format!("release {} ({}, run {})", row.number, row.release.artifact, row.run)
}

fn run_of(
    global: &Global,
    repository: &Repository,
    store: &Store,
    target: &ReleaseRow,
) -> Result<NewRun, CommandError> {
    let id = &target.run;
    let gone = || {
        CommandError::not_ready(format!("run {id}, which made that release, is no longer kept"))
            .hint("choose another release with --to, or deploy its commit anew")
    };
    let record = store.run(id)?.ok_or_else(gone)?;
    let file = PipelineFile { name: record.file, text: record.pipeline_text };
    let plan = load::plan(global, repository, &file)?;
    let state = state_of(store, id)?;
    let mut left_out = BTreeMap::new();
    let mut inherited = BTreeMap::new();
    for index in plan.indices().filter(|index| *index != target.stage) {
        left_out.insert(index, format!("not part of going back to the release of run {id}"));
        inherited.insert(index, (id.clone(), state.stage(index).outputs.clone()));
    }
    // Of all stages, one runs.
    let host = Host::open(repository, &plan, 1, RunMode::Real)?;
    let mut source = record.source;
    if let Json::Object(fields) = &mut source {
        fields.insert("rollback".to_owned(), json!({ "run": id, "release": target.number }));
    }
    if let Some(Json::Object(event)) = source.get_mut("event") {
        event.insert("actor".to_owned(), json!(user(repository)));
    }
    Ok(NewRun {
        git: Git::default(),
        file,
        plan: without_conditions(plan),
        host,
        inputs: record.inputs,
        source,
        mode: RunMode::Real,
        left_out,
        inherited,
        way: ReleaseWay::Rollback,
        keep_services: false,
    })
}

/// What is deployed once more was once decided on: what the conditions were about, the stages before it, isn't there.
/// Also for a rollback that is gone on with.
pub(crate) fn without_conditions(mut plan: Plan) -> Plan {
    plan.stages.iter_mut().for_each(|stage| stage.condition = None);
    plan
}
