//! The state machine of a run: when each stage starts, and what its outcome leads to.
//!
//! A stage is *resolved* once all its needs have ended: its `if` then decides whether it becomes ready or is skipped.
//! Ready stages start in plan order as slots become free. Only running attempts hold a slot; a stage that waits for a
//! person, for a time, for a signal or for its retry holds none. Once all main stages have ended, the finally stages are resolved.
//!
//! Every change goes through [`Scheduler::record`], which folds the event into the [`RunState`] that a later resume
//! rebuilds from the journal. Everything else in the scheduler (counters, the ready set) is derived from that state.

mod cancel;
mod captures;
mod compensation;
mod end;
mod environments;
mod gates;
mod message;
mod recovery;
mod rehearsal;
mod releases;
mod resume;
mod retry;
mod start;
mod waits;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use stagewright_model::{EffectClass, Plan, StageIndex, StageKind};

use self::environments::POLL_INTERVAL;
pub use self::message::{Action, Input, Response};
use self::retry::can_retry;

use crate::event::{
    Decision, Event, EventKind, Failure, FailureKind, Gate, Interrupt, Outcome, Release, RunId, RunSummary,
    StageSummary, Timestamp,
};
use crate::gate::{DecisionError, check_decision};
use crate::scope::{RunValues, concurrency_group};
use crate::state::{IllegalTransition, RunState, StageStatus};

/// The state machine of a run. It has no clock: every input comes with the time.
#[derive(Debug)]
pub struct Scheduler {
    plan: Arc<Plan>,
    values: RunValues,
    jobs: usize,
    state: RunState,
    open_needs: Vec<u32>,
    upstream_failed: Vec<bool>,
    /// Stages whose needs have all ended, and that haven't been resolved yet.
    unblocked: Vec<StageIndex>,
    ready: BTreeSet<StageIndex>,
    running: BTreeSet<StageIndex>,
    cells: HashMap<String, Vec<StageIndex>>,
    open_main: usize,
    open: usize,
    finally_resolved: bool,
    /// Whether any stage may read or write files.
    uses_files: bool,
    /// Gates that open once their files are captured and their environments are looked up, by stage, with their attempt.
    opening: BTreeMap<StageIndex, (u32, Gate)>,
    /// Stages whose environment was requested and not answered yet.
    acquiring: BTreeSet<StageIndex>,
    /// Stages that wait for an environment, with the run that holds it.
    awaited: BTreeMap<StageIndex, RunId>,
    /// Stages at the gate of an earlier freeze that may have ended while the run was suspended.
    unfreezing: BTreeSet<StageIndex>,
    /// Stages between two calls whose environments have to be requested again after a resume.
    reacquiring: BTreeSet<StageIndex>,
    /// Those of them whose request isn't answered yet: they start nothing with the answer.
    keeping: BTreeSet<StageIndex>,
    /// Environments that the run holds, each with all of its regions.
    held_environments: BTreeSet<String>,
    /// `[concurrency] group`, evaluated.
    group: Option<String>,
    /// Whether the group was requested, and the time to request it again hasn't come.
    group_requested: bool,
    /// Whether the run is in the group's queue.
    in_group_queue: bool,
    group_holder: Option<RunId>,
    /// Stages to compensate for, each with the stage that failed.
    undo_queue: VecDeque<(StageIndex, StageIndex)>,
    undoing: Option<StageIndex>,
    /// The release that the compensation in progress restores.
    undo_target: Option<Release>,
    now: Timestamp,
    response: Response,
}

impl Scheduler {
    /// Creates the scheduler of a new run. At most `jobs` attempts run at the same time; 0 counts as 1.
    pub fn new(plan: Arc<Plan>, values: RunValues, jobs: usize) -> Scheduler {
        let ids = plan.stages.iter().map(|stage| stage.id.clone()).collect();
        let state = RunState::new(ids);
        Scheduler::with_state(plan, values, jobs, state)
    }

