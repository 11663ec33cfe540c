//! Decisions about a rollout: a deploy that gives a new version its requests step by step.

use serde_json::json;
use stagewright_engine::{RunId, RunState, StageStatus};
use stagewright_model::{list, lock_of, same_person};
use stagewright_store::{EnvironmentRow, RolloutRow, Store};

use crate::clock::SystemClock;
use crate::decide::person;
use crate::drive::Run;
use crate::error::SessionError;
use crate::journal::state_of;
use crate::repository::PipelineFile;
use crate::resume::ResumeOptions;
use crate::session::Session;
use crate::signal::SignalRequest;
use crate::start::RunOptions;

/// What is decided about a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RolloutDecision {
    /// End its pause.
    Promote,
    /// Give the new version all requests, without further pauses.
    PromoteFull,
    /// Give all requests to the earlier version again, and remove the new one.
    Abort,
    /// Continue it after its run failed or was interrupted.
    Retry,
}

/// What follows from a decision.
pub enum DecidedRollout {
    /// The process that drives the run carries it out.
    Requested(RunId),
    /// No process drives the run. It is carried out when this is driven.
    Continued(Box<Run>),
}

/// What a rollout is doing.
enum RolloutActivity {
    /// It is paused, and waits for this token.
    Paused(String),
    /// Its run is being driven, and carries out a step.
    Busy,
    /// No process drives its run, which failed or was interrupted.
    Abandoned,
}

impl Session {
    /// Carries out a person's decision about the rollout of an environment. `by` is who decided it;
    /// [`user_name`](Session::user_name) by default.
    ///
    /// # Errors
    /// If the environment has no unfinished rollout, if the person may not decide about it, if it isn't paused and should be
    /// promoted, and as for [`resume_run`](Session::resume_run).
    pub async fn decide_rollout(
        &self,
        environment: &str,
        decision: RolloutDecision,
        by: Option<&str>,
        options: &RunOptions,
    ) -> Result<DecidedRollout, SessionError> {
        let environment = &self.rolling_region(environment)?;
        let row = self.unfinished_rollout(environment)?;
        let by = person(self, by)?;
        if matches!(decision, RolloutDecision::Promote | RolloutDecision::PromoteFull) {
            self.require_approver(&row.run, environment, &by)?;
        }
        match (decision, self.activity(environment, &row)?) {
            (RolloutDecision::Retry, RolloutActivity::Abandoned) => {
                self.continue_rollout(&row.run, "its rollout was retried", false, options).await
            }
            (RolloutDecision::Abort, RolloutActivity::Abandoned) => self.restore(environment, options).await,
            (RolloutDecision::Abort, RolloutActivity::Busy) => {
                let store = self.store()?;
                store.lock().request_cancel(&row.run, &format!("rollout aborted by {by}"))?;
                Ok(DecidedRollout::Requested(row.run))
            }
            (RolloutDecision::Retry, _) => {
                Err(SessionError::not_ready(format!("the rollout of {environment} goes on in run {}", row.run))
                    .hint(format!("show it with `stagewright rollout status {environment}`")))
            }
            (decision, RolloutActivity::Paused(token)) => {
                let payload = json!({ "rollout": name_of(decision), "by": by });
                let (run, stage) = (row.run.0.clone(), Some(row.stage_id.clone()));
                let sent = self.signal(&SignalRequest { run, token, payload, stage, by: Some(by.clone()) })?;
                if !sent.needs_resume {
                    return Ok(DecidedRollout::Requested(row.run));
                }
                let reason = format!("its rollout was {} by {by}", done(decision));
                // What has changed since doesn't matter to a version that is removed.
                let accept_changes = decision == RolloutDecision::Abort;
                self.continue_rollout(&row.run, &reason, accept_changes, options).await
            }
            (_, activity) => Err(not_paused(environment, &row, &activity)),
        }
    }

    /// The region that is meant by the name of an environment with regions: the one with an unfinished rollout.
    fn rolling_region(&self, environment: &str) -> Result<String, SessionError> {
        let store = self.store()?;
        let rows = store.lock().environments(false, SystemClock::timestamp())?;
        let is_unfinished =
            |row: &EnvironmentRow| row.rollout.as_ref().is_some_and(|row| !row.rollout.phase.is_finished());
        let regions = rows.into_iter().filter(|row| row.name != environment && lock_of(&row.name) == environment);
        let mut names: Vec<String> = regions.filter(is_unfinished).map(|row| row.name).collect();
        match names.len() {
            0 => Ok(environment.to_owned()),
            1 => Ok(names.remove(0)),
            _ => Err(SessionError::invalid_request(format!("{environment} has several rollouts: {}", list(&names)))
                .hint("name the region")),
        }
    }

