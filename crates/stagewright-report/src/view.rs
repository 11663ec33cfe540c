//! A run as its readers see it: the fold of its events so far.

use std::collections::{BTreeMap, VecDeque};

use serde_json::Value as Json;
use stagewright_engine::{
    Decision, Event, EventKind, Failure, Gate, Interrupt, Outcome, Problem, RunId, StageSummary, Stream, Timestamp,
};
use stagewright_model::StageIndex;

/// How many log lines of each stage are kept at hand.
pub const TAIL: usize = 20;

/// A run, as far as its events tell. Unlike the engine's own fold it doesn't judge: an event that can't follow is
/// shown like any other, and one of an unknown stage is left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunView {
    /// None before the first event.
    pub run: Option<RunId>,
    /// `[pipeline] name`.
    pub pipeline: String,
    /// The pipeline file, as it was given.
    pub file: String,
    /// Whether effects act on local stand-ins.
    pub rehearsal: bool,
    /// When the run began.
    pub started: Timestamp,
    /// When the last event happened.
    pub last: Timestamp,
    /// By plan index.
    pub stages: Vec<StageView>,
    /// The last wish to end the run early: how, and by whom or what.
    pub cancel: Option<(Interrupt, String)>,
    /// Whether only gates are left.
    pub suspended: bool,
    /// Set when the run has ended.
    pub conclusion: Option<Outcome>,
}

/// A stage, as far as the events tell.
#[derive(Clone, Debug, PartialEq)]
pub struct StageView {
    /// What [`EventKind::RunStarted`] said of it.
    pub summary: StageSummary,
    /// Where it stands.
    pub status: Status,
    /// The last attempt that began; 0 when none did.
    pub attempt: u32,
    /// When the attempt that is running now began, or went on after a gate.
    pub running_since: Option<Timestamp>,
    /// Milliseconds that attempts took which don't run any more, without waits at gates and between attempts.
    pub busy: u64,
    /// The part of `busy` that came before the last attempt.
    pub busy_before: u64,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Why it never started, when it didn't.
    pub reason: Option<String>,
    /// What its running attempt last said of itself.
    pub progress: Option<Progress>,
    /// The last [`TAIL`] log lines of the last attempt.
    pub tail: VecDeque<TailLine>,
    /// Attempts that didn't succeed, in order.
    pub unsuccessful: Vec<UnsuccessfulAttempt>,
    /// Of the last attempt that ended.
    pub outputs: BTreeMap<String, Json>,
    /// Findings of the last attempt.
    pub problems: Vec<Problem>,
    /// Markdown of the last attempt.
    pub summaries: Vec<String>,
    /// Answers to the gate that is or was open.
    pub decisions: Vec<Decision>,
}

/// Where a stage stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Status {
    /// It hasn't begun, or is about to go on after a gate.
    Pending,
    /// An attempt is under way.
    Running,
    /// It waits for a person.
    Waiting(Gate),
    /// The next attempt waits for its time.
    Retrying {
        /// When that is.
        at: Timestamp,
    },
    /// Nothing more will happen to it.
    Ended {
        /// Raw result.
        outcome: Outcome,
        /// Result after `continue-on-error`.
        conclusion: Outcome,
    },
}

/// How far an attempt is.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// What it does.
    pub message: String,
    /// Units done.
    pub current: u32,
    /// Units in all, when known.
    pub total: Option<u32>,
}

/// A log line at hand.
#[derive(Clone, Debug, PartialEq)]
pub struct TailLine {
    /// Where it came from.
    pub stream: Stream,
    /// As it came; not yet [`printable`](crate::printable).
    pub text: String,
}

/// An attempt that didn't succeed.
#[derive(Clone, Debug, PartialEq)]
pub struct UnsuccessfulAttempt {
    /// Which try.
    pub attempt: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// Why.
    pub failure: Option<Failure>,
}

impl Status {
    /// The result that readers show: the conclusion, but `skipped` for a stage that did nothing, although that counts
    /// as a success for those that need it.
    pub fn shown(&self) -> Option<Outcome> {
        match self {
            Status::Ended { outcome: Outcome::Skipped, .. } => Some(Outcome::Skipped),
            Status::Ended { conclusion, .. } => Some(*conclusion),
            _ => None,
        }
    }
}

