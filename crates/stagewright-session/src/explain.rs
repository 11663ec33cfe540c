//! Why a stage ran, or came from the cache.

use std::sync::Arc;

use stagewright_cache::{Explanation, explain};
use stagewright_engine::{EffectClass, Event, EventKind, RunId, StageSummary};
use stagewright_model::{CacheUse, Plan, StageIndex};

use crate::error::SessionError;
use crate::session::Session;

/// Why a stage ran, or came from the cache.
#[derive(Debug)]
pub enum CacheDecision {
    /// No attempt was started.
    NotRun,
    /// It has no cache key, for this reason.
    NotCached(String),
    /// Its result came from the cache; the run that produced it.
    Taken(RunId),
    /// It ran, because no result was stored under its key.
    Ran(Explanation),
}

/// Why stages of a run ran, or came from the cache.
#[derive(Debug)]
pub struct RunExplanation {
    /// The run.
    pub run: RunId,
    /// The explained stages. The cells of a matrix share a name, so there can be several.
    pub stages: Vec<(Arc<StageSummary>, CacheDecision)>,
}

impl Session {
    /// Explains the stages with a name, or the one with an id. `run` is its id, a unique prefix of its id, or `latest`.
    ///
    /// # Errors
    /// If the run doesn't exist or has no such stage.
    pub fn explain(&self, run: &str, stage: &str) -> Result<RunExplanation, SessionError> {
        let RecordedRun { run, events, plan } = recorded(self, run)?;
        let stages = stages_named(&run, &events, stage)?.into_iter().map(|(index, summary)| {
            let decision = decision(self, &events, index, &summary, plan.as_ref());
            (summary, decision)
        });
        Ok(RunExplanation { stages: stages.collect(), run })
    }
}

/// A run in the journal.
pub(crate) struct RecordedRun {
    pub(crate) run: RunId,
    pub(crate) events: Vec<Event>,
    /// None if its pipeline file is invalid in this version.
    pub(crate) plan: Option<Plan>,
}

/// Reads a run by its id, a unique prefix of its id, or `latest`.
pub(crate) fn recorded(session: &Session, run: &str) -> Result<RecordedRun, SessionError> {
    let store = session.read_only_store()?;
    let run = store.find(run)?;
    let events = store.events(&run)?;
    let record = store.run(&run)?.ok_or_else(|| SessionError::internal(format!("run {run} has no record")))?;
    let known = session.repository.plugins.names().into_iter().collect();
    let plan = Plan::parse(&record.file, &record.pipeline_text, &known).ok().map(|(plan, _)| plan);
    Ok(RecordedRun { run, events, plan })
}

/// The stages of a run with a name, or the one with an id. Fails if there are none.
pub(crate) fn stages_named(
    run: &RunId,
    events: &[Event],
    name: &str,
) -> Result<Vec<(StageIndex, Arc<StageSummary>)>, SessionError> {
    let stages = events.iter().find_map(|event| match &event.kind {
        EventKind::RunStarted { stages, .. } => Some(stages.as_slice()),
        _ => None,
    });
    let stages = (0..).map(StageIndex).zip(stages.unwrap_or_default());
    let named = stages.filter(|(_, summary)| summary.name == name || summary.id == name);
    let named = named.map(|(index, summary)| (index, Arc::clone(summary))).collect::<Vec<_>>();
    if named.is_empty() {
        return Err(SessionError::invalid_request(format!("run {run} has no stage `{name}`"))
            .hint(format!("list its stages with `stagewright show {run}`")));
    }
    Ok(named)
}

pub(crate) fn decision(
    session: &Session,
    events: &[Event],
    index: StageIndex,
    stage: &StageSummary,
    plan: Option<&Plan>,
) -> CacheDecision {
    let looked_up = events.iter().rev().find_map(|event| match &event.kind {
        EventKind::CacheLookedUp { stage, key, hit_from, .. } if *stage == index => Some((key, hit_from)),
        _ => None,
    });
    match looked_up {
        Some((_, Some(run))) => return CacheDecision::Taken(run.clone()),
        Some((key, None)) => return CacheDecision::Ran(explain(&session.repository.results(), key)),
        None => {}
    }
    let began = |event: &Event| matches!(&event.kind, EventKind::AttemptStarted { stage, .. } if *stage == index);
    if !events.iter().any(began) {
        return CacheDecision::NotRun;
    }
    let declared = plan.filter(|plan| plan.stages.len() > index.get()).map(|plan| plan.stage(index));
    CacheDecision::NotCached(match declared {
        _ if stage.effect == EffectClass::External => {
            "it has effects beyond this machine, so it must run each time".to_owned()
        }
        Some(stage) if stage.cache == CacheUse::Never && stage.inputs.is_empty() => {
            "it isn't cached, because it declares no `inputs`".to_owned()
        }
        Some(stage) if stage.cache == CacheUse::Never => "it isn't cached, because it sets `cache = false`".to_owned(),
        Some(_) => "the cache was off, or the stage continued after a gate".to_owned(),
        None => "the run's pipeline file is invalid in this version".to_owned(),
    })
}
