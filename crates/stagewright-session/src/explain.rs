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
    /// No attempt began.
    NotRun,
    /// It has no cache key: why.
    NotCached(String),
    /// The run whose result was taken.
    Taken(RunId),
    /// It ran, as its key was a new one.
    Ran(Explanation),
}

/// Why stages of a run ran, or came from the cache.
#[derive(Debug)]
pub struct RunExplanation {
    /// The run.
    pub run: RunId,
    /// Each stage that was asked about: the cells of a matrix are stages of one name.
    pub stages: Vec<(Arc<StageSummary>, CacheDecision)>,
}

impl Session {
    /// Explains the stages of a name, or the one of an id. `run`: its id, the beginning of its id, or `latest`.
    ///
    /// # Errors
    /// When there is no such run, or none of its stages has the name.
    pub fn explain(&self, run: &str, stage: &str) -> Result<RunExplanation, SessionError> {
        let store = self.read_only_store()?;
        let run = store.find(run)?;
        let events = store.events(&run)?;
        let record = store.run(&run)?.ok_or_else(|| SessionError::internal(format!("run {run} has no record")))?;
        let known = self.repository.builtin_names().into_iter().collect();
        let plan = Plan::parse(&record.file, &record.pipeline_text, &known).ok().map(|(plan, _)| plan);
        let stages = events.iter().find_map(|event| match &event.kind {
            EventKind::RunStarted { stages, .. } => Some(stages.as_slice()),
            _ => None,
        });
        let stages = (0..).map(StageIndex).zip(stages.unwrap_or_default());
        let named = stages.filter(|(_, summary)| summary.name == stage || summary.id == stage);
        let stages: Vec<_> = named
            .map(|(index, summary)| (Arc::clone(summary), decision(self, &events, index, summary, plan.as_ref())))
            .collect();
        if stages.is_empty() {
            return Err(SessionError::invalid_request(format!("run {run} has no stage `{stage}`"))
                .hint(format!("`stagewright show {run}` lists its stages")));
        }
        Ok(RunExplanation { run, stages })
    }
}

fn decision(
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
            "it has effects beyond this machine, which must happen each time".to_owned()
        }
        Some(stage) if stage.cache == CacheUse::Never => {
            "it isn't cached: it names no `inputs`, or says `cache = false`".to_owned()
        }
        Some(_) => "the cache was off, or it went on after a gate".to_owned(),
        None => "the run's pipeline can't be read any more".to_owned(),
    })
}
