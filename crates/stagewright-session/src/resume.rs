//! Resumes waiting, failed and interrupted runs from their original inputs.

use std::collections::BTreeMap;
use std::sync::Arc;

use stagewright_engine::{
    Event, EventKind, GitState, Input, Outcome, PluginFacts, ReleaseOrigin, RunId, RunValues, Scheduler,
};
use stagewright_model::Plan;
use stagewright_store::{RunLock, RunRecord};

use crate::cache::CacheSettings;
use crate::drive::{Run, RunParts};
use crate::error::SessionError;
use crate::host::Host;
use crate::learn;
use crate::load::Pipeline;
use crate::mode::mode_of;
use crate::notice::Notice;
use crate::packages;
use crate::preflight::{admit, check};
use crate::repository::{PipelineFile, document};
use crate::revision;
use crate::rollback::{rolled_back, without_conditions};
use crate::run_fingerprint;
use crate::select;
use crate::session::Session;
use crate::start::{RunOptions, jobs};
use crate::store::SharedStore;

/// How a run is resumed.
#[derive(Clone, Debug)]
pub struct ResumeOptions {
    /// Why it is resumed; recorded, and shown to people.
    pub reason: String,
    /// Stages to run again with all stages that need them, even if they succeeded; names or ids, separated by commas.
    pub from: Vec<String>,
    /// Whether to resume even if a plugin, the commit, the working tree or the pipeline file has changed since the run was
    /// started. The file's new text counts then; only stages that run again may differ in it.
    /// Approvals that were given for the earlier state become invalid.
    pub accept_changes: bool,
    /// Options for carrying out the run.
    pub options: RunOptions,
}

/// A recorded run that this process has locked.
struct LockedRun {
    id: RunId,
    store: SharedStore,
    run_lock: RunLock,
    record: RunRecord,
    past: Vec<Event>,
}

impl Session {
    /// Prepares the resumption of a run. `run` is its id, a unique prefix of its id, or `latest`.
    ///
    /// # Errors
    /// If another process drives the run, if it has succeeded and no stage should run again, if something has changed
    /// since and that isn't accepted, and as for [`start`](Session::start).
    pub async fn resume_run(&self, run: &str, request: &ResumeOptions) -> Result<Run, SessionError> {
        let locked = lock_run(self, run)?;
        let LockedRun { id, record, past, .. } = &locked;
        learn::refuse_again(id, &record.source)?;
        let file = PipelineFile { name: record.file.clone(), text: record.pipeline_text.clone() };
        let mut pipeline = self.load(file)?;
        let from = select::named(&pipeline.plan, "--from", &request.from)?;
        refuse_finished(id, past, !from.is_empty())?;
        let is_rollback = run_fingerprint::is_rollback(&record.source);
        let revised = match request.accept_changes && !is_rollback {
            true => revision::revised(self, id, &pipeline, past, &from)?,
            false => None,
        };
        let text_change = revised.as_ref().map(|revised| run_fingerprint::text_change(&pipeline.file, &revised.file));
        let revised_text = revised.as_ref().map(|revised| revised.file.text.clone());
        pipeline = revised.unwrap_or(pipeline);
        let Pipeline { file, mut plan } = pipeline;
        if is_rollback {
            plan = rolled_back(plan);
        } else if record.source.promotion.is_some() {
            plan = without_conditions(plan);
        }
        let options = &request.options;
        let mode = mode_of(record.rehearsal, &record.source);
        let host = Host::open(self, &plan, jobs(options), mode, None).await?;
        let policy = admit(self, &host, &file, &mut plan, options.locked).await?;
        let cache = CacheSettings::of(policy.as_ref(), &options.cache, &self.repository, mode)?;
        check(self, &host, &file, &plan, &BTreeMap::new()).await?;
        let plugins = host.facts(&plan).await?;
        let git = self.checked_out().await?;
        let values = values(&host, &plan, record, &file.text, &plugins, &git);
        let plan = Arc::new(plan);
        let scheduler = Scheduler::restore(Arc::clone(&plan), values, jobs(options), past).map_err(|error| {
            SessionError::internal(format!("the journal of run {id} is inconsistent")).caused_by(error)
        })?;
        // Changes to the workspace don't affect stages that work on captured files.
        let looked_at = scheduler.needs_live_files(&from).then_some(&git);
        let mut changed = run_fingerprint::changes(&plan, past, &record.source, &plugins, looked_at);
        changed.extend(packages::changes(past, &record.source, &plan, host.packages()));
        changed.extend(text_change);
        if !request.accept_changes {
            run_fingerprint::refuse(&id.0, &format!("resume {id}"), &changed)?;
        }
        notice_changed_pipeline(self, &file);
        let caching = host.runner(&self.repository, &file.name, cache);
        let runner = host.capturing(&self.repository, &caching);
        let LockedRun { id, store, run_lock, record, past } = locked;
        let parts = RunParts {
            first: Input::Resume { reason: request.reason.clone(), from, changed, pipeline: revised_text },
            id,
            scheduler,
            runner,
            host,
            caching,
            copy: None,
            store,
            run_lock,
            rehearsal: record.rehearsal,
            keep_services: false,
            past,
        };
        Ok(Run::new(self, parts))
    }
}

