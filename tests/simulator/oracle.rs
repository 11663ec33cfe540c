//! The world's own knowledge of its runs, against which every decision of the engine is checked.
//!
//! [`Facts`] has what happened outside the engine: the plugins' reports, the people's decisions, the grants of the
//! coordinator. [`Truth`] is a small model of a run, written without the engine's code. An event is a decision of the engine
//! and never evidence: it must follow from the facts, the plan and the earlier decisions, and what it says about the world
//! (a finding, an outcome, a vote) is compared with the facts. Only then is it applied to the model.
//!
//! ```text
//! plugins, people, coordinator, clock ──> Facts ─┐
//! plan ──────────────────────────────────────────┼──> may this follow? ──> Truth
//! event that the engine records ─────────────────┘           └──> a violation
//! ```
//!
//! After a power cut the end of the journal is lost, and with it the engine's memory. The model is then reset to its state
//! at that length of the journal. The facts and the effects on targets (`target.rs`) are kept.

mod artifacts;
mod attempts;
mod calls;
mod endings;
mod facts;
mod gates;
mod places;
mod resume;
mod starts;
mod truth;
mod undo;
mod waits;

use std::cell::RefCell;

use stagewright_engine::{Decision, Event, EventKind, Outcome, Timestamp};
use stagewright_model::{Plan, Stage, StageIndex};

pub(crate) use self::facts::Facts;
pub(crate) use self::truth::{Phase, Truth};
use crate::world::{Inner, Run};

/// The result of a check; the error is what is wrong.
type CheckResult = Result<(), String>;

/// What a check is based on, besides the model.
struct Context<'a> {
    inner: &'a Inner,
    run: usize,
    /// The process that decided.
    process: u32,
    /// The wall-clock time of the decision.
    at: Timestamp,
    /// The person's answer that the process has decided on.
    answer: Option<(StageIndex, Decision)>,
    /// The cases that occurred, to be counted.
    seen: RefCell<Vec<&'static str>>,
}

impl Context<'_> {
    fn run(&self) -> &Run {
        &self.inner.runs[self.run]
    }

    fn plan(&self) -> &Plan {
        &self.run().pipeline.plan
    }

    fn stage(&self, index: StageIndex) -> &Stage {
        self.plan().stage(index)
    }

    fn facts(&self) -> &Facts {
        &self.run().facts
    }

    fn count(&self, what: &'static str) {
        self.seen.borrow_mut().push(what);
    }
}

impl Inner {
    /// Checks an event that the engine records, and applies it to the model.
    pub(crate) fn check_event(&mut self, run: usize, process: u32, event: &Event) {
        let answer = match event.kind {
            EventKind::GateDecided { .. } => self.runs[run].facts.answers.pop_front(),
            _ => None,
        };
        if let EventKind::RunResumed { again, .. } = &event.kind {
            self.allow_repeats_after_compensation(run, again);
        }
        let mut truth = std::mem::take(&mut self.runs[run].truth);
        let context = Context { inner: self, run, process, at: event.at, answer, seen: RefCell::default() };
        let judged = truth.lacks_no_artifact(&context, &event.kind).and_then(|()| truth.apply(&context, &event.kind));
        let seen = context.seen.into_inner();
        self.runs[run].truth = truth;
        seen.into_iter().for_each(|what| self.count(what));
        if let Err(wrong) = judged {
            self.violate(|| format!("r{run} {}: {wrong}", name_of(&event.kind)));
        }
        self.follow_up(run, &event.kind);
    }

    /// Applies the consequences of an event outside the model.
    fn follow_up(&mut self, run: usize, kind: &EventKind) {
        if let EventKind::AttemptStarted { stage, .. }
        | EventKind::RecoveryStarted { stage, .. }
        | EventKind::UndoStarted { stage, .. } = kind
        {
            *self.runs[run].facts.begun.entry(*stage).or_default() += 1;
        }
        match kind {
            EventKind::RunStarted { .. } | EventKind::RunResumed { .. } => self.runs[run].facts.taken_up = true,
            EventKind::CancelRequested { how, .. } => self.expect_a_stop(run, *how),
            EventKind::StageEnded { stage, conclusion, .. } => self.expect_siblings_to_stop(run, *stage, *conclusion),
            EventKind::GateSignalled { signal, .. } | EventKind::SignalKept { signal } => {
                let waiting = &mut self.runs[run].facts.signals;
                if waiting.front() == Some(signal) {
                    waiting.pop_front();
                }
            }
            EventKind::GateOpened { gate, .. } => {
                self.runs[run].facts.opened.insert(gate.token.clone());
            }
            EventKind::AttemptStarted { stage, fence: Some(fence), .. }
            | EventKind::UndoStarted { stage, fence: Some(fence), .. } => self.use_token(run, *stage, *fence),
            _ => {}
        }
    }

