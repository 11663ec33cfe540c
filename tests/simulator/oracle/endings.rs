//! How stages and the run conclude.

use stagewright_engine::{Interrupt, Outcome};
use stagewright_model::{StageIndex, StageKind};

use super::starts::Verdict;
use super::truth::EndedAttempt;
use super::{CheckResult, Context, Phase, Truth, ensure, is_failure};

impl Truth {
    pub(super) fn on_stage_ended(
        &mut self,
        context: &Context<'_>,
        stage: StageIndex,
        outcome: Outcome,
        conclusion: Outcome,
    ) -> CheckResult {
        let phase = self.stage(stage).phase;
        if let Phase::AttemptEnded(over) = phase {
            self.check_end(context, stage, over, outcome, conclusion)?;
        } else {
            let possible = self.ends_without_attempt(context, stage);
            ensure(possible.contains(&(outcome, conclusion)), || {
                format!("stage {} as {outcome:?}, {conclusion:?}; it is {phase:?}: {possible:?}", stage.0)
            })?;
            if outcome == Outcome::Skipped {
                context.count("skipped");
            }
        }
        let place = self.ends;
        self.ends += 1;
        let state = self.stage_mut(stage);
        state.phase = Phase::Done { outcome, conclusion };
        state.ended = Some(place);
        // A stage that a resume finds interrupted runs again, and compensates nothing.
        if context.facts().taken_up {
            self.queue_compensation(context, stage, outcome);
        }
        Ok(())
    }

    /// Checks the end of a stage after an attempt.
    fn check_end(
        &self,
        context: &Context<'_>,
        stage: StageIndex,
        over: EndedAttempt,
        outcome: Outcome,
        conclusion: Outcome,
    ) -> CheckResult {
        ensure(self.retry_after(context, stage, over).is_none(), || {
            format!("stage {} must be retried after {over:?}", stage.0)
        })?;
        ensure(outcome == over.outcome, || format!("stage {} as {outcome:?} after {over:?}", stage.0))?;
        let passed_over = over.is_own && is_failure(outcome) && context.stage(stage).continue_on_error;
        let expected = match outcome {
            Outcome::Skipped => Outcome::Succeeded,
            _ if passed_over => {
                context.count("failure ignored by continue-on-error");
                Outcome::Succeeded
            }
            _ => outcome,
        };
        ensure(conclusion == expected, || {
            format!("stage {} concludes as {conclusion:?} instead of {expected:?}", stage.0)
        })
    }

    /// The possible ends of a stage without a current or just ended attempt.
    fn ends_without_attempt(&self, context: &Context<'_>, stage: StageIndex) -> Vec<(Outcome, Outcome)> {
        let mut ends = Vec::new();
        let state = self.stage(stage);
        let cancelled = (Outcome::Cancelled, Outcome::Cancelled);
        let errored = (Outcome::Errored, Outcome::Errored);
        if self.failed_sibling(context, stage).is_some() && !matches!(state.phase, Phase::Running(_)) {
            context.count("stopped by a sibling");
            ends.push(cancelled);
        }
        match state.phase {
            Phase::Free => {
                if context.run().left_out == Some(stage) {
                    ends.push((Outcome::Skipped, Outcome::Succeeded));
                }
                if self.has_turn(context, stage) {
                    let verdicts = self.verdicts(context, stage);
                    ends.extend(verdicts.contains(&Verdict::Skip).then_some((Outcome::Skipped, Outcome::Skipped)));
                    ends.extend(verdicts.contains(&Verdict::Cancel).then_some(cancelled));
                }
                if self.is_superseded(context, stage) {
                    ends.push(errored);
                }
                // After a cancellation, an attempt that turned out not to have started isn't started again.
                if self.cancelled == Some(Interrupt::Kill) || (self.cancelled.is_some() && state.was_in_doubt) {
                    ends.push(cancelled);
                }
            }
            Phase::Waiting(_) | Phase::Passed(_) | Phase::Backoff(_) | Phase::Observing(_) => {
                if self.cancelled.is_some() {
                    ends.push(cancelled);
                }
                if matches!(state.phase, Phase::Passed(_) | Phase::Backoff(_)) && self.is_superseded(context, stage) {
                    ends.push(errored);
                }
            }
            Phase::Refused(_) => ends.push((Outcome::Rejected, Outcome::Rejected)),
            Phase::Running(_) | Phase::AttemptEnded(_) | Phase::Answered(_) | Phase::Done { .. } => {}
        }
        ends
    }

    /// Whether all stages that the stage waits for have ended.
    fn has_turn(&self, context: &Context<'_>, stage: StageIndex) -> bool {
        let one = context.stage(stage);
        let needs_ended = one.needs.iter().all(|need| self.conclusion(*need).is_some());
        needs_ended && (one.kind == StageKind::Main || self.is_time_for_finally(context).is_ok())
    }

    pub(super) fn on_run_ended(&mut self, context: &Context<'_>, conclusion: Outcome) -> CheckResult {
        for index in context.plan().indices() {
            ensure(self.conclusion(index).is_some(), || format!("stage {} is {:?}", index.0, self.stage(index).phase))?;
            let unconfirmed = self.is_proven(context, index) && !self.stage(index).confirmed;
            ensure(!unconfirmed, || format!("the release of stage {} was proven, but isn't confirmed", index.0))?;
        }
        ensure(self.undo.is_empty(), || format!("{:?} were not compensated", self.undo))?;
        let ended = |is_such: fn(Outcome) -> bool| {
            self.stages.iter().filter_map(super::truth::StageTruth::conclusion).any(is_such)
        };
        let expected = if ended(is_failure) {
            Outcome::Failed
        } else if ended(|conclusion| conclusion == Outcome::Cancelled) {
            Outcome::Cancelled
        } else if ended(|conclusion| conclusion == Outcome::Rejected) {
            Outcome::Rejected
        } else {
            Outcome::Succeeded
        };
        ensure(conclusion == expected, || format!("{conclusion:?} instead of {expected:?}"))?;
        self.check_nothing_is_left(context)?;
        self.ended = Some(conclusion);
        context.count("run ended");
        Ok(())
    }

    /// No calls are left when a run has ended, except for those that ignored the request to stop.
    fn check_nothing_is_left(&self, context: &Context<'_>) -> CheckResult {
        let busy = context.facts().calls.iter().find(|call| call.under_way);
        let excused = self.cancelled == Some(Interrupt::Kill) || self.is_left_behind(context);
        ensure(busy.is_none() || excused, || format!("{busy:?} is running"))?;
        let killed = context.facts().killed.map_or(0, |at| at.elapsed().as_secs());
        ensure(killed <= 6 || context.run().stalls, || format!("{killed} s after it was killed"))
    }
}
