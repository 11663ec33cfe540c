//! Rolls an environment back to an earlier release, in a new run.
//!
//! The run has the pipeline text, the inputs and the outputs of the run that deployed the release. All stages except
//! the one that deployed to the environment are left out, so that exactly the same artifact is deployed, by digest.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use stagewright_engine::{GitState, ReleaseOrigin, ReleaseSource, RunId, RunState};
use stagewright_model::{Plan, StageIndex, list, lock_of};
use stagewright_store::{ReleaseRow, RunRecord, Store};

use crate::clock::SystemClock;
use crate::drive::Run;
use crate::error::SessionError;
use crate::host::Host;
use crate::journal::state_of;
use crate::load::Pipeline;
use crate::mode::RunMode;
use crate::repository::PipelineFile;
use crate::session::Session;
use crate::start::{NewRun, RunOptions, new_id, prepare};

/// The release that a rollback would restore.
#[derive(Clone, Debug)]
pub enum RollbackTarget {
    /// Nothing was ever deployed to it.
    NothingDeployed,
    /// The release is already the current one.
    Current(Box<ReleaseRow>),
    /// An earlier release.
    Release {
        /// The current release.
        current: Option<Box<ReleaseRow>>,
        /// The release to restore.
        target: Box<ReleaseRow>,
    },
}

impl Session {
    /// The releases that a rollback of an environment would restore: the one with the given number, or the last known-good
    /// one. If the environment has regions, those of all regions by name, or of the one with the given number.
    ///
    /// # Errors
    /// If a release doesn't exist.
    pub fn rollback_targets(
        &self,
        environment: &str,
        number: Option<u64>,
    ) -> Result<Vec<(String, RollbackTarget)>, SessionError> {
        let store = self.store()?;
        let store = store.lock();
        let environments = store.environments(false, SystemClock::timestamp())?;
        let mut names: Vec<String> = environments.into_iter().map(|row| row.name).collect();
        names.retain(|name| name != environment && lock_of(name) == environment);
        if let Some(number) = number {
            let has_it = |name: &String| -> Result<bool, SessionError> {
                Ok(store.releases(name, false, u32::MAX)?.iter().any(|row| row.number == number))
            };
            let with_it = names.into_iter().map(|name| Ok((has_it(&name)?, name)));
            let with_it = with_it.collect::<Result<Vec<_>, SessionError>>()?;
            names = with_it.into_iter().filter_map(|(has_it, name)| has_it.then_some(name)).collect();
        }
        if names.is_empty() {
            names.push(environment.to_owned());
        }
        names.into_iter().map(|name| choose(&store, &name, number).map(|target| (name, target))).collect()
    }

    /// Prepares a run that restores earlier releases: one, or those of several regions of an environment.
    ///
    /// # Errors
    /// If they are of several runs, if the run that deployed them has been removed, and as for [`start`](Session::start).
    pub async fn roll_back(&self, targets: &[ReleaseRow], options: &RunOptions) -> Result<Run, SessionError> {
        let Some((first, others)) = targets.split_first() else {
            return Err(SessionError::invalid_request("there is no release to roll back to"));
        };
        if let Some(other) = others.iter().find(|other| other.run != first.run) {
            let [one, another] = [first, other].map(|row| &row.release.environment);
            let message = format!("{one} and {another} would go back to releases of different runs");
            let each = list(targets.iter().map(|row| format!("stagewright rollback {}", row.release.environment)));
            return Err(SessionError::invalid_request(message).hint(format!("roll back each region by itself: {each}")));
        }
        let new = run_of(self, first, others).await?;
        prepare(self, options, new).await
    }
}

