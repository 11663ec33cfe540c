//! Validation of signals.

use stagewright_model::StageIndex;

use crate::event::{KEPT_SIGNALS, Signal, SignalError};
use crate::state::{RunState, StageStatus};

/// The stages whose open waits the signal can end, in plan order. If it is empty, the run keeps the signal for a wait that
/// begins later.
///
/// # Errors
/// If the run can't receive it.
pub fn check_signal(state: &RunState, signal: &Signal) -> Result<Vec<StageIndex>, SignalError> {
    signal.check()?;
    if state.conclusion.is_some() {
        return Err(SignalError::RunEnded);
    }
    let has_ended = |stage: StageIndex| {
        state.stages.get(stage.get()).is_none_or(|stage| matches!(stage.status, StageStatus::Ended { .. }))
    };
    if signal.stage.is_some_and(has_ended) {
        return Err(SignalError::StageEnded);
    }
    let is_for = |(index, stage): (usize, &crate::state::StageState)| {
        let index = StageIndex(u32::try_from(index).ok()?);
        let wait = stage.wait.as_ref().filter(|_| matches!(stage.status, StageStatus::Waiting(_)))?;
        signal.ends(index, &wait.token).then_some(index)
    };
    let waiting: Vec<StageIndex> = state.stages.iter().enumerate().filter_map(is_for).collect();
    if waiting.is_empty() && state.signals.len() >= KEPT_SIGNALS { Err(SignalError::TooMany) } else { Ok(waiting) }
}
