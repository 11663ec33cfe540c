//! `run` and `resume`.

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;

use stagewright_engine::{Event, EventKind, Input, Outcome, RunId, RunState, RunValues, Scheduler, Status};
use stagewright_model::{Plan, StageIndex};
use stagewright_store::{RunRecord, Store};

use crate::args::{DriveArgs, Global, ResumeArgs, RunArgs};
use crate::clock::{SystemClock, compact};
use crate::conduct::{Run, conduct};
use crate::error::CommandError;
use crate::exit::Exit;
use crate::host::Host;
use crate::repository::Repository;
use crate::{load, select, source};

/// `run`.
pub(crate) fn run(global: &Global, repository: &Repository, args: &RunArgs) -> Result<Exit, CommandError> {
    let file = repository.pipeline(args.pipeline.pipeline.as_deref())?;
    let plan = load::plan(global, repository, &file)?;
    let inputs = load::inputs(&plan, &args.pipeline.inputs)?;
    let left_out = select::left_out(&plan, &args.only, &args.skip)?;
    let host = Host::open(repository, &plan)?;
    host.check(&file, &plan, &left_out)?;
    let mut store = Store::open(&repository.state)?;
    let values = RunValues {
        inputs,
        source: source::values(&source::read(&repository.root)),
        file: file.name.clone(),
        rehearsal: args.rehearse,
        left_out,
    };
    let id = new_id();
    store.create_run(&RunRecord {
        id: id.clone(),
        pipeline: plan.name.clone(),
        file: file.name,
        pipeline_text: file.text,
        started: SystemClock::timestamp(),
        rehearsal: args.rehearse,
        inputs: values.inputs.clone(),
        source: values.source.clone(),
    })?;
    let lease = store.claim(&id)?;
    let scheduler = Scheduler::new(Arc::new(plan), values, jobs(&args.drive));
    let run = Run {
        first: Input::Start(id.clone()),
        id,
        scheduler,
        runner: host.runner(),
        store,
        lease,
        rehearsal: args.rehearse,
        past: Vec::new(),
    };
    let result = conduct(global, repository, &args.drive, run);
    if args.rehearse && !args.keep_services {
        host.stop_rehearsal()?;
    }
    result
}

/// `resume`.
pub(crate) fn resume(global: &Global, repository: &Repository, args: &ResumeArgs) -> Result<Exit, CommandError> {
    let store = Store::open(&repository.state)?;
    let id = store.find(&args.run)?;
    let lease = store.claim(&id)?;
    let Some(record) = store.run(&id)? else {
        return Err(CommandError::internal(format!("run {id} has no record")));
    };
    let past = store.events(&id)?;
    let file = crate::repository::PipelineFile { name: record.file.clone(), text: record.pipeline_text.clone() };
    let plan = load::plan(global, repository, &file)?;
    refuse_finished(&id, &past)?;
    let uncertain = uncertain_deploys(&plan, &past)?;
    let from = select::named(&plan, "--from", &args.from)?;
    if let Some(index) = uncertain.iter().find(|index| !from.contains(index)) {
        let stage = &plan.stage(*index).id;
        return Err(CommandError::not_ready(format!(
            "run {id} was interrupted while `{stage}` was under way, and nobody knows how far its deploy came"
        ))
        .hint("`stagewright service status` shows what runs now")
        .hint(format!("to run the stage again: stagewright resume {id} --from {stage}")));
    }
    let values = RunValues {
        inputs: record.inputs,
        source: record.source,
        file: record.file,
        rehearsal: record.rehearsal,
        left_out: BTreeMap::new(),
    };
    let host = Host::open(repository, &plan)?;
    host.check(&file, &plan, &BTreeMap::new())?;
    let scheduler = Scheduler::restore(Arc::new(plan), values, jobs(&args.drive), &past).map_err(|error| {
        CommandError::internal(format!("the journal of run {id} doesn't hold together")).caused_by(error)
    })?;
    let run = Run {
        first: Input::Resume { reason: "asked for".to_owned() },
        id,
        scheduler,
        runner: host.runner(),
        store,
        lease,
        rehearsal: record.rehearsal,
        past,
    };
    let result = conduct(global, repository, &args.drive, run);
    if record.rehearsal {
        host.stop_rehearsal()?;
    }
    result
}

fn refuse_finished(id: &RunId, past: &[Event]) -> Result<(), CommandError> {
    match past.last().map(|event| &event.kind) {
        Some(EventKind::RunEnded { conclusion: Outcome::Succeeded }) => {
            Err(CommandError::not_ready(format!("run {id} has succeeded: nothing is left to do")))
        }
        None => Err(CommandError::not_ready(format!("run {id} was never started")).hint("start anew: stagewright run")),
        Some(_) => Ok(()),
    }
}

/// Stages with an environment whose attempt has a beginning in the journal and no end.
fn uncertain_deploys(plan: &Plan, past: &[Event]) -> Result<Vec<StageIndex>, CommandError> {
    let mut state = RunState::new(plan.stages.iter().map(|stage| stage.id.clone()).collect());
    for event in past {
        state
            .apply(&event.kind)
            .map_err(|error| CommandError::internal("the journal doesn't hold together").caused_by(error))?;
    }
    let running = |index: &StageIndex| matches!(state.stage(*index).status, Status::Running(_));
    Ok(plan.indices().filter(running).filter(|index| plan.stage(*index).environment.is_some()).collect())
}

fn jobs(args: &DriveArgs) -> usize {
    args.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// The second of the start, and enough chance that two runs of one second differ.
fn new_id() -> RunId {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let mut chance = RandomState::new().hash_one(std::process::id());
    let suffix = std::iter::repeat_with(|| {
        let digit = DIGITS[(chance % 32) as usize];
        chance /= 32;
        char::from(digit)
    });
    RunId(format!("{}-{}", compact(SystemClock::timestamp()), suffix.take(4).collect::<String>()))
}
