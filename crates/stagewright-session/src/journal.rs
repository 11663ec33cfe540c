//! The state of a run, folded from its journal.

use std::sync::Arc;

use stagewright_engine::{Event, EventKind, RunId, RunState, StageSummary};
use stagewright_store::Store;

use crate::error::SessionError;

/// The stages of a run, from its first event.
///
/// # Errors
/// If the journal can't be read or is empty.
pub fn stages_of(store: &Store, run: &RunId) -> Result<Vec<Arc<StageSummary>>, SessionError> {
    match store.events(run)?.into_iter().next().map(|event| event.kind) {
        Some(EventKind::RunStarted { stages, .. }) => Ok(stages),
        _ => Err(SessionError::not_ready(format!("run {run} was never started"))),
    }
}

/// The state of a run.
pub(crate) fn state_of(store: &Store, run: &RunId) -> Result<RunState, SessionError> {
    let stages = stages_of(store, run)?.into_iter().map(|stage| stage.id.clone()).collect();
    fold(run, stages, &store.events(run)?)
}

/// Whether an answer or a signal that was just stored reaches a run only when that is resumed, because no process drives it.
///
/// The process that drove it may have received the answer, carried out what it stands for, and ended meanwhile. To resume the
/// run would then start again what the answer has ended, such as a deploy that was aborted.
pub(crate) fn needs_process(store: &Store, run: &RunId) -> Result<bool, SessionError> {
    let Ok(_lock) = store.lock_run(run) else { return Ok(false) };
    let last = store.events(run)?.pop().map(|event| event.kind);
    Ok(!matches!(last, Some(EventKind::RunEnded { .. })))
}

/// Folds events into a state. `stages` are the ids of the stages, by plan index.
pub(crate) fn fold(run: &RunId, stages: Vec<String>, events: &[Event]) -> Result<RunState, SessionError> {
    let mut state = RunState::new(stages);
    events.iter().try_for_each(|event| apply(run, &mut state, &event.kind))?;
    Ok(state)
}

pub(crate) fn apply(run: &RunId, state: &mut RunState, event: &EventKind) -> Result<(), SessionError> {
    state
        .apply(event)
        .map_err(|error| SessionError::internal(format!("the journal of run {run} is inconsistent")).caused_by(error))
}
