//! The state of one stage as readers show it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::Value as Json;
use stagewright_engine::{
    Decision, Event, EventKind, Failure, Fidelity, Finding, Gate, GateKind, Metric, Outcome, Problem, RunId,
    StageSummary, Stream, TestCase, Timestamp,
};
use stagewright_model::StageIndex;

/// The number of log lines that are kept for each stage.
pub const TAIL: usize = 20;

/// The state of a stage after the events so far.
#[derive(Clone, Debug, PartialEq)]
pub struct StageView {
    /// The stage as [`EventKind::RunStarted`] describes it.
    pub summary: Arc<StageSummary>,
    /// Its current status.
    pub status: StageStatus,
    /// The last attempt that started, from 1; 0 if none did.
    pub attempt: u32,
    /// Whether an attempt started since the run was last resumed. The duration of an earlier attempt isn't known.
    pub has_run: bool,
    /// When the running attempt started, or continued after a gate.
    pub running_since: Option<Timestamp>,
    /// Milliseconds that finished attempts took, without the time at gates and between attempts.
    pub busy: u64,
    /// The part of `busy` from before the last attempt.
    pub busy_before: u64,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Why it never started or had nothing to do.
    pub reason: Option<String>,
    /// The progress that the running attempt last reported.
    pub progress: Option<Progress>,
    /// The last [`TAIL`] log lines of the last attempt.
    pub tail: VecDeque<TailLine>,
    /// Attempts that didn't succeed, in order.
    pub unsuccessful: Vec<UnsuccessfulAttempt>,
    /// Outputs of the last attempt that ended, by name.
    pub outputs: BTreeMap<String, Json>,
    /// Findings of the last attempt.
    pub problems: Vec<Problem>,
    /// The results of the tests that the current attempt ran.
    pub tests: Vec<TestCase>,
    /// The figures of the current attempt.
    pub metrics: Vec<Metric>,
    /// Markdown of the last attempt.
    pub summaries: Vec<String>,
    /// The run whose cached result its last attempt used.
    pub cached: Option<RunId>,
    /// Answers to the gate that is open or was open last.
    pub decisions: Vec<Decision>,
    /// The wait that its attempt is at, or that it continued after.
    pub wait: Option<WaitView>,
    /// The first effect beyond this machine that its last attempt announced.
    pub intended: Option<String>,
    /// The outcome that was determined for its last attempt after an interruption.
    pub recovered: Option<Finding>,
    /// Its compensation, once that has started or was skipped.
    pub undo: Option<Box<UndoView>>,
}

/// A wait of an attempt, for a time or a signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitView {
    /// Its token.
    pub token: String,
    /// What the plugin waits for.
    pub reason: String,
    /// Whether the attempt's last wait was for the same. A plugin that polls every few seconds isn't news each time.
    pub is_repeated: bool,
}

/// The compensation of a stage.
#[derive(Clone, Debug, PartialEq)]
pub struct UndoView {
    /// The stage whose failure requires it; none if it ended without having started.
    pub because: Option<StageIndex>,
    /// When it started.
    pub since: Timestamp,
    /// How it ended, and what went wrong or why there was nothing to undo; none while it is running.
    pub end: Option<(Outcome, Option<Failure>)>,
}

/// The status of a stage.
#[derive(Clone, Debug, PartialEq)]
pub enum StageStatus {
    /// It hasn't started, or is about to continue after a gate.
    Pending,
    /// An attempt is running.
    Running,
    /// It waits for another run to release its environment.
    AwaitingEnvironment {
        /// The run that holds the environment.
        holder: RunId,
    },
    /// Its last attempt was interrupted, and its plugin is determining the outcome.
    Recovering {
        /// Since when.
        since: Timestamp,
    },
    /// It waits at an open gate.
    Waiting(Box<Gate>),
    /// It waits to be retried.
    Retrying {
        /// When the next attempt starts.
        at: Timestamp,
    },
    /// It has ended.
    Ended {
        /// Raw result.
        outcome: Outcome,
        /// Result after `continue-on-error`.
        conclusion: Outcome,
    },
}

/// The progress of an attempt, as its plugin reports it.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// What the attempt is doing.
    pub message: String,
    /// Units that are done; the plugin chooses the unit.
    pub current: u64,
    /// All units, if known.
    pub total: Option<u64>,
}

/// A log line in [`StageView::tail`].
#[derive(Clone, Debug, PartialEq)]
pub struct TailLine {
    /// Where it came from.
    pub stream: Stream,
    /// As the plugin reported it, unsanitised: see [`Printable`](crate::Printable).
    pub text: String,
}

/// An attempt that didn't succeed.
#[derive(Clone, Debug, PartialEq)]
pub struct UnsuccessfulAttempt {
    /// Its number, from 1.
    pub attempt: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// What went wrong, if it was reported.
    pub failure: Option<Failure>,
}

