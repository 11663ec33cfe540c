//! Calls of plugins: their number at a time, their arguments, the wait before them, and whether they are asked to stop.

use std::collections::BTreeMap;
use std::time::Duration;

use stagewright_engine::{
    AttemptReport, AttemptRequest, Call, EventKind, HEARTBEAT, Interrupt, Outcome, RunCommand, UndoState,
};
use stagewright_model::StageIndex;
use tokio::time::Instant;

use super::attempts::backoff;
use super::facts::CallFact;
use super::{CheckResult, Context, Phase, Truth, ensure, is_failure};
use crate::world::Inner;

/// How long a run may go without progress.
const STUCK: Duration = Duration::from_secs(120);

/// The time by which the engine must have abandoned an attempt that doesn't stop.
const LEFT_BEHIND: Duration = Duration::from_secs(30);

/// How long a request to stop may take from the engine's loop to a plugin.
const DELIVERY_LIMIT: Duration = Duration::from_secs(1);

impl Inner {
    /// Records that the engine calls a plugin. Returns the number of the call among those of its process.
    pub(crate) fn on_call(&mut self, run: usize, process: u32, request: &AttemptRequest) -> usize {
        let judged = self.in_context(run, process, |truth, context| truth.check_call(context, request));
        if let Err(wrong) = judged {
            let AttemptRequest { stage, attempt, call, .. } = request;
            self.violate(|| format!("r{run} calls {call:?} of stage {}, attempt {attempt}: {wrong}", stage.0));
        }
        let facts = &mut self.runs[run].facts;
        facts.stop_since.remove(&request.stage);
        facts.calls.push(CallFact {
            stage: request.stage,
            attempt: request.attempt,
            call: request.call,
            environment: request.environment.as_ref().map(|view| view.name.clone()),
            resumption: request.resumption.clone(),
            under_way: true,
            answer: None,
        });
        facts.calls.len() - 1
    }

    /// Records a plugin's report. `interrupt` is the strongest request to stop that reached it.
    pub(crate) fn on_answer(
        &mut self,
        run: usize,
        number: usize,
        report: &AttemptReport,
        interrupt: Option<Interrupt>,
    ) {
        let facts = &mut self.runs[run].facts;
        let (stage, call) = (facts.calls[number].stage, facts.calls[number].call);
        let late = facts.stop_since.get(&stage).is_some_and(|since| since.elapsed() > DELIVERY_LIMIT);
        facts.record_answer(number, report);
        if call == Call::Undo && interrupt == Some(Interrupt::Graceful) {
            self.violate(|| format!("r{run} interrupted the compensation of stage {} gracefully", stage.0));
        }
        if late && interrupt.is_none() && !self.runs[run].stalls {
            self.violate(|| format!("r{run} didn't ask stage {} to stop ({call:?})", stage.0));
        }
    }

    /// Checks the limits of concurrent attempts: job slots, matrices and environments.
    pub(crate) fn check_load(&mut self, run: usize, process: u32) {
        let judged = self.in_context(run, process, |_, context| check_load(context));
        if let Err(wrong) = judged {
            self.violate(|| format!("r{run}: {wrong}"));
        }
    }

    /// From now on all current calls must be asked to stop. A compensation continues unless the run is killed.
    pub(crate) fn expect_a_stop(&mut self, run: usize, how: Interrupt) {
        let one = &mut self.runs[run];
        let now = Instant::now();
        match how {
            Interrupt::Graceful => one.facts.asked = Some(now),
            Interrupt::Kill => one.facts.killed = Some(now),
        }
        for call in one.facts.calls.iter().filter(|call| call.under_way) {
            // A compensation that the engine starts because of this is recorded later.
            let had_begun = match call.call {
                Call::Run => one.truth.stage(call.stage).phase == Phase::Running(call.attempt),
                Call::Observe => one.truth.stage(call.stage).phase == Phase::Observing(call.attempt),
                Call::Undo => how == Interrupt::Kill && one.truth.stage(call.stage).undo == UndoState::Started,
                Call::Compare => false,
            };
            if had_begun {
                one.facts.stop_since.entry(call.stage).or_insert(now);
            }
        }
    }