fn choose(store: &Store, name: &str, number: Option<u64>) -> Result<RollbackTarget, SessionError> {
    let rows = store.releases(name, false, u32::MAX)?;
    let environment =
        store.environments(false, SystemClock::timestamp())?.into_iter().find(|environment| environment.name == name);
    let (Some(environment), false) = (environment, rows.is_empty()) else {
        return Ok(RollbackTarget::NothingDeployed);
    };
    let history = || format!("stagewright env history {name}");
    let target = match number {
        Some(number) => rows.into_iter().find(|row| row.number == number).ok_or_else(|| {
            SessionError::invalid_request(format!("{name} has no release {number}"))
                .hint(format!("list its releases with `{}`", history()))
        })?,
        None => environment.last_known_good.ok_or_else(|| {
            let message = format!("{name} has no earlier known-good release to roll back to");
            SessionError::not_ready(message).hint(format!("choose one yourself: `{}`, then --to NUMBER", history()))
        })?,
    };
    let target = Box::new(target);
    Ok(match environment.current.map(Box::new) {
        Some(current) if same(&current, &target) => RollbackTarget::Current(target),
        current => RollbackTarget::Release { current, target },
    })
}

fn same(one: &ReleaseRow, other: &ReleaseRow) -> bool {
    one.release.artifact == other.release.artifact && one.release.config == other.release.config
}

/// The stages that a run of a release's pipeline leaves out.
pub(crate) struct LeftOut {
    /// Why.
    pub(crate) left_out: BTreeMap<StageIndex, String>,
    /// Their outputs in the run that deployed the release.
    pub(crate) inherited: BTreeMap<StageIndex, (RunId, BTreeMap<String, Json>)>,
}

impl LeftOut {
    /// `state`: that of the run `from`.
    pub(crate) fn all_but(plan: &Plan, stages: &[StageIndex], state: &RunState, from: &RunId, reason: &str) -> LeftOut {
        let others = || plan.indices().filter(|index| !stages.contains(index));
        LeftOut {
            left_out: others().map(|index| (index, reason.to_owned())).collect(),
            inherited: others().map(|index| (index, (from.clone(), state.stage(index).outputs.clone()))).collect(),
        }
    }
}

/// The run that deployed a release, and its pipeline.
pub(crate) fn pipeline_of(session: &Session, release: &ReleaseRow) -> Result<(RunRecord, Pipeline), SessionError> {
    let id = &release.run;
    let gone = || {
        SessionError::not_ready(format!("run {id}, which deployed that release, has been removed"))
            .hint("choose another release with --to, or deploy its commit in a new run")
    };
    let store = session.store()?;
    let record = store.lock().run(id)?.ok_or_else(gone)?;
    let file = PipelineFile { name: record.file.clone(), text: record.pipeline_text.clone() };
    Ok((record, session.load(file)?))
}

async fn run_of(session: &Session, target: &ReleaseRow, others: &[ReleaseRow]) -> Result<NewRun, SessionError> {
    let id = &target.run;
    let (record, Pipeline { file, plan }) = pipeline_of(session, target)?;
    let store = session.store()?;
    let state = state_of(&store.lock(), id)?;
    let reason = format!("not part of the rollback to the release of run {id}");
    let stages: Vec<StageIndex> = std::iter::once(target).chain(others).map(|row| row.stage).collect();
    let LeftOut { left_out, inherited } = LeftOut::all_but(&plan, &stages, &state, id, &reason);
    let host = Host::open(session, &plan, stages.len(), RunMode::Real, None).await?;
    let mut source = record.source;
    let others = others.iter().map(|row| row.number).collect();
    source.rollback = Some(ReleaseSource { run: id.clone(), release: target.number, others });
    source.trigger.actor = session.user_name();
    Ok(NewRun {
        id: new_id(),
        copy: None,
        git: GitState::default(),
        file,
        plan: rolled_back(plan),
        host,
        inputs: record.inputs,
        source,
        left_out,
        inherited,
        failed_tests: BTreeMap::new(),
        origin: ReleaseOrigin::Rollback,
        keep_services: false,
    })
}

/// The plan of a rollback, also when it is resumed. All regions go back at the same time: none waits for another one, and none
/// goes forward again because another one failed.
pub(crate) fn rolled_back(plan: Plan) -> Plan {
    without_conditions(plan).without_waves()
}

/// Removes the conditions of the stages of a rollback or a promotion, also when it is resumed. They were true when the
/// release was first deployed, or a person has decided, and they can't be evaluated now, because the stages that they refer
/// to are left out.
pub(crate) fn without_conditions(mut plan: Plan) -> Plan {
    plan.stages.iter_mut().for_each(|stage| stage.condition = None);
    plan
}
