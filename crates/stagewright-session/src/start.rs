//! `run` and `rerun`.

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;

use serde_json::Value as Json;
use stagewright_engine::{
    ConcurrencyGroup, Event, EventKind, Input, Outcome, ReleaseWay, RunId, RunValues, Scheduler, concurrency_group,
};
use stagewright_model::list;
use stagewright_model::{Plan, StageIndex};
use stagewright_report::text;
use stagewright_store::{RunRecord, Store};

use crate::admission::admit;
use crate::args::{DriveArgs, Global, RerunArgs, RunArgs};
use crate::cache::CacheUse;
use crate::clock::{SystemClock, compact};
use crate::command::decide::user;
use crate::conduct::{Run, conduct};
use crate::error::CommandError;
use crate::exit::Exit;
use crate::git::Git;
use crate::host::{Host, RunMode};
use crate::repository::{PipelineFile, Repository};
use crate::{affected, binding, console, git, load, packages, select};

/// All that a new run is made of.
pub(crate) struct NewRun {
    pub(crate) file: PipelineFile,
    pub(crate) plan: Plan,
    pub(crate) host: Host,
    pub(crate) inputs: BTreeMap<String, Json>,
    pub(crate) source: Json,
    /// What is checked out.
    pub(crate) git: Git,
    pub(crate) mode: RunMode,
    /// Stages that are left out, each with the reason.
    pub(crate) left_out: BTreeMap<StageIndex, String>,
    /// Outputs of stages that are left out, from an earlier run.
    pub(crate) inherited: BTreeMap<StageIndex, (RunId, BTreeMap<String, Json>)>,
    pub(crate) way: ReleaseWay,
    pub(crate) keep_services: bool,
}

/// `run`.
pub(crate) fn run(global: &Global, repository: &Repository, args: &RunArgs) -> Result<Exit, CommandError> {
    let file = repository.pipeline(args.pipeline.pipeline.as_deref())?;
    let plan = load::plan(global, repository, &file)?;
    let inputs = load::inputs(&plan, &args.pipeline.inputs)?;
    let mut left_out = select::left_out(&plan, &args.only, &args.skip)?;
    if args.affected {
        let changes = affected::changes(repository, args.base.as_deref())?;
        let touched = changes.stages(&plan, &file)?;
        if touched.is_empty() {
            console::say(text!("no stage of {} is affected by what changed since {}", file.name, changes.since));
            return Ok(Exit::Success);
        }
        left_out.extend(select::unaffected(&plan, &touched, &changes.since));
    }
    let mode = match args.rehearse {
        true => RunMode::Rehearsal { offline: args.offline },
        false => RunMode::Real,
    };
    let host = Host::open(repository, &plan, jobs(&args.drive), mode)?;
    let git = git::read(repository)?;
    let new = NewRun {
        source: git::values(&git, &user(repository)),
        git,
        file,
        plan,
        host,
        inputs,
        mode,
        left_out,
        inherited: BTreeMap::new(),
        way: ReleaseWay::Deploy,
        keep_services: args.keep_services,
    };
    start(global, repository, &args.drive, new)
}

/// `rerun`: the pipeline's text, the inputs and the selection of stages are those of the earlier run.
pub(crate) fn rerun(global: &Global, repository: &Repository, args: &RerunArgs) -> Result<Exit, CommandError> {
    let store = Store::open(&repository.state)?;
    let id = store.find(&args.run)?;
    let record = store.run(&id)?.ok_or_else(|| CommandError::internal(format!("run {id} has no record")))?;
    let past = store.events(&id)?;
    drop(store);
    let file = PipelineFile { name: record.file, text: record.pipeline_text };
    let plan = load::plan(global, repository, &file)?;
    let mode = mode_of(record.rehearsal, &record.source);
    let host = Host::open(repository, &plan, jobs(&args.drive), mode)?;
    let git = git::read(repository)?;
    let mut changes = binding::changes(&plan, &past, &record.source, &host.facts(&plan)?, Some(&git));
    changes.extend(packages::changes(&past, &record.source, &plan, host.packages()));
    if !args.accept_changes {
        binding::refuse(&id.0, "rerun", &changes)?;
    }
    let new = NewRun {
        left_out: left_out_before(&past),
        file,
        plan,
        host,
        inputs: record.inputs,
        source: git::values(&git, &user(repository)),
        git,
        mode,
        inherited: BTreeMap::new(),
        way: ReleaseWay::Deploy,
        keep_services: false,
    };
    start(global, repository, &args.drive, new)
}

