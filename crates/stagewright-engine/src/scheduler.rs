//! The state machine of a run: which stage starts when, and what follows from how it ended.
//!
//! A stage is *resolved* once all its needs have ended: its `if` then decides whether it becomes ready or is skipped.
//! Ready stages start in plan order as slots come free. A slot is held by running attempts alone; a stage that waits
//! for a person or for its next try holds none. When the main stages have all ended, the finally stages are resolved.
//!
//! Every change goes through [`Scheduler::record`], which folds the event into the [`RunState`] that a later resume
//! rebuilds from the journal. What else the scheduler keeps (counters, the ready set) is derived from that state.

mod gates;
mod message;
mod retry;
mod start;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use petgraph::graph::NodeIndex;
use serde_json::Value as Json;
use stagewright_model::{Plan, Stage, StageIndex, StageKind};

pub use self::message::{Action, Input, Response};
use self::retry::can_retry;

use crate::event::{
    Decision, Event, EventKind, Failure, FailureKind, Interrupt, Outcome, RunId, RunSummary, StageSummary, Timestamp,
};
use crate::gate::{DecisionError, check_decision};
use crate::port::{AttemptEnd, AttemptReport};
use crate::scope::RunValues;
use crate::state::{IllegalTransition, RunState, Status};

/// The state machine. Knows no clock: every input comes with the time.
#[derive(Debug)]
pub struct Scheduler {
    plan: Arc<Plan>,
    values: RunValues,
    jobs: usize,
    state: RunState,
    open_needs: Vec<u32>,
    upstream_failed: Vec<bool>,
    /// Stages whose last need just ended.
    unblocked: Vec<StageIndex>,
    ready: BTreeSet<StageIndex>,
    running: BTreeSet<StageIndex>,
    cells: HashMap<String, Vec<StageIndex>>,
    open_main: usize,
    open: usize,
    finally_resolved: bool,
    now: Timestamp,
    response: Response,
}

impl Scheduler {
    /// For a run that hasn't started. `jobs` attempts run at a time, at least one.
    pub fn new(plan: Arc<Plan>, values: RunValues, jobs: usize) -> Scheduler {
        let ids = plan.stages.iter().map(|stage| stage.id.clone()).collect();
        let state = RunState::new(ids);
        Scheduler::with_state(plan, values, jobs, state)
    }

