//! Waits for a time or a signal: when they end, what the plugin is told, and that no signal is lost.

use std::time::Duration;

use serde_json::json;
use stagewright_engine::{AttemptEnd, Call, EventKind, Gate, GateKind, Signal, Timestamp, Wait};
use stagewright_model::StageIndex;
use tokio::time::Instant;

use super::truth::OpenWait;
use super::{CheckResult, Context, Phase, Truth, ensure};
use crate::world::Inner;

/// The shortest poll interval that a plugin may ask for. Those of simulated plugins are never too long.
const SHORTEST: Duration = Duration::from_secs(1);

/// How long after its time a wait may end. The engine reads the clock once a minute.
const OVERDUE: Duration = Duration::from_secs(65);

/// Whether the engine must accept a wait.
pub(super) fn is_valid(wait: &Wait) -> bool {
    wait.poll_after.is_none_or(|after| after >= SHORTEST)
}

impl Inner {
    /// Checks that the engine was right to refuse a signal.
    pub(crate) fn check_signal_refusal(&mut self, run: usize, token: &str, reason: &str) {
        let one = &mut self.runs[run];
        let refused = one.facts.signals.pop_front();
        let has_ended = |stage: StageIndex| matches!(one.truth.stage(stage).phase, Phase::Done { .. });
        let is_right = refused.as_ref().is_some_and(|signal| {
            signal.token == token && (one.truth.ended.is_some() || signal.stage.is_some_and(has_ended))
        });
        if !is_right {
            self.violate(|| format!("r{run} refused {refused:?}: {reason}"));
        }
        self.count("signal refused");
    }

    /// Notes which waits should have ended by now. The clock may just have been set.
    pub(super) fn note_overdue(&mut self, run: usize) {
        let (now, one) = (self.wall(), &mut self.runs[run]);
        for stage in one.pipeline.plan.indices() {
            let state = one.truth.stage(stage);
            let until = state.wait.as_ref().filter(|_| state.is_open_wait()).and_then(|wait| wait.until);
            let noted = one.facts.overdue.remove(&stage);
            if let Some(until) = until.filter(|until| *until <= now) {
                let since = noted.filter(|(noted, _)| *noted == until).map_or_else(Instant::now, |(_, since)| since);
                one.facts.overdue.insert(stage, (until, since));
            }
        }
    }

    /// Whether an attempt of another run, which lives and was the last to act on the environment, is between two calls.
    pub(crate) fn is_kept_by_a_wait(&self, environment: &str, by: usize) -> bool {
        let one = &self.runs[by];
        let is_sound = one.alive && !one.stalls && !one.disk_full && !one.coordinator_fails && one.facts.taken_up;
        let has_group = one.pipeline.group.is_none() || one.truth.in_group;
        let mut stages = one.pipeline.plan.indices();
        let waits_there = |stage: StageIndex| {
            let name = one.pipeline.plan.stage(stage).environment.as_ref().map(|environment| environment.name.as_str());
            one.truth.stage(stage).is_between_calls() && name == Some(environment)
        };
        is_sound && has_group && one.facts.granted.contains_key(environment) && stages.any(waits_there)
    }
}

impl Truth {
    /// The wait that the attempt's plugin returned.
    pub(super) fn own_wait<'a>(&self, context: &'a Context<'_>, stage: StageIndex, attempt: u32) -> Option<&'a Wait> {
        match context.facts().answer(stage, attempt, Call::Run).map(|report| &report.end) {
            Some(AttemptEnd::Waiting(wait)) => Some(wait),
            _ => None,
        }
    }