fn lock_run(session: &Session, run: &str) -> Result<LockedRun, SessionError> {
    let shared = session.store()?;
    let store = shared.lock();
    let id = store.find(run)?;
    let run_lock = store.lock_run(&id)?;
    let Some(record) = store.run(&id)? else {
        return Err(SessionError::internal(format!("run {id} has no record")));
    };
    let past = store.events(&id)?;
    drop(store);
    Ok(LockedRun { id, store: shared, run_lock, record, past })
}

/// The recorded values of the run, with bindings to the pipeline's text and the current plugins and checkout.
fn values(
    host: &Host,
    plan: &Plan,
    record: &RunRecord,
    text: &str,
    plugins: &[PluginFacts],
    git: &GitState,
) -> RunValues {
    let mut bound = record.source.clone();
    packages::record(&mut bound, plan, host.packages());
    let digest = |git| Some(run_fingerprint::digest(text, &record.inputs, &bound, git, plugins));
    let is_rollback = run_fingerprint::is_rollback(&record.source);
    RunValues {
        binding: digest(Some(git)),
        captured_binding: digest(None).filter(|_| !record.rehearsal),
        inputs: record.inputs.clone(),
        source: record.source.clone(),
        file: record.file.clone(),
        rehearsal: record.rehearsal,
        offline: host.mode().is_offline(),
        left_out: BTreeMap::new(),
        inherited: BTreeMap::new(),
        failed_tests: BTreeMap::new(),
        plugins: plugins.to_vec(),
        origin: if is_rollback { ReleaseOrigin::Rollback } else { ReleaseOrigin::Deploy },
    }
}

/// Notifies of a changed pipeline file. It isn't an error, because the run uses its recorded text.
fn notice_changed_pipeline(session: &Session, file: &PipelineFile) {
    let now = document(&session.repository.root.join(&file.name));
    if now.is_ok_and(|now| now != file.text) {
        session.notices.notice(&Notice::PipelineChanged { file: file.name.clone() });
    }
}

fn refuse_finished(id: &RunId, past: &[Event], again: bool) -> Result<(), SessionError> {
    match past.last().map(|event| &event.kind) {
        Some(EventKind::RunEnded { conclusion: Outcome::Succeeded }) if !again => {
            Err(SessionError::not_ready(format!("run {id} has succeeded; nothing is left to do"))
                .hint(format!(
                    "to run a stage again, with all stages that need it: stagewright resume {id} --from STAGE"
                ))
                .hint(format!("to start a new run on the same inputs: stagewright rerun {id}")))
        }
        None => {
            Err(SessionError::not_ready(format!("run {id} was never started")).hint("start a new run: stagewright run"))
        }
        Some(_) => Ok(()),
    }
}
