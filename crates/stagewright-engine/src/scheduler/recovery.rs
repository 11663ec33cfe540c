//! What is done about attempts that were left in doubt: their effect was about to happen, their end wasn't recorded.
//!
//! ```text
//! in doubt ─> the plugin is asked ─┬─> not there ──────> the stage runs again
//!                                  ├─> there ──────────> the stage has succeeded
//!                                  ├─> there, broken ──> the stage has failed
//!                                  ├─> still going on ─> asked again later
//!                                  └─> it can't tell ──> a person is asked, with the same answers
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value as Json;
use stagewright_model::StageIndex;

use super::{Action, Scheduler, failure};
use crate::event::{EventKind, FailureKind, Finding, GateKind, Interrupt, Outcome};
use crate::port::{AttemptEnd, AttemptReport, Call, Observation};
use crate::state::{IllegalTransition, Status};

/// How long an effect that still goes on is left alone.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

impl Scheduler {
    /// Asks the plugin.
    pub(super) fn start_recovery(&mut self, stage: StageIndex, attempt: u32) -> Result<(), IllegalTransition> {
        let mut request = match self.request(stage, attempt, Call::Observe) {
            Ok(request) => request,
            Err(error) => return self.fail_before_start(stage, failure(FailureKind::Configuration, error.to_string())),
        };
        // By this the target tells the attempt's own work from that of others.
        if let Some(view) = &mut request.environment {
            view.fence = self.state.stage(stage).attempt_fence;
        }
        self.record(EventKind::RecoveryStarted { stage, attempt })?;
        self.running.insert(stage);
        self.response.actions.push(Action::Launch(Box::new(request)));
        Ok(())
    }

    /// The plugin answered, or could not.
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
                return self.settle(stage, attempt, finding, None, report.outputs);
            }
            _ if let Some(reason) = self.reason_to_stop(stage) => return self.cancel_stage(stage, &reason),
            AttemptEnd::Observed(Observation::InProgress) => {
                self.response.actions.push(Action::Wake { stage, attempt, after: LOOK_AGAIN });
                return Ok(());
            }
            AttemptEnd::Observed(Observation::Unknown(why)) => why,
            AttemptEnd::Unsuccessful(_, failure) => failure.message,
            // What a rehearsal doesn't do wasn't begun either.
            AttemptEnd::Rehearsed(_) => {
                return self.settle(stage, attempt, Finding::NotStarted, None, report.outputs);
            }
            AttemptEnd::Succeeded | AttemptEnd::Skipped(_) | AttemptEnd::Suspended(_) => {
                "its plugin gave no answer".to_owned()
            }
        };
        let id = &self.plan.stage(stage).id;
        let message =
            format!("attempt {attempt} of `{id}` was broken off, and what became of it is unknown: {unknown}");
        self.open_engine_gate(stage, attempt, GateKind::Unresolved, message, None)
    }

    /// A person answered.
    pub(super) fn settle_by_person(&mut self, stage: StageIndex, attempt: u32) -> Result<(), IllegalTransition> {
        let Some(decision) = self.state.stage(stage).decisions.last().cloned() else { return Ok(()) };
        let Some(finding) = decision.finding else { return Ok(()) };
        self.settle(stage, attempt, finding, Some(decision.by), BTreeMap::new())
    }

    fn settle(
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

    /// Takes recoveries up that a resume finds half done.
    pub(super) fn resume_recovery(&mut self, stage: StageIndex, attempt: u32) -> Result<(), IllegalTransition> {
        let state = self.state.stage(stage);
        let answered = state.gate_kind() == Some(GateKind::Unresolved)
            && state.decisions.last().is_some_and(|decision| decision.finding.is_some());
        if answered {
            return self.settle_by_person(stage, attempt);
        }
        self.ready.insert(stage);
        Ok(())
    }

    /// Whether the stage is to be asked about, and no call for it is under way.
    pub(super) fn awaits_observation(&self, stage: StageIndex, attempt: u32) -> bool {
        self.state.stage(stage).status == Status::Recovering(attempt)
            && !self.running.contains(&stage)
            && self.state.cancel != Some(Interrupt::Kill)
    }
}
