//! Starts new runs and reruns.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;
use std::sync::Arc;

use serde_json::Value as Json;
use stagewright_engine::{
    ConcurrencyGroup, Event, EventKind, GitState, Input, Outcome, ReleaseOrigin, RunId, RunSource, RunValues,
    Scheduler, concurrency_group,
};
use stagewright_model::{Plan, StageIndex};
use stagewright_store::RunRecord;

use crate::cache::{CacheOptions, CacheSettings};
use crate::changed_files;
use crate::clock::{SystemClock, compact};
use crate::drive::{Run, RunParts};
use crate::error::SessionError;
use crate::event::{self, EventDecision, RepositoryEvent};
use crate::failed_tests;
use crate::git::{self, ComparisonBase};
use crate::host::Host;
use crate::learn::{self, WorkspaceCopy};
use crate::load::{self, Pipeline};
use crate::mode::{RunMode, mode_of};
use crate::notice::Notice;
use crate::packages;
use crate::preflight::{admit, check, refuse_missing_grants};
use crate::repository::PipelineFile;
use crate::run_fingerprint;
use crate::select;
use crate::session::Session;

/// Options for carrying out a run.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// The number of stages that run at the same time; the number of processors by default.
    pub jobs: Option<usize>,
    /// How the cache is used, as far as the policy doesn't decide it.
    pub cache: CacheOptions,
    /// Whether to refuse a pipeline that may do more than the lock file permits, or that has other plugins.
    pub locked: bool,
}

/// A request for a new run.
#[derive(Clone, Debug)]
pub struct RunRequest {
    /// Values of the pipeline's inputs, as text. Other inputs have their defaults.
    pub inputs: BTreeMap<String, String>,
    /// Run only these stages and all stages that they need; names or ids, separated by commas. Empty for all stages.
    pub only: Vec<String>,
    /// Leave these stages out, as if they had succeeded.
    pub skip: Vec<String>,
    /// Run only the stages whose files have changed since a commit, the stages that need them, and all that these need.
    pub affected: bool,
    /// Run only if `on` starts the pipeline for this event at HEAD.
    pub event: Option<RepositoryEvent>,
    /// The number of the pull request that `event` is about, which no repository has.
    pub pull_request: Option<u64>,
    /// The commit, branch or tag that `affected` and `event` compare with; by default the main branch, or for pushes the
    /// upstream branch.
    pub base: Option<String>,
    /// Whether it is a rehearsal, or learns.
    pub mode: RunMode,
    /// If it learns: the origins that its programs may reach beside package hosts.
    pub allowed_hosts: Vec<String>,
    /// Whether the services of a rehearsal keep running when it ends.
    pub keep_services: bool,
    /// How it is carried out.
    pub options: RunOptions,
}

impl Default for RunRequest {
    fn default() -> RunRequest {
        RunRequest {
            inputs: BTreeMap::new(),
            only: Vec::new(),
            skip: Vec::new(),
            affected: false,
            event: None,
            pull_request: None,
            base: None,
            mode: RunMode::Real,
            allowed_hosts: Vec::new(),
            keep_services: false,
            options: RunOptions::default(),
        }
    }
}

/// The result of starting a run.
pub enum StartOutcome {
    /// The run, which can be driven now.
    Run(Box<Run>),
    /// There is no run: no stage is affected by the changes, or the event doesn't start the pipeline.
    NotStarted {
        /// Why, as in "nothing has changed since main (abc)".
        reason: String,
    },
}

/// Options for a rerun.
#[derive(Clone, Debug, Default)]
pub struct RerunOptions {
    /// Whether to run even if a plugin, the commit or the working tree has changed since the earlier run was started.
    pub accept_changes: bool,
    /// Whether to run only the tests that failed in the last attempts of the earlier run, with the stages that they need
    /// and the finally stages.
    pub failed_tests: bool,
    /// How it is carried out.
    pub options: RunOptions,
}