    pub(super) fn on_wait_opened(
        &mut self,
        context: &Context<'_>,
        stage: StageIndex,
        attempt: u32,
        gate: &Gate,
    ) -> CheckResult {
        let phase = self.stage(stage).phase;
        ensure(phase == Phase::Running(attempt), || format!("stage {} is {phase:?}", stage.0))?;
        self.check_resumption(context, stage, attempt)?;
        let Some(wait) = self.own_wait(context, stage, attempt).filter(|wait| is_valid(wait)) else {
            return Err(format!("the plugin of stage {} doesn't wait", stage.0));
        };
        let in_time =
            |after: Duration| Timestamp(context.at.0 + u64::try_from(after.as_millis()).expect("a short wait"));
        let (until, expires) = (wait.poll_after.map(in_time), wait.expires.map(in_time));
        let (token, message) = (wait.token.clone(), wait.reason.clone());
        let expected = Gate { token: token.clone(), kind: GateKind::Wait, message, until, expires, ..Gate::default() };
        ensure(*gate == expected, || format!("{gate:?} instead of {expected:?}"))?;
        context.count(if until.is_some() { "timed wait" } else { "wait for a signal alone" });
        let is_kept = self.kept.iter().any(|signal| is_for(signal, stage, &token));
        self.owed = (is_kept && !self.is_to_stop(context, stage)).then_some(stage);
        let state = self.stage_mut(stage);
        state.phase = Phase::Waiting(attempt);
        state.wait = Some(OpenWait { token, until, expires });
        Ok(())
    }

    pub(super) fn on_wait_elapsed(&mut self, context: &Context<'_>, stage: StageIndex) -> CheckResult {
        let state = self.stage(stage);
        let (Phase::Waiting(attempt), Some(wait)) = (state.phase, state.wait.clone()) else {
            return Err(format!("stage {} is {:?}", stage.0, state.phase));
        };
        ensure(wait.until.is_some_and(|until| until <= context.at), || {
            format!("at {:?}, but stage {} waits until {:?}", context.at, stage.0, wait.until)
        })?;
        ensure(!wait.expires_first(), || format!("stage {} was polled after {:?}", stage.0, wait.expires))?;
        context.count("wait polled");
        if context.facts().call(stage, attempt, Call::Run).is_none() {
            context.count("wait polled by another process");
        }
        let state = self.stage_mut(stage);
        state.phase = Phase::Passed(attempt);
        state.woken = Some((wait.token, None));
        Ok(())
    }

    pub(super) fn on_signalled(&mut self, context: &Context<'_>, stage: StageIndex, signal: &Signal) -> CheckResult {
        let first = self.first_waiting(context, signal);
        let Phase::Waiting(attempt) = self.stage(stage).phase else {
            return Err(format!("stage {} is {:?}", stage.0, self.stage(stage).phase));
        };
        ensure(first == Some(stage), || format!("stage {} instead of {first:?} for {signal:?}", stage.0))?;
        if let Some(oldest) = self.kept.iter().position(|kept| is_for(kept, stage, &signal.token))
            && self.kept[oldest] == *signal
        {
            self.kept.remove(oldest);
            context.count("kept signal used");
        } else {
            check_delivered(context, signal)?;
            context.count("wait signalled");
        }
        let state = self.stage_mut(stage);
        state.phase = Phase::Passed(attempt);
        state.woken = Some((signal.token.clone(), Some(signal.payload.clone())));
        Ok(())
    }

    pub(super) fn on_signal_kept(&mut self, context: &Context<'_>, signal: &Signal) -> CheckResult {
        let waiting = self.first_waiting(context, signal);
        ensure(waiting.is_none(), || format!("stage {waiting:?} waits for {signal:?}"))?;
        check_delivered(context, signal)?;
        context.count("signal kept");
        self.kept.push(signal.clone());
        Ok(())
    }

    /// After the opening of a wait for which a signal is kept, the signal ends it at once.
    pub(super) fn check_kept_signal(&mut self, kind: &EventKind) -> CheckResult {
        let Some(owed) = self.owed.take() else { return Ok(()) };
        let is_it = matches!(kind, EventKind::GateSignalled { stage, .. } if *stage == owed);
        ensure(is_it, || format!("a signal was kept for stage {}, and didn't end its wait", owed.0))
    }

    /// The first stage whose open wait a signal is for.
    fn first_waiting(&self, context: &Context<'_>, signal: &Signal) -> Option<StageIndex> {
        context.plan().indices().find(|&stage| {
            let state = self.stage(stage);
            let token = state.wait.as_ref().map(|wait| wait.token.as_str()).filter(|_| state.is_open_wait());
            token.is_some_and(|token| is_for(signal, stage, token))
        })
    }

