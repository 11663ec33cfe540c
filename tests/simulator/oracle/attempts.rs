//! How attempts end, whether they are retried, and how interrupted ones are resolved.

use std::time::Duration;

use stagewright_engine::{
    AttemptEnd, AttemptReport, Call, Failure, FailureKind, Finding, GateKind, Observation, Outcome,
};
use stagewright_model::{RetryCause, StageIndex};

use super::truth::EndedAttempt;
use super::waits::is_valid;
use super::{CheckResult, Context, Phase, Truth, ensure};

/// After this time, the engine abandons an attempt that ignores a request to stop.
const LEFT_BEHIND: Duration = Duration::from_secs(20);

/// The same after a kill.
const LEFT_BEHIND_KILLED: Duration = Duration::from_secs(5);

/// How a report of [`Call::Run`] ends the attempt; none when it doesn't.
fn end_of(attempt: u32, report: &AttemptReport) -> Option<EndedAttempt> {
    let (outcome, kind) = match &report.end {
        AttemptEnd::Succeeded => (Outcome::Succeeded, None),
        AttemptEnd::Skipped(_) => (Outcome::Skipped, Some(FailureKind::Reported)),
        AttemptEnd::Unsuccessful(outcome, Failure { kind, .. }) => (*outcome, Some(*kind)),
        AttemptEnd::Observed(_) | AttemptEnd::Compared(_) => (Outcome::Errored, Some(FailureKind::Internal)),
        AttemptEnd::Waiting(wait) if !is_valid(wait) => (Outcome::Inconclusive, Some(FailureKind::BadPlugin)),
        AttemptEnd::Rehearsed(_) | AttemptEnd::Suspended(_) | AttemptEnd::Waiting(_) => return None,
    };
    Some(EndedAttempt { attempt, outcome, kind, is_own: true, may_retry: true })
}

/// Whether the effect of an attempt that ended like this is known. It isn't if the plugin was stopped or lost.
fn is_certain(over: EndedAttempt) -> bool {
    use FailureKind as F;
    use Outcome as O;
    let returned = matches!(over.outcome, O::Succeeded | O::Skipped | O::Failed | O::Errored | O::Rejected);
    let by_itself = over
        .kind
        .is_none_or(|kind| matches!(kind, F::Reported | F::Configuration | F::Denied | F::BadPlugin | F::Rejected));
    returned && by_itself
}

impl Truth {
    pub(super) fn on_intent(&mut self, _: &Context<'_>, stage: StageIndex, attempt: u32) -> CheckResult {
        let state = self.stage_mut(stage);
        ensure(state.phase == Phase::Running(attempt), || format!("stage {} is {:?}", stage.0, state.phase))?;
        state.doubt = Some(attempt);
        state.acted = true;
        Ok(())
    }

    pub(super) fn on_attempt_ended(
        &mut self,
        context: &Context<'_>,
        stage: StageIndex,
        attempt: u32,
        outcome: Outcome,
    ) -> CheckResult {
        let possible = self.possible_ends(context, stage);
        let phase = self.stage(stage).phase;
        let Some(over) = possible.iter().copied().find(|over| (over.attempt, over.outcome) == (attempt, outcome))
        else {
            return Err(format!(
                "attempt {attempt} of stage {} as {outcome:?}; it is {phase:?}: {possible:?}",
                stage.0
            ));
        };
        if phase == Phase::Running(attempt) {
            self.check_resumption(context, stage, attempt)?;
        }
        let state = self.stage_mut(stage);
        state.phase = Phase::AttemptEnded(over);
        state.goes_on_with = None;
        state.woken = None;
        state.wait = None;
        // At a gate it isn't the plugin that ends the attempt.
        if phase == Phase::Running(attempt) && is_certain(over) {
            state.doubt = None;
        }
        Ok(())
    }

