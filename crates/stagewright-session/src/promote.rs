//! Promotes a release: deploys what is known good in one environment to another, in a new run.
//!
//! The run has the pipeline text, the inputs and the outputs of the run that deployed the release, so that exactly the same
//! artifact is deployed, by digest. Of its stages, only those run that act on the other environment, and gates before them
//! that weren't approved.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use stagewright_engine::{Outcome, ReleaseOrigin, ReleaseSource, RunState, StageStatus};
use stagewright_model::{Plan, PluginRef, StageIndex, StageKind, lock_of};
use stagewright_store::{ReleaseRow, Store};

use crate::clock::SystemClock;
use crate::drive::Run;
use crate::error::SessionError;
use crate::host::Host;
use crate::journal::state_of;
use crate::load::Pipeline;
use crate::mode::RunMode;
use crate::packages;
use crate::rollback::{LeftOut, pipeline_of, without_conditions};
use crate::run_fingerprint;
use crate::session::Session;
use crate::start::{NewRun, RunOptions, jobs, new_id, prepare};

/// The plugin of stages that are gates.
const GATE: &str = "approve";

/// A request to promote a release.
#[derive(Clone, Debug)]
pub struct PromotionRequest {
    /// The release: its number, or the name of an environment for its current one.
    pub release: String,
    /// The environment to deploy to.
    pub to: String,
    /// How long the release must have been in place.
    pub soak: Option<Duration>,
    /// Whether to run even if a plugin, the commit or the working tree has changed since the release was deployed.
    pub accept_changes: bool,
    /// How the run is carried out.
    pub options: RunOptions,
}

impl Session {
    /// The release that would be promoted.
    ///
    /// # Errors
    /// If it doesn't exist, isn't known good, or hasn't been in place for long enough.
    pub fn promotable(&self, request: &PromotionRequest) -> Result<ReleaseRow, SessionError> {
        let store = self.store()?;
        let row = find(&store.lock(), &request.release)?;
        let from = &row.release.environment;
        if *from == request.to {
            return Err(SessionError::invalid_request(format!("release {} is in {from} already", row.number))
                .hint(format!("deploy an earlier release again: stagewright rollback {from} --to {}", row.number)));
        }
        if !row.confirmed || row.undone {
            let why = if row.undone { "was undone" } else { "isn't known good" };
            return Err(SessionError::not_ready(format!("release {} of {from} {why}", row.number)).hint(format!(
                "a release is known good once all stages that need its deploy have succeeded: stagewright env history {from}"
            )));
        }
        let age = Duration::from_millis(SystemClock::timestamp().0.saturating_sub(row.at.0));
        match request.soak.and_then(|soak| soak.checked_sub(age)).filter(|left| !left.is_zero()) {
            None => Ok(row),
            Some(left) => {
                let [age, left] = [age.as_secs() / 60, left.as_secs().div_ceil(60)];
                let message = format!("release {} has been in {from} for {age} min only", row.number);
                Err(SessionError::not_ready(message)
                    .hint(format!("promote it in {left} min, or with a shorter --soak")))
            }
        }
    }

    /// Prepares a run that deploys a release to another environment.
    ///
    /// # Errors
    /// As for [`promotable`](Session::promotable), if no stage of its pipeline acts on the environment, if something has
    /// changed since and that isn't accepted, and as for [`start`](Session::start).
    pub async fn promote(&self, request: &PromotionRequest) -> Result<Run, SessionError> {
        let row = self.promotable(request)?;
        let id = &row.run;
        let (record, Pipeline { file, plan }) = pipeline_of(self, &row)?;
        let mut stages = acting_on(&plan, &request.to);
        if stages.is_empty() {
            return Err(SessionError::not_ready(format!(
                "no stage of run {id}, which deployed release {}, acts on {}",
                row.number, request.to
            ))
            .hint(format!("add to {} a stage with environment = \"{}\"", file.name, request.to)));
        }
        let store = self.store()?;
        let (state, past) = {
            let store = store.lock();
            (state_of(&store, id)?, store.events(id)?)
        };
        let host = Host::open(self, &plan, jobs(&request.options), RunMode::Real, None).await?;
        let git = self.checked_out().await?;
        let facts = host.facts(&plan).await?;
        let mut changes = run_fingerprint::changes(&plan, &past, &record.source, &facts, Some(&git));
        changes.extend(packages::changes(&past, &record.source, &plan, host.packages()));
        if !request.accept_changes {
            run_fingerprint::refuse(&id.0, &format!("promote {} {}", request.release, request.to), &changes)?;
        }
        stages.extend(open_gates(&plan, &stages, &state));
        stages.extend(plan.pauses_between(&stages.iter().copied().collect()));
        let reason = format!("not part of the promotion of release {} of run {id}", row.number);
        let LeftOut { left_out, inherited } = LeftOut::all_but(&plan, &stages, &state, id, &reason);
        let mut source = record.source;
        source.rollback = None;
        source.promotion = Some(ReleaseSource::of(id.clone(), row.number));
        source.trigger.actor = self.user_name();
        let new = NewRun {
            id: new_id(),
            copy: None,
            git,
            file,
            plan: without_conditions(plan),
            host,
            inputs: record.inputs,
            source,
            left_out,
            inherited,
            failed_tests: BTreeMap::new(),
            origin: ReleaseOrigin::Deploy,
            keep_services: false,
        };
        prepare(self, &request.options, new).await
    }
}

fn find(store: &Store, release: &str) -> Result<ReleaseRow, SessionError> {
    let environments = store.environments(false, SystemClock::timestamp())?;
    if let Ok(number) = release.parse::<u64>() {
        for environment in &environments {
            let rows = store.releases(&environment.name, false, u32::MAX)?;
            if let Some(row) = rows.into_iter().find(|row| row.number == number) {
                return Ok(row);
            }
        }
        return Err(SessionError::invalid_request(format!("there is no release {number}"))
            .hint("list the releases of an environment with `stagewright env history NAME`"));
    }
    let current = environments.into_iter().find(|environment| environment.name == release);
    current.and_then(|environment| environment.current).ok_or_else(|| {
        SessionError::invalid_request(format!("nothing is deployed to an environment `{release}`"))
            .hint("name a release by its number, or an environment: stagewright env list")
    })
}

/// The gates before these stages that weren't approved in the run that deployed the release.
fn open_gates(plan: &Plan, stages: &[StageIndex], state: &RunState) -> Vec<StageIndex> {
    let (mut needed, mut open) = (BTreeSet::new(), stages.to_vec());
    while let Some(stage) = open.pop() {
        open.extend(plan.stage(stage).needs.iter().filter(|need| needed.insert(**need)));
    }
    let is_gate = |stage: &StageIndex| {
        let stage = plan.stage(*stage);
        stage.wave.is_none() && stage.uses == PluginRef::Builtin(GATE.to_owned())
    };
    let is_approved = |stage: &StageIndex| {
        matches!(state.stage(*stage).status, StageStatus::Ended { outcome: Outcome::Succeeded, .. })
    };
    needed.into_iter().filter(|stage| is_gate(stage) && !is_approved(stage)).collect()
}

/// The stages that act on an environment, or on its regions.
fn acting_on(plan: &Plan, environment: &str) -> Vec<StageIndex> {
    let acts = |index: &StageIndex| {
        let stage = plan.stage(*index);
        let is_of_it = |name: &str| name == environment || lock_of(name) == environment;
        stage.kind == StageKind::Main && stage.environment.as_ref().is_some_and(|reference| is_of_it(&reference.name))
    };
    plan.indices().filter(acts).collect()
}
