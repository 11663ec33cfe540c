//! What an open gate does to its stage, and what an answer does.

use std::collections::BTreeMap;
use std::time::Duration;

use stagewright_model::StageIndex;

use super::{Action, Scheduler, failure};
use crate::event::{Decision, EventKind, FailureKind, Gate, Outcome};
use crate::state::{IllegalTransition, Status};

impl Scheduler {
    pub(super) fn open_gate(&mut self, stage: StageIndex, attempt: u32, gate: Gate) -> Result<(), IllegalTransition> {
        self.record(EventKind::GateOpened { stage, attempt, gate })?;
        if self.state.cancel.is_some() {
            return self.cancel_attempt(stage, attempt);
        }
        self.watch_expiry(stage, attempt);
        Ok(())
    }

    pub(super) fn watch_expiry(&mut self, stage: StageIndex, attempt: u32) {
        let expires = self.state.stage(stage).gate.as_ref().and_then(|gate| gate.expires);
        if let Some(expires) = expires {
            let after = Duration::from_millis(expires.since(self.now));
            self.response.actions.push(Action::Wake { stage, attempt, after });
        }
    }

    pub(super) fn on_decision(&mut self, stage: StageIndex, decision: Decision) -> Result<(), IllegalTransition> {
        if let Err(reason) = self.check(stage, &decision) {
            tracing::warn!(stage = self.plan.stage(stage).id, %reason, "decision not taken");
            return Ok(());
        }
        self.record(EventKind::GateDecided { stage, decision })?;
        match self.state.stage(stage).status {
            Status::Approved(_) => {
                self.ready.insert(stage);
                Ok(())
            }
            Status::Refused(attempt) => self.reject(stage, attempt),
            _ => Ok(()),
        }
    }

    pub(super) fn reject(&mut self, stage: StageIndex, attempt: u32) -> Result<(), IllegalTransition> {
        let last = self.state.stage(stage).decisions.last();
        let message = last.map_or_else(
            || "rejected".to_owned(),
            |decision| match &decision.reason {
                Some(reason) => format!("rejected by {}: {reason}", decision.by),
                None => format!("rejected by {}", decision.by),
            },
        );
        let failure = failure(FailureKind::Rejected, message.clone());
        self.end_attempt(stage, attempt, Outcome::Rejected, Some(failure), BTreeMap::new())?;
        self.end_stage(stage, Outcome::Rejected, Outcome::Rejected, Some(message))
    }
}