impl RunView {
    /// Of a run's events so far.
    pub fn of<'a>(events: impl IntoIterator<Item = &'a Event>) -> RunView {
        let mut view = RunView::default();
        events.into_iter().for_each(|event| view.apply(event));
        view
    }

    /// Takes one event in.
    pub fn apply(&mut self, event: &Event) {
        if self.run.is_none() {
            self.started = event.at;
        }
        self.last = event.at;
        if let Some(index) = stage_of(&event.kind) {
            if let Some(stage) = self.stages.get_mut(index.get()) {
                stage.apply(event);
            }
            return;
        }
        match &event.kind {
            EventKind::RunStarted { run, pipeline, file, rehearsal, stages, .. } => {
                self.run = Some(run.clone());
                self.pipeline.clone_from(pipeline);
                self.file.clone_from(file);
                self.rehearsal = *rehearsal;
                self.stages = stages.iter().cloned().map(StageView::new).collect();
            }
            EventKind::RunResumed { again, .. } => {
                self.suspended = false;
                self.conclusion = None;
                self.cancel = None;
                for index in again {
                    if let Some(stage) = self.stages.get_mut(index.get()) {
                        *stage = StageView { attempt: stage.attempt, ..StageView::new(stage.summary.clone()) };
                    }
                }
            }
            EventKind::CancelRequested { how, reason } => self.cancel = Some((*how, reason.clone())),
            EventKind::RunSuspended { .. } => self.suspended = true,
            EventKind::RunEnded { conclusion } => self.conclusion = Some(*conclusion),
            _ => {}
        }
    }

    /// The stage at `index`.
    pub fn stage(&self, index: StageIndex) -> Option<&StageView> {
        self.stages.get(index.get())
    }

    /// The stage's id; its number when the run has no such stage.
    pub fn stage_id(&self, index: StageIndex) -> String {
        self.stage(index).map_or_else(|| format!("stage {}", index.0), |stage| stage.summary.id.clone())
    }

    /// The run's id as text; empty before the first event.
    pub fn run_id(&self) -> &str {
        self.run.as_ref().map_or("", |run| &run.0)
    }

    /// How many stages have ended.
    pub fn done(&self) -> usize {
        self.stages.iter().filter(|stage| stage.conclusion().is_some()).count()
    }

    /// The stages whose conclusion stops what needs them, other than by being skipped or cancelled.
    pub fn failed(&self) -> impl Iterator<Item = &StageView> {
        self.stages.iter().filter(|stage| stage.has_failed())
    }

    /// The stages at an open gate.
    pub fn waiting(&self) -> impl Iterator<Item = (&StageView, &Gate)> {
        self.stages.iter().filter_map(|stage| match &stage.status {
            Status::Waiting(gate) => Some((stage, gate)),
            _ => None,
        })
    }
}

impl StageView {
    fn new(summary: StageSummary) -> StageView {
        StageView {
            summary,
            status: Status::Pending,
            attempt: 0,
            running_since: None,
            busy: 0,
            busy_before: 0,
            ended: None,
            reason: None,
            progress: None,
            tail: VecDeque::new(),
            unsuccessful: Vec::new(),
            outputs: BTreeMap::new(),
            problems: Vec::new(),
            summaries: Vec::new(),
            decisions: Vec::new(),
        }
    }

    /// The result after `continue-on-error`, once there is one.
    pub fn conclusion(&self) -> Option<Outcome> {
        match self.status {
            Status::Ended { conclusion, .. } => Some(conclusion),
            _ => None,
        }
    }

    /// Why its last attempt didn't succeed, if it didn't.
    pub fn failure(&self) -> Option<&Failure> {
        let last = self.unsuccessful.last().filter(|last| last.attempt == self.attempt)?;
        last.failure.as_ref()
    }

    /// Milliseconds that its attempts took, the running one up to `now`.
    pub fn busy_until(&self, now: Timestamp) -> u64 {
        self.busy + self.running_since.map_or(0, |since| now.since(since))
    }

    /// Milliseconds that its last attempt took, up to `now` if it is running.
    pub fn attempt_until(&self, now: Timestamp) -> u64 {
        self.busy_until(now) - self.busy_before
    }

    fn has_failed(&self) -> bool {
        use Outcome::{Cancelled, Skipped, Succeeded};
        self.conclusion().is_some_and(|conclusion| !matches!(conclusion, Succeeded | Skipped | Cancelled))
    }

