//! Starts runs: new ones, and earlier ones once more.

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;

use serde_json::Value as Json;
use stagewright_engine::{
    ConcurrencyGroup, Event, EventKind, GitState, Input, Outcome, ReleaseOrigin, RunId, RunSource, RunValues,
    Scheduler, concurrency_group,
};
use stagewright_model::{Plan, StageIndex};
use stagewright_store::RunRecord;

use crate::affected;
use crate::cache::{CacheOptions, CacheUse};
use crate::clock::{SystemClock, compact};
use crate::drive::{Run, RunParts};
use crate::error::SessionError;
use crate::git;
use crate::host::Host;
use crate::load::{self, Pipeline};
use crate::mode::{RunMode, mode_of};
use crate::notice::Notice;
use crate::packages;
use crate::preflight::{admit, check};
use crate::repository::PipelineFile;
use crate::run_fingerprint;
use crate::select;
use crate::session::Session;

/// How a run is carried out.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// How many stages run at a time; as many as there are processors by default.
    pub jobs: Option<usize>,
    /// What to do about results of earlier runs, where the policy is silent.
    pub cache: CacheOptions,
    /// Refuse what may do more than the lock file says, or has other plugins.
    pub locked: bool,
}

/// A request for a new run.
#[derive(Clone, Debug)]
pub struct RunRequest {
    /// Values of the pipeline's inputs, as text; the others have their defaults.
    pub inputs: BTreeMap<String, String>,
    /// Keep these stages and all that they need, by name or id, parted by commas; empty for all.
    pub only: Vec<String>,
    /// Leave these stages out, and go on as if they had succeeded.
    pub skip: Vec<String>,
    /// Keep the stages whose files have changed since a commit, what needs them, and what these need.
    pub affected: Option<AffectedSince>,
    /// Whether it is a rehearsal.
    pub mode: RunMode,
    /// Leave the services of the rehearsal running when it ends.
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
            affected: None,
            mode: RunMode::Real,
            keep_services: false,
            options: RunOptions::default(),
        }
    }
}

/// The commit that changed files are looked for since.
#[derive(Clone, Debug, Default)]
pub struct AffectedSince {
    /// A commit, branch or tag; where the branch left the main one by default.
    pub base: Option<String>,
}

/// What came of a request for a run.
pub enum Started {
    /// It can be driven.
    Run(Box<Run>),
    /// No stage is affected by what changed: there is no run.
    Unaffected {
        /// The commit that was compared with, as people write it.
        since: String,
    },
}

/// A request to run an earlier run once more.
#[derive(Clone, Debug, Default)]
pub struct RerunOptions {
    /// Run although a plugin, the commit or the working tree is no longer what the earlier run was started with.
    pub accept_changes: bool,
    /// How it is carried out.
    pub options: RunOptions,
}

/// All that a new run is made of.
pub(crate) struct NewRun {
    pub(crate) file: PipelineFile,
    pub(crate) plan: Plan,
    pub(crate) host: Host,
    pub(crate) inputs: BTreeMap<String, Json>,
    pub(crate) source: RunSource,
    /// What is checked out.
    pub(crate) git: GitState,
    /// Stages that are left out, each with the reason.
    pub(crate) left_out: BTreeMap<StageIndex, String>,
    /// Outputs of stages that are left out, from an earlier run.
    pub(crate) inherited: BTreeMap<StageIndex, (RunId, BTreeMap<String, Json>)>,
    pub(crate) origin: ReleaseOrigin,
    pub(crate) keep_services: bool,
}

impl Session {
    /// Checks what can be checked of a new run, records it, and locks it for this process.
    ///
    /// # Errors
    /// When the request doesn't fit the pipeline, or when something that has to hold before a run starts doesn't: then
    /// nothing was run, and nothing recorded.
    pub async fn start(&self, pipeline: Pipeline, request: &RunRequest) -> Result<Started, SessionError> {
        let Pipeline { file, plan } = pipeline;
        let inputs = load::inputs(&plan, &request.inputs)?;
        let mut left_out = select::left_out(&plan, &request.only, &request.skip)?;
        if let Some(since) = &request.affected {
            let changes = affected::changes(self, since.base.as_deref()).await?;
            let touched = changes.stages(&plan, &file)?;
            if touched.is_empty() {
                return Ok(Started::Unaffected { since: changes.since });
            }
            left_out.extend(select::unaffected(&plan, &touched, &changes.since));
        }
        let host = Host::open(self, &plan, jobs(&request.options), request.mode).await?;
        let git = self.checked_out().await?;
        let new = NewRun {
            source: git::source(&git, &self.user_name()),
            git,
            file,
            plan,
            host,
            inputs,
            left_out,
            inherited: BTreeMap::new(),
            origin: ReleaseOrigin::Deploy,
            keep_services: request.keep_services,
        };
        prepare(self, &request.options, new).await.map(|run| Started::Run(Box::new(run)))
    }