    /// A cell of a fail-fast matrix has failed: its siblings must be asked to stop.
    pub(crate) fn expect_siblings_to_stop(&mut self, run: usize, stage: StageIndex, conclusion: Outcome) {
        let one = &mut self.runs[run];
        let plan = &one.pipeline.plan;
        let fails_fast = plan.stage(stage).matrix.as_ref().is_some_and(|cell| cell.fail_fast);
        // A stage that a resume finds interrupted runs again.
        if !fails_fast || !is_failure(conclusion) || !one.facts.taken_up {
            return;
        }
        let is_sibling = |other: StageIndex| other != stage && plan.stage(other).name == plan.stage(stage).name;
        for call in one.facts.calls.iter().filter(|call| call.under_way && is_sibling(call.stage)) {
            let had_begun = match call.call {
                Call::Run => one.truth.stage(call.stage).phase == Phase::Running(call.attempt),
                Call::Observe => one.truth.stage(call.stage).phase == Phase::Observing(call.attempt),
                Call::Undo | Call::Compare => false,
            };
            if had_begun {
                one.facts.stop_since.entry(call.stage).or_insert_with(Instant::now);
            }
        }
        self.count("fail-fast");
    }

    /// Called periodically. Checks that a run sends heartbeats while it holds something, and holds nothing while it waits
    /// for people.
    pub(crate) fn inspect(&mut self, run: usize) {
        let one = &self.runs[run];
        let process = one.process;
        if !one.alive || one.stalls || one.disk_full || one.coordinator_fails || !one.facts.taken_up {
            return;
        }
        let length = one.journal.len();
        if one.facts.quiet_since.is_none_or(|(earlier, _)| earlier != length) {
            self.runs[run].facts.quiet_since = Some((length, Instant::now()));
        }
        self.note_overdue(run);
        let judged = self.in_context(run, process, |truth, context| {
            check_heartbeat(context)?;
            truth.check_waits(context)?;
            truth.check_is_not_stuck(context)?;
            let settled = context.facts().waited_at == Some(context.run().journal.len());
            match truth.waits_for_people_alone(context) {
                Ok(()) if settled => truth.check_keeps_nothing(context),
                _ => Ok(()),
            }
        });
        if let Err(wrong) = judged {
            self.violate(|| format!("r{run} {wrong}"));
        }
        self.runs[run].facts.waited_at = Some(length);
    }

    fn in_context<T>(&mut self, run: usize, process: u32, judge: impl FnOnce(&Truth, &Context<'_>) -> T) -> T {
        let at = self.wall();
        let context = Context { inner: self, run, process, at, answer: None, seen: Default::default() };
        let judged = judge(&context.run().truth, &context);
        let seen = context.seen.into_inner();
        seen.into_iter().for_each(|what| self.count(what));
        judged
    }

    /// Whether a new process gets this command: answers may arrive twice, but a recorded cancellation or signal isn't sent
    /// again.
    pub(crate) fn is_new(&self, run: usize, command: &RunCommand) -> bool {
        let is_recorded = |event: &stagewright_engine::Event| match (&event.kind, command) {
            (EventKind::CancelRequested { reason: recorded, .. }, RunCommand::Cancel { reason, .. }) => {
                recorded == reason
            }
            (EventKind::GateSignalled { signal: recorded, .. } | EventKind::SignalKept { signal: recorded }, _) => {
                matches!(command, RunCommand::Signal(signal) if signal == recorded)
            }
            _ => false,
        };
        !self.runs[run].journal.iter().any(is_recorded)
    }
}

impl Truth {
    fn check_call(&self, context: &Context<'_>, request: &AttemptRequest) -> CheckResult {
        let stage = context.stage(request.stage);
        ensure(request.timeout == stage.timeout, || format!("within {:?}", request.timeout))?;
        if request.call != Call::Run {
            return Ok(());
        }
        let state = self.stage(request.stage);
        // An attempt that waits later continues with what ended its wait.
        let is_answered = state.woken.is_none() && state.wait.is_none();
        if let Some((attempt, votes)) =
            state.goes_on_with.as_ref().filter(|(attempt, _)| is_answered && *attempt == request.attempt)
        {
            let given = request.resumption.as_ref().and_then(|resumption| resumption["decisions"].as_array());
            let by = |index: usize| given.and_then(|given| given.get(index)?["by"].as_str());
            let same = (0..votes.len()).all(|index| by(index) == Some(&votes[index].by));
            ensure(same && given.map(Vec::len) == Some(votes.len()), || {
                format!("attempt {attempt} continues with {:?} instead of {votes:?}", request.resumption)
            })?;
            context.count("continued after a gate");
        }
        self.check_wait(context, request)
    }