    fn apply(&mut self, event: &Event) {
        match &event.kind {
            EventKind::AttemptStarted { attempt, .. } => self.start(*attempt, event.at),
            EventKind::Log { stream, line, .. } => {
                if self.tail.len() == TAIL {
                    self.tail.pop_front();
                }
                self.tail.push_back(TailLine { stream: *stream, text: line.clone() });
            }
            EventKind::Progress { message, current, total, .. } => {
                self.progress = Some(Progress { message: message.clone(), current: *current, total: *total });
            }
            EventKind::Summary { markdown, .. } => self.summaries.push(markdown.clone()),
            EventKind::Problem { problem, .. } => self.problems.push(problem.clone()),
            EventKind::GateOpened { gate, .. } => {
                self.stop(event.at);
                self.decisions.clear();
                self.status = Status::Waiting(gate.clone());
            }
            EventKind::GateDecided { decision, .. } => self.decide(decision),
            EventKind::AttemptEnded { attempt, outcome, failure, outputs, .. } => {
                self.stop(event.at);
                self.outputs.clone_from(outputs);
                self.status = Status::Pending;
                if !matches!(outcome, Outcome::Succeeded | Outcome::Skipped) {
                    let (attempt, outcome, failure) = (*attempt, *outcome, failure.clone());
                    self.unsuccessful.push(UnsuccessfulAttempt { attempt, outcome, failure });
                } else if let Some(failure) = failure {
                    self.reason = Some(failure.message.clone());
                }
            }
            EventKind::RetryScheduled { after, .. } => {
                self.status = Status::Retrying { at: Timestamp(event.at.0 + after) };
            }
            EventKind::StageEnded { outcome, conclusion, reason, .. } => {
                self.stop(event.at);
                self.status = Status::Ended { outcome: *outcome, conclusion: *conclusion };
                self.ended = Some(event.at);
                self.reason = reason.clone().or(self.reason.take());
            }
            _ => {}
        }
    }

    fn start(&mut self, attempt: u32, at: Timestamp) {
        if attempt != self.attempt {
            self.busy_before = self.busy;
            self.tail.clear();
            self.problems.clear();
            self.summaries.clear();
        }
        self.attempt = attempt;
        self.running_since = Some(at);
        self.progress = None;
        self.status = Status::Running;
    }

    fn stop(&mut self, at: Timestamp) {
        self.busy = self.busy_until(at);
        self.running_since = None;
        self.progress = None;
    }

    fn decide(&mut self, decision: &Decision) {
        self.decisions.push(decision.clone());
        let approvals = self.decisions.iter().filter(|decision| decision.approved).count();
        if let Status::Waiting(gate) = &self.status
            && (!decision.approved || approvals >= gate.approvals as usize)
        {
            self.status = Status::Pending;
        }
    }
}

/// The stage that an event is about.
pub(crate) fn stage_of(kind: &EventKind) -> Option<StageIndex> {
    match kind {
        EventKind::AttemptStarted { stage, .. }
        | EventKind::Log { stage, .. }
        | EventKind::Progress { stage, .. }
        | EventKind::Summary { stage, .. }
        | EventKind::Problem { stage, .. }
        | EventKind::GateOpened { stage, .. }
        | EventKind::GateDecided { stage, .. }
        | EventKind::AttemptEnded { stage, .. }
        | EventKind::RetryScheduled { stage, .. }
        | EventKind::OutputsInherited { stage, .. }
        | EventKind::EnvironmentAwaited { stage, .. }
        | EventKind::EffectIntended { stage, .. }
        | EventKind::RecoveryStarted { stage, .. }
        | EventKind::Recovered { stage, .. }
        | EventKind::ReleaseRecorded { stage, .. }
        | EventKind::ReleaseConfirmed { stage }
        | EventKind::UndoStarted { stage, .. }
        | EventKind::UndoEnded { stage, .. }
        | EventKind::GateElapsed { stage }
        | EventKind::StageEnded { stage, .. } => Some(*stage),
        EventKind::RunStarted { .. }
        | EventKind::RunResumed { .. }
        | EventKind::GroupAwaited { .. }
        | EventKind::GroupJoined { .. }
        | EventKind::GroupLeft { .. }
        | EventKind::CancelRequested { .. }
        | EventKind::RunSuspended { .. }
        | EventKind::RunEnded { .. } => None,
    }
}