    /// Starts an earlier run once more: the pipeline's text, the inputs and the selection of stages are those of then.
    /// `run`: its id, the beginning of its id, or `latest`.
    ///
    /// # Errors
    /// As for [`start`](Session::start); and when something has changed since and that isn't accepted.
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
        let mode = mode_of(record.rehearsal, &record.source);
        let host = Host::open(self, &plan, jobs(&request.options), mode).await?;
        let git = self.checked_out().await?;
        let facts = host.facts(&plan).await?;
        let mut changes = run_fingerprint::changes(&plan, &past, &record.source, &facts, Some(&git));
        changes.extend(packages::changes(&past, &record.source, &plan, host.packages()));
        if !request.accept_changes {
            run_fingerprint::refuse(&id.0, "rerun", &changes)?;
        }
        let new = NewRun {
            left_out: left_out_before(&past),
            file,
            plan,
            host,
            inputs: record.inputs,
            source: git::source(&git, &self.user_name()),
            git,
            inherited: BTreeMap::new(),
            origin: ReleaseOrigin::Deploy,
            keep_services: false,
        };
        prepare(self, &request.options, new).await
    }
}

/// Checks what can be checked, records the run, and locks it.
pub(crate) async fn prepare(session: &Session, options: &RunOptions, new: NewRun) -> Result<Run, SessionError> {
    let NewRun { file, mut plan, host, inputs, mut source, git, left_out, inherited, origin, keep_services } = new;
    let mode = host.mode();
    let (rehearsal, offline) = (mode.is_rehearsal(), mode.is_offline());
    source.offline = offline;
    source.unsandboxed = host.unsandboxed().map(|missing| missing.what.clone());
    let policy = admit(session, &host, &file, &mut plan, options.locked).await?;
    packages::record(&mut source, &plan, host.packages());
    let cache = CacheUse::of(policy.as_ref(), &options.cache, &session.repository, mode)?;
    check(session, &host, &file, &plan, &left_out).await?;
    let plugins = host.facts(&plan).await?;
    let id = new_id();
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
        plugins,
        binding,
        // A rehearsal approves its own gates and deploys nothing, so that its files need no approval.
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
    store.lock().create_run(&record)?;
    let lease = store.lock().lock_run(&id)?;
    let caching = host.runner(&session.repository, &file.name, cache);
    let parts = RunParts {
        first: Input::Start(id.clone()),
        id,
        scheduler: Scheduler::new(Arc::new(plan), values, jobs(options)),
        runner: host.capturing(&session.repository, &caching),
        host,
        caching,
        store,
        lease,
        rehearsal,
        keep_services,
        past: Vec::new(),
    };
    Ok(Run::new(session, parts))
}

/// A run whose group has no name is refused; one whose group's name has a gap shares it with runs that it isn't meant to.
fn check_group(
    session: &Session,
    file: &PipelineFile,
    plan: &Plan,
    values: &RunValues,
    id: &RunId,
) -> Result<(), SessionError> {
    let group = concurrency_group(plan, values, Some(id)).map_err(|error| {
        SessionError::invalid_pipeline(format!("{}: `concurrency.group` has no value: {error}", file.name))
            .hint("in an expression, `has(x.y) ? x.y : 'none'` stands for a field that may be missing")
    })?;
    if let Some(ConcurrencyGroup { name, empty }) = group.filter(|group| !group.empty.is_empty()) {
        session.notices.notice(&Notice::SharedGroup { group: name, empty });
    }
    Ok(())
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

pub(crate) fn jobs(options: &RunOptions) -> usize {
    options.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
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
