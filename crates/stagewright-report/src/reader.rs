//! What shows a run while it goes on.

use stagewright_engine::{Event, Observer};

use crate::view::{RunView, StageStatus};
use crate::words;

/// Shows a run, whose past may have been shown before.
pub trait RunReader: Observer {
    /// Takes in what happened before this process continued the run. Readers for people sum it up.
    fn catch_up(&mut self, past: &[Event]) {
        past.iter().for_each(|event| self.on_event(event));
    }
}

/// Folds `past` into `view`, and returns what a person should know of it, a line each; nothing without a past.
pub(crate) fn caught_up(view: &mut RunView, past: &[Event]) -> Vec<String> {
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
