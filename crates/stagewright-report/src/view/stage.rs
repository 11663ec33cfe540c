//! One stage as readers see it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::Value as Json;
use stagewright_engine::{
    Decision, Event, EventKind, Failure, Fidelity, Finding, Gate, Outcome, Problem, RunId, StageSummary, Stream,
    Timestamp,
};
use stagewright_model::StageIndex;

/// How many log lines of each stage are kept at hand.
pub const TAIL: usize = 20;

/// A stage, as far as the events tell.
#[derive(Clone, Debug, PartialEq)]
pub struct StageView {
    /// What [`EventKind::RunStarted`] said of it.
    pub summary: Arc<StageSummary>,
    /// Where it stands.
    pub status: StageStatus,
    /// The last attempt that began; 0 when none did.
    pub attempt: u32,
    /// Whether an attempt began since the run was last resumed; of one before, the duration isn't known.
    pub has_run: bool,
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
    /// The run whose result was taken for that of its last attempt.
    pub cached: Option<RunId>,
    /// Answers to the gate that is or was open.
    pub decisions: Vec<Decision>,
    /// The first effect beyond this machine that its last attempt was about to have.
    pub intended: Option<String>,
    /// What became of its last attempt, when that had been left in doubt.
    pub recovered: Option<Finding>,
    /// Whether, and how, its effect was taken back.
    pub undo: Option<Box<UndoView>>,
}

/// The effect of a stage is, or was, to be taken back.
#[derive(Clone, Debug, PartialEq)]
pub struct UndoView {
    /// The stage whose failure asks for it; none when it could not even begin.
    pub because: Option<StageIndex>,
    /// When it began.
    pub since: Timestamp,
    /// How it ended, and what went wrong or why there was nothing to do; none while it is under way.
    pub end: Option<(Outcome, Option<Failure>)>,
}

