//! How attempts end, whether they are tried again, and how interrupted ones are resolved.

use std::time::Duration;

use stagewright_engine::{
    AttemptEnd, AttemptReport, Call, Failure, FailureKind, Finding, GateKind, Observation, Outcome,
};
use stagewright_model::{RetryCause, StageIndex};

use super::truth::Over;
use super::{Context, Judged, Phase, Truth, ensure};

/// After this, what ignores that it was asked to stop is left behind.
const LEFT_BEHIND: Duration = Duration::from_secs(20);

/// The same after a kill.
const LEFT_BEHIND_KILLED: Duration = Duration::from_secs(5);

/// What the engine makes of an answer to [`Call::Run`]; none when it isn't the end of the attempt.
fn end_of(attempt: u32, report: &AttemptReport) -> Option<Over> {
    let (outcome, kind) = match &report.end {
        AttemptEnd::Succeeded => (Outcome::Succeeded, None),
        AttemptEnd::Skipped(_) => (Outcome::Skipped, Some(FailureKind::Reported)),
        AttemptEnd::Unsuccessful(outcome, Failure { kind, .. }) => (*outcome, Some(*kind)),
        AttemptEnd::Observed(_) => (Outcome::Errored, Some(FailureKind::Internal)),
        AttemptEnd::Rehearsed(_) | AttemptEnd::Suspended(_) => return None,
    };
    Some(Over { attempt, outcome, kind, is_own: true, may_retry: true })
}

/// Whether a plugin that ended so knows what it did. One that was stopped, or went away, can't tell.
fn is_certain(over: Over) -> bool {
    use FailureKind as F;
    use Outcome as O;
    let returned = matches!(over.outcome, O::Succeeded | O::Skipped | O::Failed | O::Errored | O::Rejected);
    let by_itself = over
        .kind
        .is_none_or(|kind| matches!(kind, F::Reported | F::Configuration | F::Denied | F::BadPlugin | F::Rejected));
    returned && by_itself
}

impl Truth {
    pub(super) fn on_intent(&mut self, _: &Context<'_>, stage: StageIndex, attempt: u32) -> Judged {
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
    ) -> Judged {
        let possible = self.possible_ends(context, stage);
        let phase = self.stage(stage).phase;
        let Some(over) = possible.iter().copied().find(|over| (over.attempt, over.outcome) == (attempt, outcome))
        else {
            return Err(format!(
                "attempt {attempt} of stage {} as {outcome:?}; it is {phase:?}: {possible:?}",
                stage.0
            ));
        };
        let state = self.stage_mut(stage);
        state.phase = Phase::Over(over);
        state.goes_on_with = None;
        if is_certain(over) {
            state.doubt = None;
        }
        Ok(())
    }