    /// The endings that are possible, given what the world knows.
    fn possible_ends(&self, context: &Context<'_>, stage: StageIndex) -> Vec<EndedAttempt> {
        let state = self.stage(stage);
        let Some(attempt) = state.phase.attempt() else { return Vec::new() };
        let end = |outcome, kind| EndedAttempt { attempt, outcome, kind: Some(kind), is_own: false, may_retry: false };
        match state.phase {
            Phase::Running(_) => {
                let call = context.facts().call(stage, attempt, Call::Run);
                match call.map(|call| call.answer.as_ref()) {
                    Some(Some((_, report))) => end_of(attempt, report).into_iter().collect(),
                    Some(None) if self.is_left_behind(context) => {
                        vec![end(Outcome::Cancelled, FailureKind::Internal)]
                    }
                    None if !context.facts().taken_up => {
                        context.count("lost with its process");
                        vec![end(Outcome::Lost, FailureKind::Killed)]
                    }
                    _ => Vec::new(),
                }
            }
            _ if !state.is_at_own_gate() => Vec::new(),
            phase => {
                let mut ends = Vec::new();
                let is_over = |expires| expires <= context.at;
                if matches!(phase, Phase::Refused(_)) {
                    ends.push(end(Outcome::Rejected, FailureKind::Rejected));
                }
                if matches!(phase, Phase::Waiting(_))
                    && state.wait.is_none()
                    && state.gate.as_ref().and_then(|gate| gate.expires).is_some_and(is_over)
                {
                    context.count("gate expired");
                    ends.push(end(Outcome::TimedOut, FailureKind::Timeout));
                }
                if matches!(phase, Phase::Waiting(_))
                    && state.wait.as_ref().is_some_and(|wait| wait.expires_first() && wait.expires.is_some_and(is_over))
                {
                    context.count("wait expired");
                    ends.push(end(Outcome::TimedOut, FailureKind::Timeout));
                }
                if matches!(phase, Phase::Passed(_)) && self.is_superseded(context, stage) {
                    if state.wait.is_some() {
                        context.count("wait superseded");
                    }
                    ends.push(end(Outcome::Errored, FailureKind::Superseded));
                }
                if self.is_to_stop(context, stage) {
                    ends.push(end(Outcome::Cancelled, FailureKind::Cancelled));
                }
                ends
            }
        }
    }

    /// Whether a call that was asked to stop has exceeded its time for that.
    pub(super) fn is_left_behind(&self, context: &Context<'_>) -> bool {
        let facts = context.facts();
        let since = |at: Option<tokio::time::Instant>| at.map_or(Duration::ZERO, |at| at.elapsed());
        let sibling = facts.stop_since.values().any(|at| at.elapsed() >= LEFT_BEHIND);
        // A process that was stalled may have asked long before its journal recorded it.
        let slept = context.run().stalls && (facts.asked.is_some() || facts.killed.is_some());
        slept || since(facts.killed) >= LEFT_BEHIND_KILLED || since(facts.asked) >= LEFT_BEHIND || sibling
    }

    /// How long the engine must wait before the retry; none if there must be no retry.
    pub(super) fn retry_after(&self, context: &Context<'_>, stage: StageIndex, over: EndedAttempt) -> Option<Duration> {
        use FailureKind as F;
        let retry = &context.stage(stage).retry;
        let cause = match over.outcome {
            Outcome::Failed => RetryCause::Failed,
            Outcome::Errored => RetryCause::Errored,
            Outcome::TimedOut => RetryCause::Timeout,
            Outcome::Lost => RetryCause::Lost,
            _ => return None,
        };
        let tries = over.attempt - self.stage(stage).before;
        let hopeless = matches!(
            over.kind,
            Some(F::Configuration | F::Denied | F::BadPlugin | F::Rejected | F::FilesChanged | F::Cancelled)
        );
        if !over.may_retry || hopeless || self.is_to_stop(context, stage) || !retry.on.contains(&cause) {
            return None;
        }
        if tries > retry.max {
            context.count("retries used up");
            return None;
        }
        Some(backoff(context, stage, tries))
    }

    pub(super) fn on_retry(
        &mut self,
        context: &Context<'_>,
        stage: StageIndex,
        attempt: u32,
        after: u64,
    ) -> CheckResult {
        let Phase::AttemptEnded(over) = self.stage(stage).phase else {
            return Err(format!("stage {} is {:?}", stage.0, self.stage(stage).phase));
        };
        let Some(wait) = self.retry_after(context, stage, over) else {
            return Err(format!("stage {} must not be retried after {over:?}", stage.0));
        };
        ensure(attempt == over.attempt + 1, || format!("attempt {attempt} after {}", over.attempt))?;
        ensure(u128::from(after) == wait.as_millis(), || format!("after {after} ms instead of {wait:?}"))?;
        context.count("retry");
        let state = self.stage_mut(stage);
        state.granted = attempt;
        state.phase = Phase::Backoff(attempt);
        Ok(())
    }

    pub(super) fn on_recovery(&mut self, context: &Context<'_>, stage: StageIndex, attempt: u32) -> CheckResult {
        let state = self.stage_mut(stage);
        let may = matches!(state.phase, Phase::Free | Phase::Backoff(_) | Phase::Observing(_));
        ensure(may && state.doubt == Some(attempt), || {
            format!(
                "attempt {attempt} of stage {}, which is {:?} with {:?} in doubt",
                stage.0, state.phase, state.doubt
            )
        })?;
        context.count("observed");
        state.phase = Phase::Observing(attempt);
        state.was_in_doubt = true;
        Ok(())
    }