    /// For a run with a past: folds its events. Nothing happens until [`Input::Resume`].
    pub fn restore<'a>(
        plan: Arc<Plan>,
        values: RunValues,
        jobs: usize,
        events: impl IntoIterator<Item = &'a Event>,
    ) -> Result<Scheduler, IllegalTransition> {
        let mut scheduler = Scheduler::new(plan, values, jobs);
        for event in events {
            scheduler.state.apply(&event.kind)?;
        }
        Ok(scheduler)
    }

    fn with_state(plan: Arc<Plan>, values: RunValues, jobs: usize, state: RunState) -> Scheduler {
        let count = plan.stages.len();
        let mut cells: HashMap<String, Vec<StageIndex>> = HashMap::new();
        for index in plan.indices().filter(|&index| plan.stage(index).matrix.is_some()) {
            cells.entry(plan.stage(index).name.clone()).or_default().push(index);
        }
        Scheduler {
            jobs: jobs.max(1),
            state,
            open_needs: vec![0; count],
            upstream_failed: vec![false; count],
            unblocked: Vec::new(),
            ready: BTreeSet::new(),
            running: BTreeSet::new(),
            cells,
            open_main: 0,
            open: 0,
            finally_resolved: false,
            now: Timestamp(0),
            response: Response::default(),
            plan,
            values,
        }
    }

    /// Where the run stands.
    pub fn state(&self) -> &RunState {
        &self.state
    }

    /// The plan that is carried out.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Whether only people can bring the run on.
    pub fn is_idle(&self) -> bool {
        self.running.is_empty() && self.ready.is_empty() && self.open > 0 && {
            let mut stages = self.state.stages.iter();
            !stages.any(|stage| matches!(stage.status, Status::Backoff(_)))
        }
    }

    /// Whether an answer to a stage's gate would be taken.
    pub fn check(&self, stage: StageIndex, decision: &Decision) -> Result<(), DecisionError> {
        check_decision(self.state.stage(stage), decision, self.now)
    }

    /// Gives something that a stage said its place among the run's events: a summary, or a problem.
    pub fn remark(&mut self, now: Timestamp, kind: EventKind) -> Result<Event, IllegalTransition> {
        let seq = self.state.next_seq;
        self.state.apply(&kind)?;
        Ok(Event { seq, at: now, kind })
    }

    /// Takes one input and says what follows.
    pub fn on_input(&mut self, now: Timestamp, input: Input) -> Result<Response, IllegalTransition> {
        self.now = now;
        match input {
            Input::Start(run) => self.on_start(run)?,
            Input::Resume { reason } => self.on_resume(reason)?,
            Input::Ended { stage, attempt, report } => self.on_attempt_end(stage, attempt, report)?,
            Input::Woken { stage, attempt } => self.on_woken(stage, attempt)?,
            Input::Decided { stage, decision } => self.on_decision(stage, decision)?,
            Input::Cancel { how, reason } => self.on_cancel(how, reason)?,
            Input::Suspend => {
                if self.is_idle() {
                    let waiting = self.waiting();
                    self.record(EventKind::RunSuspended { waiting: waiting.clone() })?;
                    self.finish(None, waiting);
                }
                return Ok(std::mem::take(&mut self.response));
            }
        }
        self.advance()?;
        Ok(std::mem::take(&mut self.response))
    }

    fn on_start(&mut self, run: RunId) -> Result<(), IllegalTransition> {
        let stages = self.plan.stages.iter().map(summary_of).collect();
        self.record(EventKind::RunStarted {
            run,
            pipeline: self.plan.name.clone(),
            file: self.values.file.clone(),
            rehearsal: self.values.rehearsal,
            inputs: self.values.inputs.clone(),
            source: self.values.source.clone(),
            stages,
        })?;
        self.derive();
        // At once, so that the journal knows of it wherever the run is interrupted.
        for (index, reason) in std::mem::take(&mut self.values.left_out) {
            self.end_stage(index, Outcome::Skipped, Outcome::Succeeded, Some(reason))?;
        }
        Ok(())
    }

    fn on_resume(&mut self, reason: String) -> Result<(), IllegalTransition> {
        for index in self.plan.indices() {
            if let Status::Running(attempt) = self.state.stage(index).status {
                let failure = failure(FailureKind::Killed, "the process that ran it went away");
                self.end_attempt(index, attempt, Outcome::Lost, Some(failure), BTreeMap::new())?;
            }
            if let Status::Settled(_) = self.state.stage(index).status {
                let outcome = self.state.stage(index).last_outcome.unwrap_or(Outcome::Lost);
                self.record_end(index, outcome, self.conclusion_of(index, outcome), None)?;
            }
        }
        let unsuccessful = |index: &StageIndex| {
            let conclusion = self.state.stage(*index).status.conclusion();
            conclusion.is_some_and(|conclusion| conclusion != Outcome::Succeeded)
        };
        let again = self.plan.indices().filter(unsuccessful).collect();
        self.record(EventKind::RunResumed { reason, again })?;
        self.derive();
        for index in self.plan.indices() {
            match self.state.stage(index).status {
                Status::Approved(_) | Status::Backoff(_) => {
                    self.ready.insert(index);
                }
                Status::Refused(attempt) => self.reject(index, attempt)?,
                Status::Waiting(attempt) => self.watch_expiry(index, attempt),
                _ => {}
            }
        }
        Ok(())
    }

    /// Rebuilds the counters from the state.
    fn derive(&mut self) {
        self.ready.clear();
        self.unblocked.clear();
        self.open = 0;
        self.open_main = 0;
        for index in self.plan.indices() {
            let stage = self.plan.stage(index);
            let ended = |need: &&StageIndex| self.state.stage(**need).status.conclusion().is_some();
            let open = stage.needs.len() - stage.needs.iter().filter(ended).count();
            self.open_needs[index.get()] = u32::try_from(open).unwrap_or(u32::MAX);
            self.upstream_failed[index.get()] = self.has_failed_upstream(index);
            let status = self.state.stage(index).status;
            if status.conclusion().is_some() {
                continue;
            }
            self.open += 1;
            self.open_main += usize::from(stage.kind == StageKind::Main);
            if open == 0 && stage.kind == StageKind::Main && status == Status::Pending {
                self.unblocked.push(index);
            }
        }
        self.finally_resolved = false;
    }

    fn on_attempt_end(
        &mut self,
        stage: StageIndex,
        attempt: u32,
        report: AttemptReport,
    ) -> Result<(), IllegalTransition> {
        self.running.remove(&stage);
        let (outcome, failure) = match report.end {
            AttemptEnd::Succeeded => (Outcome::Succeeded, None),
            AttemptEnd::Skipped(reason) => (Outcome::Skipped, Some(failure(FailureKind::Reported, reason))),
            AttemptEnd::Unsuccessful(outcome, failure) => (outcome, Some(failure)),
            AttemptEnd::Suspended(gate) => return self.open_gate(stage, attempt, gate),
        };
        let reason = failure.as_ref().filter(|_| outcome == Outcome::Skipped).map(|failure| failure.message.clone());
        let retry = self.next_try(stage, attempt, outcome, failure.as_ref());
        self.end_attempt(stage, attempt, outcome, failure, report.outputs)?;
        if let Some(after) = retry {
            let millis = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
            self.record(EventKind::RetryScheduled { stage, attempt: attempt + 1, after: millis })?;
            self.response.actions.push(Action::Wake { stage, attempt: attempt + 1, after });
            return Ok(());
        }
        self.end_stage(stage, outcome, self.conclusion_of(stage, outcome), reason)
    }

    /// A stage that found nothing to do is as good as one that did it.
    fn conclusion_of(&self, stage: StageIndex, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Skipped => Outcome::Succeeded,
            _ if is_failure(outcome) && self.plan.stage(stage).continue_on_error => Outcome::Succeeded,
            _ => outcome,
        }
    }

    fn on_woken(&mut self, stage: StageIndex, attempt: u32) -> Result<(), IllegalTransition> {
        match self.state.stage(stage).status {
            Status::Backoff(due) if due == attempt => {
                self.ready.insert(stage);
                Ok(())
            }
            Status::Waiting(waiting) if waiting == attempt => {
                let expires = self.state.stage(stage).gate.as_ref().and_then(|gate| gate.expires);
                if expires.is_none_or(|expires| expires > self.now) {
                    self.watch_expiry(stage, attempt);
                    return Ok(());
                }
                let failure = failure(FailureKind::Timeout, "nobody answered before the gate expired");
                self.end_attempt(stage, attempt, Outcome::TimedOut, Some(failure), BTreeMap::new())?;
                self.end_stage(stage, Outcome::TimedOut, Outcome::TimedOut, None)
            }
            _ => Ok(()),
        }
    }

    fn on_cancel(&mut self, how: Interrupt, reason: String) -> Result<(), IllegalTransition> {
        if self.state.cancel >= Some(how) || self.state.conclusion.is_some() {
            return Ok(());
        }
        self.record(EventKind::CancelRequested { how, reason })?;
        for &stage in &self.running {
            self.response.actions.push(Action::Interrupt { stage, how });
        }
        for index in self.plan.indices() {
            match self.state.stage(index).status {
                Status::Waiting(attempt) | Status::Approved(attempt) => self.cancel_attempt(index, attempt)?,
                Status::Backoff(_) => self.cancel_stage(index, "the run was cancelled")?,
                _ => {}
            }
        }
        self.unblocked.extend(std::mem::take(&mut self.ready));
        Ok(())
    }

    fn cancel_attempt(&mut self, stage: StageIndex, attempt: u32) -> Result<(), IllegalTransition> {
        let failure = failure(FailureKind::Cancelled, "the run was cancelled");
        self.end_attempt(stage, attempt, Outcome::Cancelled, Some(failure), BTreeMap::new())?;
        self.cancel_stage(stage, "the run was cancelled")
    }

    fn cancel_stage(&mut self, stage: StageIndex, reason: &str) -> Result<(), IllegalTransition> {
        self.end_stage(stage, Outcome::Cancelled, Outcome::Cancelled, Some(reason.to_owned()))
    }

    /// Brings the run as far as it goes without another input.
    fn advance(&mut self) -> Result<(), IllegalTransition> {
        loop {
            while let Some(index) = self.unblocked.pop() {
                if self.state.stage(index).status == Status::Pending {
                    self.resolve(index)?;
                }
            }
            if self.open_main == 0 && !self.finally_resolved && self.open > 0 {
                self.finally_resolved = true;
                let finally = self.plan.indices().filter(|&index| {
                    self.plan.stage(index).kind == StageKind::Finally && self.open_needs[index.get()] == 0
                });
                self.unblocked.extend(finally);
                continue;
            }
            self.launch_ready()?;
            if self.unblocked.is_empty() {
                break;
            }
        }
        if self.open == 0 && self.state.conclusion.is_none() && self.state.run.is_some() {
            let conclusion = self.conclusion();
            self.record(EventKind::RunEnded { conclusion })?;
            self.finish(Some(conclusion), Vec::new());
        }
        Ok(())
    }

    fn end_attempt(
        &mut self,
        stage: StageIndex,
        attempt: u32,
        outcome: Outcome,
        failure: Option<Failure>,
        outputs: BTreeMap<String, Json>,
    ) -> Result<(), IllegalTransition> {
        self.record(EventKind::AttemptEnded { stage, attempt, outcome, failure, outputs })
    }

    fn end_stage(
        &mut self,
        index: StageIndex,
        outcome: Outcome,
        conclusion: Outcome,
        reason: Option<String>,
    ) -> Result<(), IllegalTransition> {
        self.record_end(index, outcome, conclusion, reason)?;
        self.ready.remove(&index);
        self.open -= 1;
        self.open_main -= usize::from(self.plan.stage(index).kind == StageKind::Main);
        self.upstream_failed[index.get()] = self.has_failed_upstream(index);
        let plan = Arc::clone(&self.plan);
        for dependent in plan.graph.neighbors(NodeIndex::new(index.get())) {
            let open = &mut self.open_needs[dependent.index()];
            *open -= 1;
            if *open == 0 {
                self.unblocked.push(plan.graph[dependent]);
            }
        }
        if is_failure(conclusion) && plan.stage(index).matrix.as_ref().is_some_and(|cell| cell.fail_fast) {
            self.stop_siblings(index)?;
        }
        Ok(())
    }

    /// A cell of a fail-fast matrix failed.
    fn stop_siblings(&mut self, index: StageIndex) -> Result<(), IllegalTransition> {
        let plan = Arc::clone(&self.plan);
        let siblings = self.cells[&plan.stage(index).name].clone();
        let reason = format!("`{}` failed, and the matrix is fail-fast", plan.stage(index).id);
        for sibling in siblings {
            match self.state.stage(sibling).status {
                Status::Running(_) => {
                    let how = Interrupt::Graceful;
                    self.response.actions.push(Action::Interrupt { stage: sibling, how });
                }
                Status::Waiting(attempt) | Status::Approved(attempt) => self.cancel_attempt(sibling, attempt)?,
                Status::Pending | Status::Backoff(_) => self.cancel_stage(sibling, &reason)?,
                Status::Settled(_) | Status::Refused(_) | Status::Ended { .. } => {}
            }
        }
        Ok(())
    }

    fn record_end(
        &mut self,
        stage: StageIndex,
        outcome: Outcome,
        conclusion: Outcome,
        reason: Option<String>,
    ) -> Result<(), IllegalTransition> {
        self.record(EventKind::StageEnded { stage, outcome, conclusion, reason })
    }

    fn record(&mut self, kind: EventKind) -> Result<(), IllegalTransition> {
        let seq = self.state.next_seq;
        self.state.apply(&kind)?;
        self.response.events.push(Event { seq, at: self.now, kind });
        Ok(())
    }

    fn finish(&mut self, conclusion: Option<Outcome>, waiting: Vec<StageIndex>) {
        let run = self.state.run.clone().unwrap_or_else(|| RunId(String::new()));
        self.response.actions.push(Action::Finish(RunSummary { run, conclusion, waiting }));
    }

    fn waiting(&self) -> Vec<StageIndex> {
        let is_waiting = |index: &StageIndex| matches!(self.state.stage(*index).status, Status::Waiting(_));
        self.plan.indices().filter(is_waiting).collect()
    }
}

fn summary_of(stage: &Stage) -> StageSummary {
    StageSummary {
        id: stage.id.clone(),
        name: stage.name.clone(),
        kind: stage.kind,
        uses: stage.uses.to_string(),
        needs: stage.needs.clone(),
        environment: stage.environment.as_ref().map(|environment| environment.name.clone()),
    }
}

fn failure(kind: FailureKind, message: impl Into<String>) -> Failure {
    Failure { kind, message: message.into(), causes: Vec::new(), help: None, retryable: can_retry(kind) }
}

fn is_failure(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Failed | Outcome::Errored | Outcome::TimedOut | Outcome::Lost | Outcome::Inconclusive)
}
