//! How stages and the run conclude.

use stagewright_engine::{Interrupt, Outcome};
use stagewright_model::{StageIndex, StageKind};

use super::starts::Verdict;
use super::truth::Over;
use super::{Context, Judged, Phase, Truth, ensure, is_failure};

impl Truth {
    pub(super) fn on_stage_ended(
        &mut self,
        context: &Context<'_>,
        stage: StageIndex,
        outcome: Outcome,
        conclusion: Outcome,
    ) -> Judged {
        let phase = self.stage(stage).phase;
        if let Phase::Over(over) = phase {
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

    /// After an attempt.
    fn check_end(
        &self,
        context: &Context<'_>,
        stage: StageIndex,
        over: Over,
        outcome: Outcome,
        conclusion: Outcome,
    ) -> Judged {
        ensure(self.retry_after(context, stage, over).is_none(), || {
            format!("stage {}, which is to be tried again after {over:?}", stage.0)
        })?;
        ensure(outcome == over.outcome, || format!("stage {} as {outcome:?} after {over:?}", stage.0))?;
        let passed_over = over.is_own && is_failure(outcome) && context.stage(stage).continue_on_error;
        let expected = match outcome {
            Outcome::Skipped => Outcome::Succeeded,
            _ if passed_over => {
                context.count("failure passed over");
                Outcome::Succeeded
            }
            _ => outcome,
        };
        ensure(conclusion == expected, || {
            format!("stage {} concludes as {conclusion:?} in place of {expected:?}", stage.0)
        })
    }

    /// How a stage of which no attempt is under way or just over can end now.
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
                // What was found not to have happened isn't begun again once the run was cancelled.
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
            Phase::Running(_) | Phase::Over(_) | Phase::Answered(_) | Phase::Done { .. } => {}
        }
        ends
    }

    /// Whether all has ended that the stage comes after.
    fn has_turn(&self, context: &Context<'_>, stage: StageIndex) -> bool {
        let one = context.stage(stage);
        let needs_ended = one.needs.iter().all(|need| self.conclusion(*need).is_some());
        needs_ended && (one.kind == StageKind::Main || self.is_time_for_finally(context).is_ok())
    }

    pub(super) fn on_run_ended(&mut self, context: &Context<'_>, conclusion: Outcome) -> Judged {
        for index in context.plan().indices() {
            ensure(self.conclusion(index).is_some(), || format!("stage {} is {:?}", index.0, self.stage(index).phase))?;
            let unconfirmed = self.is_proven(context, index) && !self.stage(index).confirmed;
            ensure(!unconfirmed, || format!("the release of stage {} was proven, and isn't confirmed", index.0))?;
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
        ensure(conclusion == expected, || format!("{conclusion:?} in place of {expected:?}"))?;
        self.check_nothing_is_left(context)?;
        self.ended = Some(conclusion);
        context.count("run ended");
        Ok(())
    }

    /// A run that has ended leaves nothing under way, but for what ignored that it was to stop.
    fn check_nothing_is_left(&self, context: &Context<'_>) -> Judged {
        let busy = context.facts().calls.iter().find(|call| call.under_way);
        let excused = self.cancelled == Some(Interrupt::Kill) || self.is_left_behind(context);
        ensure(busy.is_none() || excused, || format!("{busy:?} is under way"))?;
        let killed = context.facts().killed.map_or(0, |at| at.elapsed().as_secs());
        ensure(killed <= 6 || context.run().stalls, || format!("{killed} s after it was killed"))
    }
}