    /// Checks that only one attempt is started under a token.
    fn use_token(&mut self, run: usize, stage: StageIndex, fence: u64) {
        let environment = self.runs[run].pipeline.plan.stage(stage).environment.as_ref();
        let environment = environment.map(|environment| environment.name.clone()).unwrap_or_default();
        if !self.fences.insert((environment.clone(), fence)) {
            self.violate(|| format!("r{run} started twice under token {fence} of {environment}"));
        }
    }

    /// Checks that the engine was right to refuse an answer.
    pub(crate) fn check_refusal(&mut self, run: usize, process: u32, stage: StageIndex, by: &str, why: &str) {
        let at = self.wall();
        let Some((asked, decision)) = self.runs[run].facts.answers.pop_front() else {
            return self.violate(|| format!("r{run} refused an answer that was not given"));
        };
        let truth = std::mem::take(&mut self.runs[run].truth);
        let context = Context { inner: self, run, process, at, answer: None, seen: RefCell::default() };
        let taken = truth.accepts(&context, asked, &decision);
        self.runs[run].truth = truth;
        match taken {
            _ if asked != stage || decision.by != by => {
                self.violate(|| format!("r{run} refused {by}'s answer, and {} had answered", decision.by));
            }
            Ok(()) => self.violate(|| format!("r{run} refused {by}'s answer to stage {}: {why}", stage.0)),
            Err(reason) => self.count(reason),
        }
    }
}

impl Truth {
    /// Checks an event, and changes the model.
    fn apply(&mut self, context: &Context<'_>, kind: &EventKind) -> CheckResult {
        self.check_kept_signal(kind)?;
        match kind {
            EventKind::RunStarted { .. } => self.on_started(context),
            EventKind::RunResumed { again, .. } => self.on_resumed(context, again),
            EventKind::CancelRequested { how, reason } => self.on_cancelled(context, *how, reason),
            EventKind::GroupJoined { .. } => self.on_group(context, true),
            EventKind::GroupLeft { .. } => self.on_group(context, false),
            EventKind::EnvironmentAwaited { stage, .. } => self.on_environment_awaited(context, *stage),
            EventKind::AttemptStarted { stage, attempt, fence } => {
                self.on_attempt_started(context, *stage, *attempt, *fence)
            }
            EventKind::EffectIntended { stage, attempt, .. } => self.on_intent(context, *stage, *attempt),
            EventKind::ArtifactPublished { stage, attempt, artifact } => {
                self.on_artifact(context, *stage, *attempt, artifact)
            }
            EventKind::AttemptEnded { stage, attempt, outcome, .. } => {
                self.on_attempt_ended(context, *stage, *attempt, *outcome)
            }
            EventKind::RetryScheduled { stage, attempt, after } => self.on_retry(context, *stage, *attempt, *after),
            EventKind::RecoveryStarted { stage, attempt } => self.on_recovery(context, *stage, *attempt),
            EventKind::Recovered { stage, attempt, finding, by, .. } => {
                self.on_recovered(context, *stage, *attempt, finding, by.as_deref())
            }
            EventKind::GateOpened { stage, attempt, gate } => self.on_gate_opened(context, *stage, *attempt, gate),
            EventKind::GateElapsed { stage } => self.on_gate_elapsed(context, *stage),
            EventKind::GateSignalled { stage, signal } => self.on_signalled(context, *stage, signal),
            EventKind::SignalKept { signal } => self.on_signal_kept(context, signal),
            EventKind::GateDecided { stage, decision } => self.on_decided(context, *stage, decision),
            EventKind::UndoStarted { stage, because, fence, .. } => {
                self.on_undo_started(context, *stage, *because, *fence)
            }
            EventKind::UndoEnded { stage, outcome, .. } => self.on_undo_ended(context, *stage, *outcome),
            EventKind::ReleaseRecorded { stage, attempt, release } => {
                self.on_release(context, *stage, *attempt, &release.artifact)
            }
            EventKind::ReleaseConfirmed { stage } => self.on_confirmed(context, *stage),
            EventKind::StageEnded { stage, outcome, conclusion, .. } => {
                self.on_stage_ended(context, *stage, *outcome, *conclusion)
            }
            EventKind::RunSuspended { waiting } => self.on_suspended(context, waiting),
            EventKind::RunEnded { conclusion } => self.on_run_ended(context, *conclusion),
            _ => Ok(()),
        }
    }
}

fn is_failure(outcome: Outcome) -> bool {
    use Outcome as O;
    [O::Failed, O::Errored, O::TimedOut, O::Lost, O::Inconclusive].contains(&outcome)
}

/// An error unless the condition holds.
fn ensure(holds: bool, wrong: impl FnOnce() -> String) -> CheckResult {
    if holds { Ok(()) } else { Err(wrong()) }
}

/// The event's name as it is written in the code.
pub(crate) fn name_of(kind: &EventKind) -> String {
    let shown = format!("{kind:?}");
    shown.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned()
}