impl StageStatus {
    /// The result that readers show: the conclusion, except that a skipped stage is shown as skipped even if it counts
    /// as a success for the stages that need it.
    pub fn shown(&self) -> Option<Outcome> {
        match self {
            StageStatus::Ended { outcome: Outcome::Skipped, .. } => Some(Outcome::Skipped),
            StageStatus::Ended { conclusion, .. } => Some(*conclusion),
            _ => None,
        }
    }
}

impl StageView {
    pub(super) fn new(summary: Arc<StageSummary>) -> StageView {
        StageView {
            summary,
            status: StageStatus::Pending,
            attempt: 0,
            has_run: false,
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
            tests: Vec::new(),
            metrics: Vec::new(),
            summaries: Vec::new(),
            cached: None,
            decisions: Vec::new(),
            wait: None,
            intended: None,
            recovered: None,
            undo: None,
        }
    }

    /// Forgets everything but the number of the last attempt and its announced effect: a resume runs the stage again, and
    /// the effect may have happened although the attempt's end was never recorded.
    pub(super) fn reset(&mut self) {
        let (attempt, intended) = (self.attempt, self.intended.take());
        *self = StageView { attempt, intended, ..StageView::new(self.summary.clone()) };
    }

    pub(super) fn forget_environment(&mut self) {
        if let StageStatus::AwaitingEnvironment { .. } = self.status {
            self.status = StageStatus::Pending;
        }
    }

    /// The result after `continue-on-error`; none until the stage has ended.
    pub fn conclusion(&self) -> Option<Outcome> {
        match self.status {
            StageStatus::Ended { conclusion, .. } => Some(conclusion),
            _ => None,
        }
    }

    /// The run whose cached result the stage succeeded with.
    pub fn is_cached(&self) -> Option<&RunId> {
        let succeeded = matches!(self.status, StageStatus::Ended { outcome: Outcome::Succeeded, .. });
        self.cached.as_ref().filter(|_| succeeded)
    }

    /// Whether its attempt waits for the same time or signal as before, or has continued after such a wait.
    pub(crate) fn repeats_wait(&self) -> bool {
        self.wait.as_ref().is_some_and(|wait| wait.is_repeated)
    }

    /// The failure of its last attempt.
    pub fn failure(&self) -> Option<&Failure> {
        let last = self.unsuccessful.last().filter(|last| last.attempt == self.attempt)?;
        last.failure.as_ref()
    }

    /// Whether one of its findings repeats the message of `failure`, as the finding of a denied permission does.
    pub(crate) fn reports(&self, failure: &Failure) -> bool {
        self.problems.iter().any(|problem| problem.message == failure.message)
    }

    /// In a rehearsal, how much of the stage was real, or before it has ended, how much is planned to be; none in other
    /// runs.
    pub fn fidelity(&self) -> Option<Fidelity> {
        let planned = self.summary.rehearsal?;
        Some(match self.status {
            StageStatus::Ended { outcome: Outcome::Rehearsed, .. } => Fidelity::Rehearsed,
            // A stage that is planned as `Rehearsed` may end before it reaches an effect that has to be left out. All
            // that it did was then real or acted on stand-ins.
            StageStatus::Ended { .. } => planned.min(Fidelity::StandIn),
            _ => planned,
        })
    }

    /// Whether its compensation succeeded.
    pub fn is_compensated(&self) -> bool {
        matches!(self.undo.as_deref(), Some(UndoView { end: Some((Outcome::Succeeded, _)), .. }))
    }

    /// How its compensation ended, if it failed.
    pub fn undo_failure(&self) -> Option<(Outcome, Option<&Failure>)> {
        match self.undo.as_ref()?.end.as_ref()? {
            (Outcome::Succeeded | Outcome::Skipped | Outcome::Rehearsed, _) => None,
            (outcome, failure) => Some((*outcome, failure.as_ref())),
        }
    }

    /// When its compensation started, while that is running.
    pub fn undone_since(&self) -> Option<Timestamp> {
        self.undo.as_ref().filter(|undo| undo.end.is_none()).map(|undo| undo.since)
    }

    /// Milliseconds that its attempts took; of the running one, up to `now`.
    pub fn busy_until(&self, now: Timestamp) -> u64 {
        self.busy + self.running_since.map_or(0, |since| now.since(since))
    }

    /// Milliseconds that its last attempt took; up to `now` if it is running.
    pub fn attempt_until(&self, now: Timestamp) -> u64 {
        self.busy_until(now) - self.busy_before
    }

    pub(super) fn has_failed(&self) -> bool {
        use Outcome::{Cancelled, Rehearsed, Skipped, Succeeded};
        self.conclusion().is_some_and(|conclusion| !matches!(conclusion, Succeeded | Skipped | Cancelled | Rehearsed))
    }

    pub(super) fn push_line(&mut self, stream: Stream, line: &str) {
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(TailLine { stream, text: line.to_owned() });
    }

