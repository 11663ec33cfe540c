//! The interface of everything that shows a run while it is driven.

use stagewright_engine::{Event, Observer};

use crate::view::{RunView, StageStatus};
use crate::words;

/// Shows a run. A resumed run has past events, which an earlier process may have shown.
pub trait RunReader: Observer {
    /// Receives the events from before this process resumed the run. Readers for people show a summary of them.
    fn catch_up(&mut self, past: &[Event]) {
        past.iter().for_each(|event| self.on_event(event));
    }
}

/// Folds `past` into `view`, and returns a summary of it in lines; empty if no event is past.
pub(crate) fn past_summary(view: &mut RunView, past: &[Event]) -> Vec<String> {
    past.iter().for_each(|event| view.apply(event));
    if view.run.is_none() {
        return Vec::new();
    }
    let waiting = view.stages.iter().filter_map(|stage| match &stage.status {
        StageStatus::Waiting(gate) => Some(words::still_waiting(stage, gate)),
        _ => None,
    });
    [words::opening(view)].into_iter().chain(words::done_earlier(view)).chain(waiting).collect()
}