    pub(super) fn on_recovered(
        &mut self,
        context: &Context<'_>,
        stage: StageIndex,
        attempt: u32,
        finding: &Finding,
        by: Option<&str>,
    ) -> CheckResult {
        let state = self.stage(stage);
        let answer = match (state.phase, by) {
            (Phase::Observing(_), None) => match context.facts().answer(stage, attempt, Call::Observe) {
                Some(AttemptReport { end: AttemptEnd::Observed(Observation::Found(found)), .. }) => Some(found),
                _ => None,
            },
            (Phase::Answered(_), Some(by)) => {
                state.votes.last().filter(|vote| vote.by == by).and_then(|vote| vote.finding.as_ref())
            }
            _ => None,
        };
        ensure(state.phase.attempt() == Some(attempt) && answer == Some(finding), || {
            format!("{finding:?} for attempt {attempt} of stage {}, but the plugin reported {answer:?}", stage.0)
        })?;
        context.count(if by.is_some() { "settled" } else { "recovered" });
        let over = |outcome| {
            Phase::AttemptEnded(EndedAttempt { attempt, outcome, kind: None, is_own: true, may_retry: false })
        };
        let (phase, what) = match finding {
            Finding::NotStarted => (Phase::Free, "found not started"),
            Finding::Applied(_) => (over(Outcome::Succeeded), "found applied"),
            Finding::Failed(_) => (over(Outcome::Failed), "found failed"),
        };
        context.count(what);
        let state = self.stage_mut(stage);
        state.phase = phase;
        state.doubt = None;
        Ok(())
    }

    /// Whether a person has to settle an attempt, because its plugin can't determine its outcome.
    pub(super) fn is_unknown(&self, context: &Context<'_>, stage: StageIndex, attempt: u32) -> bool {
        let answer = context.facts().answer(stage, attempt, Call::Observe).map(|report| &report.end);
        match answer {
            Some(AttemptEnd::Observed(Observation::Unknown(_)) | AttemptEnd::Unsuccessful(..)) => true,
            Some(AttemptEnd::Succeeded | AttemptEnd::Skipped(_)) => true,
            Some(AttemptEnd::Suspended(_) | AttemptEnd::Waiting(_) | AttemptEnd::Compared(_)) => true,
            Some(AttemptEnd::Observed(_) | AttemptEnd::Rehearsed(_)) | None => false,
        }
    }

    pub(super) fn on_release(
        &mut self,
        context: &Context<'_>,
        stage: StageIndex,
        attempt: u32,
        artifact: &str,
    ) -> CheckResult {
        let report = context.facts().answer(stage, attempt, Call::Run);
        let made = report.and_then(|report| report.release.as_ref()).map(|release| release.artifact.as_str());
        ensure(made == Some(artifact), || format!("{artifact} of stage {}, which reported {made:?}", stage.0))?;
        let state = self.stage_mut(stage);
        state.release = true;
        state.confirmed = false;
        Ok(())
    }

    pub(super) fn on_confirmed(&mut self, context: &Context<'_>, stage: StageIndex) -> CheckResult {
        ensure(self.is_proven(context, stage), || format!("the release of stage {} isn't proven", stage.0))?;
        context.count("release confirmed");
        self.stage_mut(stage).confirmed = true;
        Ok(())
    }

    /// Whether the stage has a release, and all stages that directly need it have succeeded.
    pub(super) fn is_proven(&self, context: &Context<'_>, stage: StageIndex) -> bool {
        let plan = context.plan();
        let mut dependents = plan.indices().filter(|index| plan.stage(*index).needs.contains(&stage));
        let state = self.stage(stage);
        state.release && state.has_succeeded() && dependents.all(|index| self.stage(index).has_succeeded())
    }

    /// The gate that the attempt's plugin requested.
    pub(super) fn own_question<'a>(
        &self,
        context: &'a Context<'_>,
        stage: StageIndex,
        attempt: u32,
    ) -> Option<&'a stagewright_engine::Gate> {
        match context.facts().answer(stage, attempt, Call::Run).map(|report| &report.end) {
            Some(AttemptEnd::Suspended(gate)) => Some(gate),
            _ => None,
        }
    }

    /// Whether this kind of gate is opened by the engine before an attempt, and not by the attempt itself.
    pub(super) fn is_before_attempt(kind: GateKind) -> bool {
        matches!(kind, GateKind::Environment | GateKind::Freeze)
    }
}

/// The wait before the n-th retry: the plan's backoff, doubled with each retry, at most a minute.
pub(super) fn backoff(context: &Context<'_>, stage: StageIndex, n: u32) -> Duration {
    let first = context.stage(stage).retry.backoff.initial;
    (1..n).fold(first, |wait, _| wait * 2).min(Duration::from_secs(60))
}
