//! Waits: an attempt whose plugin is called again at a time or after a signal, and holds nothing in between but its
//! environment.
//!
//! ```text
//! `run` returns a wait ─> gate opens ─┬─> its time is reached ──────────────────┬─> `run` is called again
//!                                     └─> a signal arrives, or has been kept ───┘
//! ```

use std::time::Duration;

use serde_json::Value as Json;
use stagewright_model::StageIndex;

use super::{Action, Scheduler};
use crate::event::{EventKind, Gate, GateKind, Signal, Timestamp, Wait};
use crate::signal::check_signal;
use crate::state::{IllegalTransition, StageStatus};

/// The longest wait in a rehearsal.
const REHEARSED_WAIT: Duration = Duration::from_secs(1);

impl Scheduler {
    /// Opens the gate for an attempt whose plugin waits.
    pub(super) fn open_wait(&mut self, stage: StageIndex, attempt: u32, wait: Wait) -> Result<(), IllegalTransition> {
        let most = if self.values.rehearsal { REHEARSED_WAIT } else { Duration::MAX };
        let in_time = |after: Duration| {
            Timestamp(self.now.0.saturating_add(u64::try_from(after.as_millis()).unwrap_or(u64::MAX)))
        };
        let Wait { token, reason, poll_after, expires } = wait;
        let (until, expires) = (poll_after.map(|after| in_time(after.min(most))), expires.map(in_time));
        let gate = Gate { token, kind: GateKind::Wait, message: reason, until, expires, ..Gate::default() };
        self.open_prepared(stage, attempt, gate)?;
        self.end_wait_at_once(stage)
    }

    /// Ends a wait that has just begun with the oldest signal that was kept for it. A rehearsal sends the signal itself.
    fn end_wait_at_once(&mut self, stage: StageIndex) -> Result<(), IllegalTransition> {
        let state = self.state.stage(stage);
        // The gate was cancelled as soon as it opened.
        let (StageStatus::Waiting(_), Some(wait)) = (state.status, &state.wait) else { return Ok(()) };
        let kept = self.state.signals.iter().find(|signal| signal.ends(stage, &wait.token)).cloned();
        let rehearsed = || Signal {
            number: 0,
            token: wait.token.clone(),
            stage: Some(stage),
            payload: Json::Null,
            by: "rehearsal".to_owned(),
            at: self.now,
        };
        let is_rehearsed = self.values.rehearsal && wait.until.is_none();
        match kept.or_else(|| is_rehearsed.then(rehearsed)) {
            Some(signal) => self.end_wait(stage, signal),
            None => Ok(()),
        }
    }

    /// Ends the wait that the signal is for, the first in plan order if there are several. Without one, keeps the signal:
    /// its sender must not have to know whether the wait has begun.
    pub(super) fn on_signal(&mut self, signal: Signal) -> Result<(), IllegalTransition> {
        match check_signal(&self.state, &signal) {
            Ok(waiting) => match waiting.first() {
                Some(&stage) => self.end_wait(stage, signal),
                None => self.record(EventKind::SignalKept { signal }),
            },
            Err(reason) => {
                let Signal { token, by, .. } = signal;
                let refused = EventKind::SignalRefused { token, by, reason: reason.to_string() };
                self.response.actions.push(Action::Notify(Box::new(refused)));
                Ok(())
            }
        }
    }

    fn end_wait(&mut self, stage: StageIndex, signal: Signal) -> Result<(), IllegalTransition> {
        self.record(EventKind::GateSignalled { stage, signal })?;
        self.ready.insert(stage);
        Ok(())
    }
}