/// The parts of a new run.
pub(crate) struct NewRun {
    pub(crate) id: RunId,
    /// The files of a learning run.
    pub(crate) copy: Option<WorkspaceCopy>,
    pub(crate) file: PipelineFile,
    pub(crate) plan: Plan,
    pub(crate) host: Host,
    pub(crate) inputs: BTreeMap<String, Json>,
    pub(crate) source: RunSource,
    /// The state of the checkout.
    pub(crate) git: GitState,
    /// Stages that are left out, each with the reason.
    pub(crate) left_out: BTreeMap<StageIndex, String>,
    /// Outputs of stages that are left out, from an earlier run.
    pub(crate) inherited: BTreeMap<StageIndex, (RunId, BTreeMap<String, Json>)>,
    /// The tests that stages are limited to.
    pub(crate) failed_tests: failed_tests::Selection,
    pub(crate) origin: ReleaseOrigin,
    pub(crate) keep_services: bool,
}

impl Session {
    /// Checks the preconditions of a new run, records it, and locks it for this process.
    ///
    /// # Errors
    /// If the request isn't valid for the pipeline, or a precondition isn't met. Nothing is run or recorded then.
    pub async fn start(&self, pipeline: Pipeline, request: &RunRequest) -> Result<StartOutcome, SessionError> {
        let Pipeline { file, mut plan } = pipeline;
        let inputs = load::inputs(&plan, &request.inputs)?;
        let mut left_out = select::left_out(&plan, &request.only, &request.skip)?;
        let git = self.checked_out().await?;
        let mut source = git::source(&git, &self.user_name());
        if let Some(event) = request.event {
            let (base, number) = (request.base.as_deref(), request.pull_request);
            match event::decide(self, &plan.triggers, event, base, number, &git).await? {
                EventDecision::Starts { reference } => {
                    event.as_str().clone_into(&mut source.trigger.name);
                    source.trigger.reference = reference;
                }
                EventDecision::Ignored(reason) => return Ok(StartOutcome::NotStarted { reason }),
            }
        }
        if request.affected {
            let is_upstream = request.event == Some(RepositoryEvent::Push);
            let base = ComparisonBase { option: "--affected", name: request.base.clone(), is_upstream };
            let changes = changed_files::since(self, base).await?;
            let touched = changes.stages(&plan, &file)?;
            if touched.is_empty() {
                let reason = format!("no stage is affected by the changes since {}", changes.since);
                return Ok(StartOutcome::NotStarted { reason });
            }
            left_out.extend(select::unaffected(&plan, &touched, &changes.since));
        }
        let id = new_id();
        let mut copy = None;
        if request.mode == RunMode::Learning {
            left_out.extend(learn::widen(self, &mut plan, &learn::allowed_hosts(&request.allowed_hosts)?).await?);
            copy = Some(learn::copy(self, &id, &plan).await?);
        }
        let learning = copy.as_ref().map(|copy| Arc::clone(&copy.learning));
        let host = Host::open(self, &plan, jobs(&request.options), request.mode, learning).await?;
        let new = NewRun {
            id,
            copy,
            source,
            git,
            file,
            plan,
            host,
            inputs,
            left_out,
            inherited: BTreeMap::new(),
            failed_tests: BTreeMap::new(),
            origin: ReleaseOrigin::Deploy,
            keep_services: request.keep_services,
        };
        prepare(self, &request.options, new).await.map(|run| StartOutcome::Run(Box::new(run)))
    }