    /// Checks what the plugin got for its last call of `run`. This is known when the call has ended: the events that precede
    /// a call can be appended after it.
    pub(super) fn check_resumption(&self, context: &Context<'_>, stage: StageIndex, attempt: u32) -> CheckResult {
        let state = self.stage(stage);
        let Some(call) = context.facts().call(stage, attempt, Call::Run) else { return Ok(()) };
        let woken = state.woken.as_ref().map(|(token, payload)| {
            let cause = if payload.is_some() { "signal" } else { "poll" };
            let of_attempt = state.goes_on_with.as_ref().filter(|(of, _)| *of == attempt);
            let decisions = of_attempt.map(|(_, votes)| votes.as_slice()).unwrap_or_default();
            json!({ "token": token, "cause": cause, "payload": payload, "decisions": decisions })
        });
        if woken.is_some() {
            context.count("continued after a wait");
        } else if state.goes_on_with.is_some() {
            return Ok(());
        }
        ensure(call.resumption == woken, || {
            format!("attempt {attempt} of stage {} continued with {:?} instead of {woken:?}", stage.0, call.resumption)
        })
    }

    /// No other stage of the run acts on an environment while an attempt there is between two calls.
    pub(super) fn check_nothing_waits_there(&self, context: &Context<'_>, stage: StageIndex) -> CheckResult {
        let name = |index| context.stage(index).environment.as_ref().map(|environment| &environment.name);
        let mut others = context.plan().indices().filter(|&other| other != stage && name(other) == name(stage));
        let waits = others.find(|&other| name(other).is_some() && self.stage(other).is_between_calls());
        ensure(waits.is_none(), || format!("on the environment of stage {waits:?}, which is between two calls"))
    }

    /// Cells that wait for a time count for `max-parallel`, as those that run.
    pub(super) fn check_cells(&self, context: &Context<'_>, stage: StageIndex) -> CheckResult {
        let one = context.stage(stage);
        let Some(most) = one.matrix.as_ref().and_then(|cell| cell.max_parallel) else { return Ok(()) };
        let is_busy = |other: &StageIndex| {
            let state = self.stage(*other);
            let is_busy = matches!(state.phase, Phase::Running(_)) || state.is_between_calls();
            *other != stage && context.stage(*other).name == one.name && is_busy
        };
        let busy = context.plan().indices().filter(is_busy).count();
        ensure(busy < most as usize, || format!("beside {busy} cells of {}, and max-parallel is {most}", one.name))
    }

    /// Checks that waits end in time, and that the run holds the environments of those that end by themselves.
    pub(super) fn check_waits(&self, context: &Context<'_>) -> CheckResult {
        let overdue = context.facts().overdue.iter().find(|(_, (_, since))| since.elapsed() > OVERDUE);
        ensure(overdue.is_none(), || format!("hasn't ended a wait that is due: {overdue:?}"))?;
        let has_group = context.run().pipeline.group.is_none() || self.in_group;
        let settled = context.facts().waited_at == Some(context.run().journal.len());
        if !has_group || !settled {
            return Ok(());
        }
        for stage in context.plan().indices() {
            let Some(environment) = &context.stage(stage).environment else { continue };
            let holder = context.inner.coordinator.holder_of(&environment.name);
            let is_newest = context.inner.coordinator.was_last_to_act(&environment.name, context.run);
            if self.stage(stage).is_between_calls() && is_newest {
                context.count("environment kept during a wait");
                ensure(holder == Some((context.run, context.process)), || {
                    format!("{holder:?} holds {}, and stage {} is between two calls", environment.name, stage.0)
                })?;
            }
        }
        Ok(())
    }
}

/// Checks that the process got the signal, and is about to handle it.
fn check_delivered(context: &Context<'_>, signal: &Signal) -> CheckResult {
    let next = context.facts().signals.front();
    ensure(next == Some(signal), || format!("{signal:?}, and {next:?} was sent"))
}

fn is_for(signal: &Signal, stage: StageIndex, token: &str) -> bool {
    signal.token == token && (signal.stage.is_none() || signal.stage == Some(stage))
}