/// Checks what can be checked, records the run, and drives it.
pub(crate) fn start(
    global: &Global,
    repository: &Repository,
    drive: &DriveArgs,
    new: NewRun,
) -> Result<Exit, CommandError> {
    let NewRun { file, mut plan, host, inputs, mut source, git, mode, left_out, inherited, way, keep_services } = new;
    let (rehearsal, offline) = (mode.is_rehearsal(), mode.is_offline());
    if let (Json::Object(fields), true) = (&mut source, offline) {
        fields.insert(OFFLINE.to_owned(), true.into());
    }
    if let (Json::Object(fields), Some(missing)) = (&mut source, host.unsandboxed()) {
        fields.insert("unsandboxed".to_owned(), missing.what.clone().into());
    }
    let policy = admit(global, repository, &host, &file, &mut plan, drive.locked)?;
    packages::record(&mut source, &plan, host.packages());
    let cache = CacheUse::of(policy.as_ref(), drive, repository, mode)?;
    host.check(global, &file, &plan, &left_out)?;
    let plugins = host.facts(&plan)?;
    let id = new_id();
    let [binding, captured_binding] =
        [Some(&git), None].map(|git| Some(binding::digest(&file.text, &inputs, &source, git, &plugins)));
    let values = RunValues {
        inputs,
        source,
        file: file.name.clone(),
        rehearsal,
        offline,
        left_out,
        inherited,
        plugins,
        binding,
        // A rehearsal answers for itself, and deploys nothing: nobody approves of its files.
        captured_binding: captured_binding.filter(|_| !rehearsal),
        way,
    };
    check_group(&file, &plan, &values, &id)?;
    let mut store = Store::open(&repository.state)?;
    store.create_run(&RunRecord {
        id: id.clone(),
        pipeline: plan.name.clone(),
        file: file.name.clone(),
        pipeline_text: file.text,
        started: SystemClock::timestamp(),
        rehearsal,
        inputs: values.inputs.clone(),
        source: values.source.clone(),
    })?;
    let lease = store.claim(&id)?;
    let caching = host.runner(repository, &file.name, cache);
    let run = Run {
        first: Input::Start(id.clone()),
        id: id.clone(),
        scheduler: Scheduler::new(Arc::new(plan), values, jobs(drive)),
        runner: host.capturing(repository, &caching),
        caching,
        store,
        lease,
        rehearsal,
        past: Vec::new(),
    };
    let result = conduct(global, repository, drive, run);
    if rehearsal && !keep_services {
        host.stop_rehearsal(&id)?;
    }
    result
}

/// A run whose group has no name is refused; one whose group's name has a gap shares it with runs that it isn't meant to.
fn check_group(file: &PipelineFile, plan: &Plan, values: &RunValues, id: &RunId) -> Result<(), CommandError> {
    let group = concurrency_group(plan, values, Some(id)).map_err(|error| {
        CommandError::new(Exit::InvalidPipeline, format!("{}: `concurrency.group` has no value: {error}", file.name))
            .hint("in an expression, `has(x.y) ? x.y : 'none'` stands for a field that may be missing")
    })?;
    if let Some(ConcurrencyGroup { name, empty }) = group.filter(|group| !group.empty.is_empty()) {
        let (is, them) = if empty.len() == 1 { ("is", "it") } else { ("are", "them") };
        console::say(text!(
            "warning: the concurrency group is `{name}`, because {} {is} empty: all runs without {them} share the group",
            list(empty.iter().map(|expression| format!("`{expression}`")))
        ));
        if empty.iter().any(|expression| expression == "git.branch") {
            console::say(text!(
                "  help: HEAD is detached; {} tells its commits apart",
                "`${{ git.branch == null ? git.commit : git.branch }}`"
            ));
        }
    }
    Ok(())
}

/// Under which a run's source says that it is a rehearsal without a network.
const OFFLINE: &str = "offline";

/// How a run that has a record was started.
pub(crate) fn mode_of(rehearsal: bool, source: &Json) -> RunMode {
    match rehearsal {
        true => RunMode::Rehearsal { offline: source.get(OFFLINE) == Some(&Json::Bool(true)) },
        false => RunMode::Real,
    }
}

/// Stages that a run ended at its very start, before any of them could have had a say.
fn left_out_before(past: &[Event]) -> BTreeMap<StageIndex, String> {
    let at_start = past.iter().skip(1).map_while(|event| match &event.kind {
        EventKind::OutputsInherited { .. } => Some(None),
        EventKind::StageEnded {
            stage,
            outcome: Outcome::Skipped,
            conclusion: Outcome::Succeeded,
            reason: Some(reason),
        } => Some(Some((*stage, reason.clone()))),
        _ => None,
    });
    at_start.flatten().collect()
}

pub(crate) fn jobs(args: &DriveArgs) -> usize {
    args.jobs.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from)
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