    pub(super) fn apply(&mut self, event: &Event) {
        match &event.kind {
            EventKind::AttemptStarted { attempt, .. } => self.start(*attempt, event.at),
            EventKind::Log { stream, line, .. } => self.push_line(*stream, line),
            EventKind::Progress { message, current, total, .. } => {
                self.progress = Some(Progress { message: message.clone(), current: *current, total: *total });
            }
            EventKind::Summary { markdown, .. } => self.summaries.push(markdown.clone()),
            EventKind::CacheLookedUp { hit_from, .. } => self.cached.clone_from(hit_from),
            EventKind::Problem { problem, .. } => self.problems.push(problem.clone()),
            EventKind::TestsReported { cases, .. } => self.tests.extend(cases.iter().cloned()),
            EventKind::MetricsReported { metrics, .. } => self.metrics.clone_from(metrics),
            EventKind::GateOpened { gate, .. } => {
                self.stop(event.at);
                self.decisions.clear();
                self.note_wait(gate);
                self.status = StageStatus::Waiting(Box::new(gate.clone()));
            }
            EventKind::GateSignalled { .. } => self.status = StageStatus::Pending,
            EventKind::GateDecided { decision, .. } => self.decide(decision),
            EventKind::GateElapsed { .. } => self.status = StageStatus::Pending,
            // A stage that waits for its environment in order to be compensated has ended already, and stays ended.
            EventKind::EnvironmentAwaited { holder, .. } if self.conclusion().is_none() => {
                self.status = StageStatus::AwaitingEnvironment { holder: holder.clone() };
            }
            EventKind::OutputsInherited { outputs, .. } => self.outputs.clone_from(outputs),
            EventKind::EffectIntended { what, .. } => self.intended = Some(what.clone()),
            EventKind::RecoveryStarted { attempt, .. } => {
                self.stop(event.at);
                self.attempt = *attempt;
                self.status = StageStatus::Recovering { since: event.at };
            }
            EventKind::Recovered { attempt, finding, outputs, .. } => self.recover(*attempt, finding, outputs),
            EventKind::UndoStarted { because, .. } => {
                self.undo = Some(Box::new(UndoView { because: Some(*because), since: event.at, end: None }));
            }
            EventKind::UndoEnded { outcome, failure, .. } => {
                self.progress = None;
                let undo = self.undo.get_or_insert(Box::new(UndoView { because: None, since: event.at, end: None }));
                undo.end = Some((*outcome, failure.clone()));
            }
            EventKind::AttemptEnded { attempt, outcome, failure, outputs, .. } => {
                self.stop(event.at);
                self.outputs.clone_from(outputs);
                self.status = StageStatus::Pending;
                if !matches!(outcome, Outcome::Succeeded | Outcome::Skipped | Outcome::Rehearsed) {
                    let (attempt, outcome, failure) = (*attempt, *outcome, failure.clone());
                    self.unsuccessful.push(UnsuccessfulAttempt { attempt, outcome, failure });
                } else if let Some(failure) = failure {
                    self.reason = Some(failure.message.clone());
                }
            }
            EventKind::RetryScheduled { after, .. } => {
                self.status = StageStatus::Retrying { at: Timestamp(event.at.0 + after) };
            }
            EventKind::StageEnded { outcome, conclusion, reason, .. } => {
                self.stop(event.at);
                self.status = StageStatus::Ended { outcome: *outcome, conclusion: *conclusion };
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
            self.tests.clear();
            self.metrics.clear();
            self.summaries.clear();
            self.intended = None;
            self.wait = None;
        }
        self.cached = None;
        self.attempt = attempt;
        self.has_run = true;
        self.recovered = None;
        self.running_since = Some(at);
        self.progress = None;
        self.status = StageStatus::Running;
    }

    fn note_wait(&mut self, gate: &Gate) {
        let Gate { token, message, .. } = gate;
        let is_repeated = self.wait.as_ref().is_some_and(|last| last.token == *token && last.reason == *message);
        self.wait = (gate.kind == GateKind::Wait).then(|| WaitView {
            token: token.clone(),
            reason: message.clone(),
            is_repeated,
        });
    }

    fn stop(&mut self, at: Timestamp) {
        self.busy = self.busy_until(at);
        self.running_since = None;
        self.progress = None;
    }

    /// Replaces the result of an interrupted attempt by the outcome that was determined.
    fn recover(&mut self, attempt: u32, finding: &Finding, outputs: &BTreeMap<String, Json>) {
        self.status = StageStatus::Pending;
        self.progress = None;
        self.recovered = Some(finding.clone());
        if *finding != Finding::NotStarted {
            self.unsuccessful.retain(|unsuccessful| unsuccessful.attempt != attempt);
            self.outputs.clone_from(outputs);
        }
    }

    fn decide(&mut self, decision: &Decision) {
        self.decisions.push(decision.clone());
        let approvals = self.decisions.iter().filter(|decision| decision.approved).count();
        if let StageStatus::Waiting(gate) = &self.status
            && (!decision.approved || approvals >= gate.approvals as usize)
        {
            self.status = StageStatus::Pending;
        }
    }
}
