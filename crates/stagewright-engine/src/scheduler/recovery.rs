//! Recovery of unresolved attempts, whose effect was about to happen and whose outcome wasn't recorded.
//!
//! ```text
//! unresolved ─> `observe` of the plugin ─┬─> not started ─> the stage runs again
//!                                        ├─> applied ─────> the stage has succeeded
//!                                        ├─> failed ──────> the stage has failed
//!                                        ├─> in progress ─> `observe` is called again later
//!                                        └─> unknown ─────> a gate asks a person for one of the first three
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value as Json;
use stagewright_model::StageIndex;

use super::{Action, Scheduler, failure};
use crate::event::{EventKind, FailureKind, Finding, GateKind, Interrupt, Outcome};
use crate::port::{AttemptEnd, AttemptReport, Call, Observation};
use crate::state::{IllegalTransition, StageStatus};

/// The time between two calls of `observe` for an effect that is in progress.
const OBSERVE_INTERVAL: Duration = Duration::from_secs(5);

impl Scheduler {
    /// Starts `observe` for an unresolved attempt.
    pub(super) fn start_recovery(&mut self, stage: StageIndex, attempt: u32) -> Result<(), IllegalTransition> {
        let mut request = match self.request(stage, attempt, Call::Observe) {
            Ok(request) => request,
            Err(error) => return self.fail_before_start(stage, failure(FailureKind::Configuration, error.to_string())),
        };
        // The target recognises the attempt's own work by its fence, so `observe` gets the fence of the attempt even if
        // a compensation has acted under a newer one since.
        if let Some(view) = &mut request.environment {
            view.fence = self.state.stage(stage).attempt_fence;
        }
        self.record(EventKind::RecoveryStarted { stage, attempt })?;
        self.running.insert(stage);
        self.response.actions.push(Action::Launch(Box::new(request)));
        Ok(())
    }

    /// Handles the end of `observe`.
    pub(super) fn on_observed(
        &mut self,
        stage: StageIndex,
        attempt: u32,
        report: AttemptReport,
    ) -> Result<(), IllegalTransition> {
        let unknown = match report.end {
            AttemptEnd::Observed(Observation::Found(finding)) => {
                if let (Finding::Applied(_), Some(note)) = (&finding, report.release) {
                    self.record_release(stage, attempt, note)?;
                }
                return self.apply_finding(stage, attempt, finding, None, report.outputs);
            }
            _ if let Some(reason) = self.reason_to_stop(stage) => return self.cancel_stage(stage, &reason),
            AttemptEnd::Observed(Observation::InProgress) => {
                self.response.actions.push(Action::Wake { stage, attempt, after: OBSERVE_INTERVAL });
                return Ok(());
            }
            AttemptEnd::Observed(Observation::Unknown(why)) => why,
            AttemptEnd::Unsuccessful(_, failure) => failure.message,
            // A rehearsal doesn't have the effect that it stops before, so it wasn't started.
            AttemptEnd::Rehearsed(_) => {
                return self.apply_finding(stage, attempt, Finding::NotStarted, None, report.outputs);
            }
            AttemptEnd::Succeeded
            | AttemptEnd::Skipped(_)
            | AttemptEnd::Suspended(_)
            | AttemptEnd::Waiting(_)
            | AttemptEnd::Compared(_) => "its plugin's `observe` returned no observation".to_owned(),
        };
        let id = &self.plan.stage(stage).id;
        let message = format!("attempt {attempt} of `{id}` was interrupted, and its outcome is unknown: {unknown}");
        self.open_engine_gate(stage, attempt, GateKind::Unresolved, message, None)
    }

    /// Applies the outcome that a person recorded.
    pub(super) fn apply_decided_finding(&mut self, stage: StageIndex, attempt: u32) -> Result<(), IllegalTransition> {
        let Some(decision) = self.state.stage(stage).decisions.last().cloned() else { return Ok(()) };
        let Some(finding) = decision.finding else { return Ok(()) };
        self.apply_finding(stage, attempt, finding, Some(decision.by), BTreeMap::new())
    }

    fn apply_finding(
        &mut self,
        stage: StageIndex,
        attempt: u32,
        finding: Finding,
        by: Option<String>,
        outputs: BTreeMap<String, Json>,
    ) -> Result<(), IllegalTransition> {
        let what = match &finding {
            Finding::NotStarted => None,
            Finding::Applied(detail) => Some((Outcome::Succeeded, format!("found in place: {detail}"))),
            Finding::Failed(detail) => Some((Outcome::Failed, format!("found broken: {detail}"))),
        };
        self.record(EventKind::Recovered { stage, attempt, finding, by, outputs })?;
        match what {
            Some((outcome, reason)) => self.end_stage(stage, outcome, self.conclusion_of(stage, outcome), Some(reason)),
            None => match self.reason_to_stop(stage) {
                Some(reason) => self.cancel_stage(stage, &reason),
                None => {
                    self.ready.insert(stage);
                    Ok(())
                }
            },
        }
    }

    /// Continues a recovery that was interrupted: applies a recorded answer, or asks the plugin again.
    pub(super) fn continue_recovery(&mut self, stage: StageIndex, attempt: u32) -> Result<(), IllegalTransition> {
        let state = self.state.stage(stage);
        let answered = state.gate_kind() == Some(GateKind::Unresolved)
            && state.decisions.last().is_some_and(|decision| decision.finding.is_some());
        if answered {
            return self.apply_decided_finding(stage, attempt);
        }
        self.ready.insert(stage);
        Ok(())
    }

    /// Whether the attempt is unresolved and `observe` should be called for it now.
    pub(super) fn awaits_observation(&self, stage: StageIndex, attempt: u32) -> bool {
        self.state.stage(stage).status == StageStatus::Recovering(attempt)
            && !self.running.contains(&stage)
            && self.state.cancel != Some(Interrupt::Kill)
    }
}