    /// Starts a new run with the pipeline text, the inputs and the selection of stages of an earlier one. `run` is its
    /// id, a unique prefix of its id, or `latest`.
    ///
    /// # Errors
    /// As for [`start`](Session::start), if something has changed since and that isn't accepted, and if there are no
    /// failed tests to run.
    pub async fn rerun(&self, run: &str, request: &RerunOptions) -> Result<Run, SessionError> {
        let (id, record, past) = {
            let store = self.store()?;
            let store = store.lock();
            let id = store.find(run)?;
            let record = store.run(&id)?.ok_or_else(|| SessionError::internal(format!("run {id} has no record")))?;
            let past = store.events(&id)?;
            (id, record, past)
        };
        let file = PipelineFile { name: record.file, text: record.pipeline_text };
        let Pipeline { file, plan } = self.load(file)?;
        learn::refuse_again(&id, &record.source)?;
        let failed = if request.failed_tests { Some(failed_tests::of_run(&id, &past)?) } else { None };
        let mode = mode_of(record.rehearsal, &record.source);
        let host = Host::open(self, &plan, jobs(&request.options), mode, None).await?;
        let git = self.checked_out().await?;
        let facts = host.facts(&plan).await?;
        let mut changes = run_fingerprint::changes(&plan, &past, &record.source, &facts, Some(&git));
        changes.extend(packages::changes(&past, &record.source, &plan, host.packages()));
        if !request.accept_changes {
            let command = if request.failed_tests { "rerun --failed-tests" } else { "rerun" };
            run_fingerprint::refuse(&id.0, &format!("{command} {id}"), &changes)?;
        }
        let mut left_out = left_out_before(&past);
        let mut selection = failed_tests::Selection::new();
        if let Some(failed) = failed {
            for (stage, reason) in select::without_failed_tests(&plan, failed.keys().copied(), &id) {
                left_out.entry(stage).or_insert(reason);
            }
            selection = failed_tests::select(self, &host, &plan, &id, failed).await?;
        }
        let mut source = git::source(&git, &self.user_name());
        // The rerun is for the same event.
        record.source.trigger.name.clone_into(&mut source.trigger.name);
        if record.source.trigger.commit == source.trigger.commit {
            // A commit can have a branch and a tag.
            record.source.trigger.reference.clone_into(&mut source.trigger.reference);
        }
        let new = NewRun {
            id: new_id(),
            copy: None,
            left_out,
            file,
            plan,
            host,
            inputs: record.inputs,
            source,
            git,
            inherited: BTreeMap::new(),
            failed_tests: selection,
            origin: ReleaseOrigin::Deploy,
            keep_services: false,
        };
        prepare(self, &request.options, new).await
    }
}

/// Checks the preconditions, records the run, and locks it.
pub(crate) async fn prepare(session: &Session, options: &RunOptions, new: NewRun) -> Result<Run, SessionError> {
    let NewRun {
        id,
        copy,
        file,
        mut plan,
        host,
        inputs,
        mut source,
        git,
        left_out,
        inherited,
        failed_tests,
        origin,
        keep_services,
    } = new;
    let mode = host.mode();
    source.learning = mode == RunMode::Learning;
    let (rehearsal, offline) = (mode.is_rehearsal(), mode.is_offline());
    source.offline = offline;
    source.unsandboxed = host.unsandboxed().map(|missing| missing.what.clone());
    let policy = admit(session, &host, &file, &mut plan, options.locked).await?;
    packages::record(&mut source, &plan, host.packages());
    let cache = CacheSettings::of(policy.as_ref(), &options.cache, &session.repository, mode)?;
    if origin == ReleaseOrigin::Deploy && mode != RunMode::Learning {
        refuse_missing_grants(session, &host, &file, &plan, &left_out).await?;
    }
    check(session, &host, &file, &plan, &left_out).await?;
    let plugins = host.facts(&plan).await?;
    if source.base.is_none() && host.compares_commits(&plan).await? {
        source.base = session.base().await?;
    }
    let [binding, captured_binding] =
        [Some(&git), None].map(|git| Some(run_fingerprint::digest(&file.text, &inputs, &source, git, &plugins)));
    let values = RunValues {
        inputs,
        source,
        file: file.name.clone(),
        rehearsal,
        offline,
        left_out,
        inherited,
        failed_tests,
        plugins,
        binding,
        // A rehearsal approves its own gates and deploys nothing, so its files aren't captured for approval.
        captured_binding: captured_binding.filter(|_| !rehearsal),
        origin,
    };
    check_group(session, &file, &plan, &values, &id)?;
    let store = session.store()?;
    let record = RunRecord {
        id: id.clone(),
        pipeline: plan.name.clone(),
        file: file.name.clone(),
        pipeline_text: file.text,
        started: SystemClock::timestamp(),
        rehearsal,
        inputs: values.inputs.clone(),
        source: values.source.clone(),
    };
    inherit_artifacts(session, &values.inherited, &id)?;
    store.lock().create_run(&record)?;
    let run_lock = store.lock().lock_run(&id)?;
    let caching = host.runner(&session.repository, &file.name, cache);
    let parts = RunParts {
        first: Input::Start(id.clone()),
        id,
        scheduler: Scheduler::new(Arc::new(plan), values, jobs(options)),
        runner: host.capturing(&session.repository, &caching),
        host,
        caching,
        copy,
        store,
        run_lock,
        rehearsal,
        keep_services,
        past: Vec::new(),
    };
    Ok(Run::new(session, parts))
}