    /// How the attempt can have ended, as far as the world knows.
    fn possible_ends(&self, context: &Context<'_>, stage: StageIndex) -> Vec<Over> {
        let state = self.stage(stage);
        let Some(attempt) = state.phase.attempt() else { return Vec::new() };
        let end = |outcome, kind| Over { attempt, outcome, kind: Some(kind), is_own: false, may_retry: false };
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
                    && state.gate.as_ref().and_then(|gate| gate.expires).is_some_and(is_over)
                {
                    context.count("gate expired");
                    ends.push(end(Outcome::TimedOut, FailureKind::Timeout));
                }
                if matches!(phase, Phase::Passed(_)) && self.is_superseded(context, stage) {
                    ends.push(end(Outcome::Errored, FailureKind::Superseded));
                }
                if self.is_to_stop(context, stage) {
                    ends.push(end(Outcome::Cancelled, FailureKind::Cancelled));
                }
                ends
            }
        }
    }

    /// Whether something that was to stop has had its time for that.
    pub(super) fn is_left_behind(&self, context: &Context<'_>) -> bool {
        let facts = context.facts();
        let since = |at: Option<tokio::time::Instant>| at.map_or(Duration::ZERO, |at| at.elapsed());
        let sibling = facts.stop_since.values().any(|at| at.elapsed() >= LEFT_BEHIND);
        // A process that slept may have asked long before its journal said so.
        let slept = context.run().stalls && (facts.asked.is_some() || facts.killed.is_some());
        slept || since(facts.killed) >= LEFT_BEHIND_KILLED || since(facts.asked) >= LEFT_BEHIND || sibling
    }

    /// How long the engine is to wait before it tries again; none when it isn't to.
    pub(super) fn retry_after(&self, context: &Context<'_>, stage: StageIndex, over: Over) -> Option<Duration> {
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

    pub(super) fn on_retry(&mut self, context: &Context<'_>, stage: StageIndex, attempt: u32, after: u64) -> Judged {
        let Phase::Over(over) = self.stage(stage).phase else {
            return Err(format!("stage {} is {:?}", stage.0, self.stage(stage).phase));
        };
        let Some(wait) = self.retry_after(context, stage, over) else {
            return Err(format!("stage {} isn't tried again after {over:?}", stage.0));
        };
        ensure(attempt == over.attempt + 1, || format!("attempt {attempt} after {}", over.attempt))?;
        ensure(u128::from(after) == wait.as_millis(), || format!("after {after} ms in place of {wait:?}"))?;
        context.count("retry");
        let state = self.stage_mut(stage);
        state.granted = attempt;
        state.phase = Phase::Backoff(attempt);
        Ok(())
    }

    pub(super) fn on_recovery(&mut self, context: &Context<'_>, stage: StageIndex, attempt: u32) -> Judged {
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
    ) -> Judged {
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
            format!("{finding:?} of attempt {attempt} of stage {}, and the answer was {answer:?}", stage.0)
        })?;
        context.count(if by.is_some() { "settled" } else { "recovered" });
        let over = |outcome| Phase::Over(Over { attempt, outcome, kind: None, is_own: true, may_retry: false });
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
            Some(AttemptEnd::Succeeded | AttemptEnd::Skipped(_) | AttemptEnd::Suspended(_)) => true,
            Some(AttemptEnd::Observed(_) | AttemptEnd::Rehearsed(_)) | None => false,
        }
    }

    pub(super) fn on_release(
        &mut self,
        context: &Context<'_>,
        stage: StageIndex,
        attempt: u32,
        artifact: &str,
    ) -> Judged {
        let report = context.facts().answer(stage, attempt, Call::Run);
        let made = report.and_then(|report| report.release.as_ref()).map(|release| release.artifact.as_str());
        ensure(made == Some(artifact), || format!("{artifact} of stage {}, which reported {made:?}", stage.0))?;
        let state = self.stage_mut(stage);
        state.release = true;
        state.confirmed = false;
        Ok(())
    }

    pub(super) fn on_confirmed(&mut self, context: &Context<'_>, stage: StageIndex) -> Judged {
        ensure(self.is_proven(context, stage), || format!("the release of stage {} isn't proven", stage.0))?;
        context.count("release confirmed");
        self.stage_mut(stage).confirmed = true;
        Ok(())
    }

    /// Whether the stage's release stands, and all that directly needs it has succeeded.
    pub(super) fn is_proven(&self, context: &Context<'_>, stage: StageIndex) -> bool {
        let plan = context.plan();
        let mut dependents = plan.indices().filter(|index| plan.stage(*index).needs.contains(&stage));
        let state = self.stage(stage);
        state.release && state.has_succeeded() && dependents.all(|index| self.stage(index).has_succeeded())
    }

    /// What people are asked at a gate of an own attempt, as its plugin put it.
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

    /// Whether this kind of gate is before an attempt, and not of one.
    pub(super) fn is_before_attempt(kind: GateKind) -> bool {
        matches!(kind, GateKind::Environment | GateKind::Freeze)
    }
}

/// The wait before the n-th retry: the plan's first one, doubled with each, at most a minute.
pub(super) fn backoff(context: &Context<'_>, stage: StageIndex, n: u32) -> Duration {
    let first = context.stage(stage).retry.backoff.initial;
    (1..n).fold(first, |wait, _| wait * 2).min(Duration::from_secs(60))
}