    /// A run makes progress, waits for a person, or waits for another run. Attempts that don't stop must not delay it.
    fn check_is_not_stuck(&self, context: &Context<'_>) -> CheckResult {
        let facts = context.facts();
        let is_overdue = |call: &&CallFact| {
            let since = facts.stop_since.get(&call.stage).filter(|_| call.under_way);
            since.is_some_and(|since| since.elapsed() > LEFT_BEHIND)
        };
        let overdue = facts.calls.iter().find(is_overdue);
        ensure(overdue.is_none(), || format!("hasn't abandoned attempts that don't stop: {overdue:?}"))?;
        let busy = facts.calls.iter().any(|call| call.under_way);
        let asks = self.stages.iter().any(|state| matches!(state.phase, Phase::Waiting(_)));
        let put_off = facts.put_off.is_some_and(|at| at.elapsed() < Duration::from_secs(10));
        let quiet = facts.quiet_since.map_or(Duration::ZERO, |(_, since)| since.elapsed());
        ensure(busy || asks || put_off || quiet < STUCK, || {
            let phases: Vec<Phase> = self.stages.iter().map(|state| state.phase).collect();
            format!("made no progress for {quiet:?}: {phases:?}")
        })
    }

    /// Checks that a retry comes after the plan's backoff.
    fn check_wait(&self, context: &Context<'_>, request: &AttemptRequest) -> CheckResult {
        let before = self.stage(request.stage).before;
        let earlier = context.facts().call(request.stage, request.attempt.saturating_sub(1), Call::Run);
        let Some((ended, _)) = earlier.and_then(|call| call.answer.as_ref()).filter(|_| request.attempt > before + 1)
        else {
            return Ok(());
        };
        let wait = backoff(context, request.stage, request.attempt - 1 - before);
        // Timers have a precision of a millisecond.
        ensure(ended.elapsed() + Duration::from_millis(1) >= wait, || {
            format!("after {:?} instead of {wait:?}", ended.elapsed())
        })
    }
}

fn check_load(context: &Context<'_>) -> CheckResult {
    let under_way = || context.facts().calls.iter().filter(|call| call.under_way);
    let (busy, jobs) = (under_way().count(), context.run().jobs);
    ensure(busy <= jobs, || format!("{busy} concurrent attempts with {jobs} slots"))?;
    let mut cells: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    let mut environments: BTreeMap<&str, u32> = BTreeMap::new();
    for call in under_way() {
        let stage = context.stage(call.stage);
        let most = stage.matrix.as_ref().and_then(|cell| cell.max_parallel);
        if let Some(most) = most.filter(|_| call.call != Call::Undo) {
            cells.entry(&stage.name).or_insert((0, most)).0 += 1;
        }
        if let Some(environment) = call.environment.as_deref().filter(|_| call.call != Call::Observe) {
            *environments.entry(environment).or_default() += 1;
        }
    }
    for (name, (cells, most)) in cells {
        ensure(cells <= most, || format!("{cells} cells of {name} under way, and max-parallel is {most}"))?;
        if cells == most {
            context.count("as many cells as max-parallel allows");
        }
    }
    let crowded = environments.into_iter().find(|(_, count)| *count > 1);
    ensure(crowded.is_none(), || format!("{crowded:?} concurrent attempts on an environment"))
}

/// A run that holds an environment or a group sends heartbeats.
fn check_heartbeat(context: &Context<'_>) -> CheckResult {
    let coordinator = &context.inner.coordinator;
    let group = context.run().pipeline.group.as_ref();
    let keeps = coordinator.held_by(context.run, context.process).is_some()
        || group.is_some_and(|group| coordinator.has_entered(group, context.run, context.process));
    let silent = context.facts().alive_at.map_or(Duration::ZERO, |at| at.elapsed());
    ensure(!keeps || silent <= HEARTBEAT * 2, || {
        format!("holds an environment or a group, but sent no heartbeat for {silent:?}")
    })
}