/// Gives a run the artifacts of the runs whose outputs it takes over. They are there before the run is recorded, so that one
/// that is killed and resumed has them.
fn inherit_artifacts(
    session: &Session,
    inherited: &BTreeMap<StageIndex, (RunId, BTreeMap<String, Json>)>,
    to: &RunId,
) -> Result<(), SessionError> {
    let runs: BTreeSet<&RunId> = inherited.values().map(|(run, _)| run).collect();
    runs.into_iter().try_for_each(|from| {
        session.artifact_folder().inherit(from, to).map_err(|error| {
            SessionError::internal(format!("can't take over the artifacts of run {from}")).caused_by(error)
        })
    })
}

/// Refuses a run whose group name can't be evaluated, and notifies of empty expressions in it, because the run then
/// shares the group with unrelated runs.
fn check_group(
    session: &Session,
    file: &PipelineFile,
    plan: &Plan,
    values: &RunValues,
    id: &RunId,
) -> Result<(), SessionError> {
    let group = concurrency_group(plan, values, Some(id)).map_err(|error| {
        SessionError::invalid_pipeline(format!("{}: `concurrency.group` has no value: {error}", file.name))
            .hint("for a field that may be missing, use an expression such as `has(x.y) ? x.y : 'none'`")
    })?;
    if let Some(ConcurrencyGroup { name, empty }) = group.filter(|group| !group.empty.is_empty()) {
        session.notices.notice(&Notice::SharedGroup { group: name, empty });
    }
    Ok(())
}

/// The stages that an earlier run left out: those that it ended before it started any attempt.
fn left_out_before(past: &[Event]) -> BTreeMap<StageIndex, String> {
    let at_start = past.iter().skip(1).map_while(|event| match &event.kind {
        EventKind::OutputsInherited { .. } | EventKind::TestsSelected { .. } => Some(None),
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

pub(crate) fn jobs(options: &RunOptions) -> usize {
    options.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// A new id: the time of the start in seconds, and enough random digits to keep runs of the same second apart.
///
/// People read ids in lists and type them, so an id shows the time and has no letters that look alike. The ids of crates
/// (UUID v7, ULID, NanoID) also sort by time or are unique, but say nothing to a reader.
pub(crate) fn new_id() -> RunId {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let mut chance = RandomState::new().hash_one(std::process::id());
    let suffix = std::iter::repeat_with(|| {
        let digit = DIGITS[(chance % 32) as usize];
        chance /= 32;
        char::from(digit)
    });
    RunId(format!("{}-{}", compact(SystemClock::timestamp()), suffix.take(4).collect::<String>()))
}