/// Where a stage stands.
#[derive(Clone, Debug, PartialEq)]
pub enum StageStatus {
    /// It hasn't begun, or is about to go on after a gate.
    Pending,
    /// An attempt is under way.
    Running,
    /// Another run has its environment.
    AwaitingEnvironment {
        /// Which.
        holder: RunId,
    },
    /// Its last attempt was broken off, and what became of that is being found out.
    Recovering {
        /// When that began.
        since: Timestamp,
    },
    /// It waits for a person, or for a time.
    Waiting(Box<Gate>),
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
    /// As the plugin reported it, unsanitised: see [`Printable`](crate::Printable).
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

impl StageStatus {
    /// The result that readers show: the conclusion, but `skipped` for a stage that did nothing, although that counts
    /// as a success for those that need it.
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
            summaries: Vec::new(),
            cached: None,
            decisions: Vec::new(),
            intended: None,
            recovered: None,
            undo: None,
        }
    }

    /// For a resume: but for what a crash may have left behind, nothing has happened.
    pub(super) fn begin_anew(&mut self) {
        let (attempt, intended) = (self.attempt, self.intended.take());
        *self = StageView { attempt, intended, ..StageView::new(self.summary.clone()) };
    }

    pub(super) fn forget_environment(&mut self) {
        if let StageStatus::AwaitingEnvironment { .. } = self.status {
            self.status = StageStatus::Pending;
        }
    }

    /// The result after `continue-on-error`, once there is one.
    pub fn conclusion(&self) -> Option<Outcome> {
        match self.status {
            StageStatus::Ended { conclusion, .. } => Some(conclusion),
            _ => None,
        }
    }

    /// The run whose result stands for its own, once it has succeeded that way.
    pub fn is_cached(&self) -> Option<&RunId> {
        let succeeded = matches!(self.status, StageStatus::Ended { outcome: Outcome::Succeeded, .. });
        self.cached.as_ref().filter(|_| succeeded)
    }

    /// Why its last attempt didn't succeed, if it didn't.
    pub fn failure(&self) -> Option<&Failure> {
        let last = self.unsuccessful.last().filter(|last| last.attempt == self.attempt)?;
        last.failure.as_ref()
    }

    /// Whether one of its findings says `failure` already, as the refusal of a permission does.
    pub(crate) fn reports(&self, failure: &Failure) -> bool {
        self.problems.iter().any(|problem| problem.message == failure.message)
    }

    /// Findings that its failure doesn't repeat.
    pub(crate) fn further_problems(&self) -> impl Iterator<Item = &Problem> {
        let failure = self.failure();
        self.problems.iter().filter(move |problem| {
            failure
                .is_none_or(|failure| problem.message != failure.message && !failure.causes.contains(&problem.message))
        })
    }

    /// The end of its log, without lines that its failure repeats.
    pub(crate) fn further_tail(&self) -> impl Iterator<Item = &TailLine> {
        let causes = self.failure().map(|failure| failure.causes.as_slice()).unwrap_or_default();
        let repeated =
            |text: &str| causes.iter().flat_map(|cause| cause.lines()).any(|line| line.trim() == text.trim());
        self.tail.iter().filter(move |line| !repeated(&line.text))
    }

    /// How much of it was real, when it was rehearsed; before it has ended, how much is going to be.
    pub fn fidelity(&self) -> Option<Fidelity> {
        let planned = self.summary.rehearsal?;
        Some(match self.status {
            StageStatus::Ended { outcome: Outcome::Rehearsed, .. } => Fidelity::Rehearsed,
            // It ended without coming to what would not have been done.
            StageStatus::Ended { .. } => planned.min(Fidelity::StandIn),
            _ => planned,
        })
    }

    /// Whether its effect was there and is no more.
    pub fn is_taken_back(&self) -> bool {
        matches!(self.undo.as_deref(), Some(UndoView { end: Some((Outcome::Succeeded, _)), .. }))
    }

    /// How taking its effect back ended, when that didn't succeed.
    pub fn undo_failure(&self) -> Option<(Outcome, Option<&Failure>)> {
        match self.undo.as_ref()?.end.as_ref()? {
            (Outcome::Succeeded | Outcome::Skipped | Outcome::Rehearsed, _) => None,
            (outcome, failure) => Some((*outcome, failure.as_ref())),
        }
    }

    /// Since when its effect is being taken back, if it is.
    pub fn undone_since(&self) -> Option<Timestamp> {
        self.undo.as_ref().filter(|undo| undo.end.is_none()).map(|undo| undo.since)
    }

    /// Milliseconds that its attempts took, the running one up to `now`.
    pub fn busy_until(&self, now: Timestamp) -> u64 {
        self.busy + self.running_since.map_or(0, |since| now.since(since))
    }

    /// Milliseconds that its last attempt took, up to `now` if it is running.
    pub fn attempt_until(&self, now: Timestamp) -> u64 {
        self.busy_until(now) - self.busy_before
    }

    pub(super) fn has_failed(&self) -> bool {
        use Outcome::{Cancelled, Rehearsed, Skipped, Succeeded};
        self.conclusion().is_some_and(|conclusion| !matches!(conclusion, Succeeded | Skipped | Cancelled | Rehearsed))
    }

    pub(super) fn say(&mut self, stream: Stream, line: &str) {
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(TailLine { stream, text: line.to_owned() });
    }

    pub(super) fn apply(&mut self, event: &Event) {
        match &event.kind {
            EventKind::AttemptStarted { attempt, .. } => self.start(*attempt, event.at),
            EventKind::Log { stream, line, .. } => self.say(*stream, line),
            EventKind::Progress { message, current, total, .. } => {
                self.progress = Some(Progress { message: message.clone(), current: *current, total: *total });
            }
            EventKind::Summary { markdown, .. } => self.summaries.push(markdown.clone()),
            EventKind::CacheLookedUp { hit_from, .. } => self.cached.clone_from(hit_from),
            EventKind::Problem { problem, .. } => self.problems.push(problem.clone()),
            EventKind::GateOpened { gate, .. } => {
                self.stop(event.at);
                self.decisions.clear();
                self.status = StageStatus::Waiting(Box::new(gate.clone()));
            }
            EventKind::GateDecided { decision, .. } => self.decide(decision),
            EventKind::GateElapsed { .. } => self.status = StageStatus::Pending,
            // What waits to be taken back has ended before.
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
            self.summaries.clear();
            self.intended = None;
        }
        self.cached = None;
        self.attempt = attempt;
        self.has_run = true;
        self.recovered = None;
        self.running_since = Some(at);
        self.progress = None;
        self.status = StageStatus::Running;
    }

    fn stop(&mut self, at: Timestamp) {
        self.busy = self.busy_until(at);
        self.running_since = None;
        self.progress = None;
    }

    /// What was found takes the place of what an attempt that was broken off seemed to come to.
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