    /// Restores the scheduler of an existing run from its events. Nothing happens until [`Input::Resume`].
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
            uses_files: plan.stages.iter().any(|stage| {
                let granted = &stage.permissions;
                granted.has_files() || !granted.process.is_empty()
            }),
            opening: BTreeMap::new(),
            acquiring: BTreeSet::new(),
            awaited: BTreeMap::new(),
            unfreezing: BTreeSet::new(),
            reacquiring: BTreeSet::new(),
            keeping: BTreeSet::new(),
            held_environments: BTreeSet::new(),
            group: None,
            group_requested: false,
            in_group_queue: false,
            group_holder: None,
            undo_queue: VecDeque::new(),
            undoing: None,
            undo_target: None,
            now: Timestamp(0),
            response: Response::default(),
            plan,
            values,
        }
    }

    /// The state of the run.
    pub fn state(&self) -> &RunState {
        &self.state
    }

    /// The run's plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Whether the run can only continue with a decision of a person, or with a signal.
    pub fn is_idle(&self) -> bool {
        let nothing_to_do = self.running.is_empty()
            && self.ready.is_empty()
            && self.acquiring.is_empty()
            && self.opening.is_empty()
            && self.awaited.is_empty()
            && self.unfreezing.is_empty()
            && !self.is_compensating();
        nothing_to_do && self.open > 0 && {
            !self.state.stages.iter().any(|stage| {
                stage.is_between_calls() || matches!(stage.status, StageStatus::Backoff(_) | StageStatus::Recovering(_))
            })
        }
    }

    /// Whether the run holds an environment or a group, or waits in a group's queue, and must send heartbeats.
    pub fn needs_heartbeat(&self) -> bool {
        !self.held_environments.is_empty() || self.state.in_group || self.in_group_queue
    }

    /// Checks an answer to a stage's gate without applying it.
    pub fn check(&self, stage: StageIndex, decision: &Decision) -> Result<(), DecisionError> {
        // Only a rehearsal answers its own gates. In a real run such an answer would skip the check of the approver.
        if decision.rehearsed && !self.values.rehearsal {
            return Err(DecisionError::NotRehearsing);
        }
        check_decision(self.state.stage(stage), decision, self.now)
    }

    /// Creates the event for a message of an attempt, such as a summary or a problem.
    pub fn event_for_message(&mut self, now: Timestamp, kind: EventKind) -> Result<Event, IllegalTransition> {
        let seq = self.state.next_seq;
        self.state.apply(&kind)?;
        Ok(Event { seq, at: now, kind })
    }

    /// Records that an attempt is about to have an effect. The returned event must be durable before the effect is
    /// allowed; none if a recorded event covers it.
    pub fn intend_effect(
        &mut self,
        now: Timestamp,
        stage: StageIndex,
        attempt: u32,
        what: String,
    ) -> Result<Option<Event>, IllegalTransition> {
        let state = self.state.stage(stage);
        // The first effect of an attempt is enough: after a crash, recovery only needs to know whether the attempt may
        // have had any effect at all. A compensation isn't `Running`; its `UndoStarted` is the intent.
        if state.unresolved_attempt == Some(attempt) || state.status != StageStatus::Running(attempt) {
            return Ok(None);
        }
        self.event_for_message(now, EventKind::EffectIntended { stage, attempt, what }).map(Some)
    }

    /// How far the effects of a stage can reach.
    pub fn effect_of(&self, stage: StageIndex) -> EffectClass {
        self.values.plugin(stage).effect
    }

    /// The environment that the stage acts on, and its fence; none if it acts on none.
    pub fn held_fence(&self, stage: StageIndex) -> Option<(&str, u64)> {
        Some((self.environment_of(stage)?, self.state.stage(stage).fence?))
    }

    /// Handles one input and returns the events and actions that it leads to.
    pub fn on_input(&mut self, now: Timestamp, input: Input) -> Result<Response, IllegalTransition> {
        self.now = now;
        match input {
            Input::Start(run) => self.on_start(run)?,
            Input::Resume { reason, from, changed, pipeline } => self.on_resume(reason, &from, changed, pipeline)?,
            Input::EnvironmentAnswer { stage, answer } => self.on_environment_answer(stage, answer)?,
            Input::Captured { stage, captured } => self.on_captured(stage, captured)?,
            Input::Releases { stage, releases } => self.on_releases(stage, releases)?,
            Input::GroupAnswer(answer) => self.on_group_answer(answer)?,
            Input::RetryGroup => self.group_requested = false,
            Input::Ended { stage, attempt, report } => self.on_attempt_end(stage, attempt, report)?,
            Input::Woken { stage, attempt } => self.on_woken(stage, attempt)?,
            Input::Decided { stage, decision } => self.on_decision(stage, decision)?,
            Input::Signalled(signal) => self.on_signal(signal)?,
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
        self.release_unused()?;
        Ok(std::mem::take(&mut self.response))
    }

    fn on_start(&mut self, run: RunId) -> Result<(), IllegalTransition> {
        let stages = self.plan.indices().map(|index| Arc::new(self.summary_of(index))).collect();
        self.record(EventKind::RunStarted {
            run,
            pipeline: self.plan.name.clone(),
            file: self.values.file.clone(),
            rehearsal: self.values.rehearsal,
            inputs: self.values.inputs.clone(),
            source: Box::new(self.values.source.clone()),
            stages,
        })?;
        self.derive();
        self.evaluate_group()?;
        for (stage, (from, tests)) in std::mem::take(&mut self.values.failed_tests) {
            self.record(EventKind::TestsSelected { stage, from, tests })?;
        }
        // End the stages that are left out before anything else: a resume takes from the journal which stages these
        // are, wherever the run was interrupted.
        for (index, reason) in std::mem::take(&mut self.values.left_out) {
            if let Some((from, outputs)) = self.values.inherited.remove(&index) {
                self.record(EventKind::OutputsInherited { stage: index, from, outputs })?;
            }
            self.end_stage(index, Outcome::Skipped, Outcome::Succeeded, Some(reason))?;
        }
        Ok(())
    }

    fn evaluate_group(&mut self) -> Result<(), IllegalTransition> {
        match concurrency_group(&self.plan, &self.values, self.state.run.as_ref()) {
            Ok(group) => {
                self.group = group.map(|group| group.name);
                Ok(())
            }
            Err(error) => {
                let reason = format!("`concurrency.group` can't be evaluated: {error}");
                self.on_cancel(Interrupt::Kill, reason)
            }
        }
    }

    /// Recomputes the counters and the list of unblocked stages from the state.
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
            if open == 0 && stage.kind == StageKind::Main && status == StageStatus::Pending {
                self.unblocked.push(index);
            }
        }
        self.finally_resolved = false;
    }

    fn on_woken(&mut self, stage: StageIndex, attempt: u32) -> Result<(), IllegalTransition> {
        if self.undoing == Some(stage) {
            if self.running.contains(&stage) || self.acquiring.contains(&stage) {
                return Ok(());
            }
            if self.has_slot() {
                self.acquire_environment(stage, true);
            } else {
                self.response.actions.push(Action::Wake { stage, attempt, after: POLL_INTERVAL });
            }
            return Ok(());
        }
        if self.awaited.contains_key(&stage) {
            // Keep it in `awaited` until the answer arrives: the run must not count as idle in the meantime, and
            // waiting for the same holder must be recorded only once.
            self.ready.insert(stage);
            return Ok(());
        }
        match self.state.stage(stage).status {
            StageStatus::Backoff(due) if due == attempt => {
                self.ready.insert(stage);
                Ok(())
            }
            StageStatus::Waiting(waiting) if waiting == attempt => self.on_gate_timer(stage, attempt),
            StageStatus::Recovering(unresolved) if self.awaits_observation(stage, unresolved) => {
                self.ready.insert(stage);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Advances the run as far as possible without another input.
    fn advance(&mut self) -> Result<(), IllegalTransition> {
        loop {
            // Stages can end in this loop without having run: because their `if` is false, or because their gate opens
            // after a cancellation and is cancelled at once. Such an end can be what the finally stages or a
            // compensation were waiting for, and no later input would start these. Repeat until a pass ends no stage
            // and queues nothing.
            let before = (self.open, self.undo_queue.len());
            while let Some(index) = self.unblocked.pop() {
                if self.state.stage(index).status == StageStatus::Pending {
                    self.resolve(index)?;
                }
            }
            self.advance_undo()?;
            if self.open_main == 0 && !self.finally_resolved && self.open > 0 && !self.is_compensating() {
                self.finally_resolved = true;
                let finally = self.plan.indices().filter(|&index| {
                    self.plan.stage(index).kind == StageKind::Finally && self.open_needs[index.get()] == 0
                });
                self.unblocked.extend(finally);
                continue;
            }
            self.reacquire();
            self.launch_ready()?;
            if self.unblocked.is_empty() && before == (self.open, self.undo_queue.len()) {
                break;
            }
        }
        let is_over = self.open == 0 && !self.is_compensating();
        if is_over && self.state.conclusion.is_none() && self.state.run.is_some() {
            let conclusion = self.conclusion();
            self.record(EventKind::RunEnded { conclusion })?;
            self.finish(Some(conclusion), Vec::new());
        }
        Ok(())
    }

    fn advance_undo(&mut self) -> Result<(), IllegalTransition> {
        if self.state.cancel != Some(Interrupt::Kill) || self.undoing.is_some() {
            return self.next_undo();
        }
        while let Some(&(stage, _)) = self.undo_queue.front() {
            let failure = failure(FailureKind::Cancelled, "the run was cancelled");
            self.end_undo(stage, Outcome::Cancelled, Some(failure))?;
        }
        Ok(())
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

    fn summary_of(&self, index: StageIndex) -> StageSummary {
        let stage = self.plan.stage(index);
        let plugin = self.values.plugin(index);
        StageSummary {
            id: stage.id.clone(),
            name: stage.name.clone(),
            kind: stage.kind,
            uses: stage.uses.to_string(),
            needs: stage.needs.clone(),
            environment: stage.environment.as_ref().map(|environment| environment.name.clone()),
            plugin: plugin.digest,
            effect: plugin.effect,
            rehearsal: plugin.rehearsal,
        }
    }

    fn waiting(&self) -> Vec<StageIndex> {
        let is_waiting = |index: &StageIndex| matches!(self.state.stage(*index).status, StageStatus::Waiting(_));
        self.plan.indices().filter(is_waiting).collect()
    }
}

fn failure(kind: FailureKind, message: impl Into<String>) -> Failure {
    Failure::new(kind, message, can_retry(kind))
}