    fn unfinished_rollout(&self, environment: &str) -> Result<RolloutRow, SessionError> {
        let store = self.store()?;
        let row = store.lock().rollout(environment)?;
        match row {
            Some(row) if row.rollout.phase.is_finished() => {
                let message =
                    format!("the last rollout of {environment} has already {}", ended(row.rollout.phase.as_str()));
                Err(SessionError::not_ready(message)
                    .hint(format!("see its releases with `stagewright env history {environment}`")))
            }
            Some(row) => Ok(row),
            None => Err(SessionError::not_ready(format!("no deploy to {environment} is rolled out step by step"))
                .hint("list the environments with `stagewright env list`")),
        }
    }

    /// Refuses a person who isn't among the environment's approvers, if it has any.
    fn require_approver(&self, run: &RunId, environment: &str, by: &str) -> Result<(), SessionError> {
        let store = self.store()?;
        let record = store.lock().run(run)?;
        let Some(record) = record else { return Ok(()) };
        let plan = self.load(PipelineFile { name: record.file, text: record.pipeline_text })?.plan;
        let approvers = plan.environments.get(environment).map(|found| found.approvers.as_slice()).unwrap_or_default();
        let members = plan.members_of(approvers);
        if approvers.is_empty() || members.iter().any(|member| same_person(member, by)) {
            return Ok(());
        }
        Err(SessionError::invalid_request(format!(
            "{by} may not promote to {environment}: the approvers are {}",
            list(approvers)
        )))
    }

    fn activity(&self, environment: &str, row: &RolloutRow) -> Result<RolloutActivity, SessionError> {
        let shared = self.store()?;
        let store = shared.lock();
        let state = state_of(&store, &row.run)?;
        if let Some(token) = paused_at(&state, row) {
            return Ok(RolloutActivity::Paused(token));
        }
        if is_driven(&store, &row.run) {
            return Ok(RolloutActivity::Busy);
        }
        drop(store);
        // Its process may have finished it since the row was read.
        self.unfinished_rollout(environment).map(|_| RolloutActivity::Abandoned)
    }

    async fn continue_rollout(
        &self,
        run: &RunId,
        reason: &str,
        accept_changes: bool,
        options: &RunOptions,
    ) -> Result<DecidedRollout, SessionError> {
        let request =
            ResumeOptions { reason: reason.to_owned(), from: Vec::new(), accept_changes, options: options.clone() };
        Ok(DecidedRollout::Continued(Box::new(self.resume_run(&run.0, &request).await?)))
    }

    /// Deploys the current release again, over what an abandoned rollout has left.
    async fn restore(&self, environment: &str, options: &RunOptions) -> Result<DecidedRollout, SessionError> {
        let store = self.store()?;
        let environments = store.lock().environments(false, SystemClock::timestamp())?;
        let current = environments.into_iter().find(|row| row.name == environment).and_then(|row| row.current);
        let current = current.ok_or_else(|| {
            SessionError::not_ready(format!("{environment} has no earlier release to go back to"))
                .hint(format!("deploy a version that works, or continue: stagewright rollout retry {environment}"))
        })?;
        Ok(DecidedRollout::Continued(Box::new(self.roll_back(&[current], options).await?)))
    }
}

/// The token that the rollout's stage waits for.
fn paused_at(state: &RunState, row: &RolloutRow) -> Option<String> {
    if state.conclusion.is_some() {
        return None;
    }
    let stage = state.stages.get(row.stage.get())?;
    let wait = stage.wait.as_ref().filter(|_| matches!(stage.status, StageStatus::Waiting(_)))?;
    Some(wait.token.clone())
}

fn is_driven(store: &Store, run: &RunId) -> bool {
    store.lock_run(run).is_err()
}

/// The decision in the payload of the signal, which the plugin reads.
fn name_of(decision: RolloutDecision) -> &'static str {
    match decision {
        RolloutDecision::Promote | RolloutDecision::Retry => "promote",
        RolloutDecision::PromoteFull => "promote-full",
        RolloutDecision::Abort => "abort",
    }
}

fn done(decision: RolloutDecision) -> &'static str {
    match decision {
        RolloutDecision::Promote | RolloutDecision::PromoteFull => "promoted",
        RolloutDecision::Abort => "aborted",
        RolloutDecision::Retry => "retried",
    }
}

fn ended(phase: &str) -> String {
    match phase {
        "aborted" => "been aborted".to_owned(),
        phase => phase.to_owned(),
    }
}

fn not_paused(environment: &str, row: &RolloutRow, activity: &RolloutActivity) -> SessionError {
    let message = format!("the rollout of {environment} isn't paused");
    let hint = match activity {
        RolloutActivity::Abandoned => format!(
            "run {} failed or was interrupted. Continue it with `stagewright rollout retry {environment}`, or go back with \
             `stagewright rollout abort {environment}`",
            row.run
        ),
        RolloutActivity::Busy | RolloutActivity::Paused(_) => {
            format!("follow it with `stagewright logs --follow {}`", row.run)
        }
    };
    SessionError::not_ready(message).hint(hint)
}
