//! Compensation: which stages are compensated after a failure, in which order, and how that ends.

use stagewright_engine::{AttemptEnd, Call, Interrupt, Outcome, UndoState};
use stagewright_model::StageIndex;

use super::{CheckResult, Context, Phase, Truth, ensure, is_failure};

impl Truth {
    /// Queues the stages in a failed stage's `compensate` that ran and succeeded, the last to end first.
    pub(super) fn queue_compensation(&mut self, context: &Context<'_>, because: StageIndex, outcome: Outcome) {
        if !is_failure(outcome) {
            return;
        }
        let mut targets = context.stage(because).compensate.clone();
        targets.retain(|target| {
            let state = self.stage(*target);
            let did_it = matches!(state.phase, Phase::Done { outcome: Outcome::Succeeded, .. }) && state.attempts > 0;
            did_it && state.undo == UndoState::NotStarted && !self.undo.iter().any(|(queued, _)| queued == target)
        });
        targets.sort_by_key(|target| std::cmp::Reverse(self.stage(*target).ended));
        if targets.len() > 1 {
            context.count("several compensated");
        }
        self.undo.extend(targets.into_iter().map(|target| (target, because)));
    }

    pub(super) fn on_undo_started(
        &mut self,
        context: &Context<'_>,
        stage: StageIndex,
        because: StageIndex,
        fence: Option<u64>,
    ) -> CheckResult {
        let next = self.undo.first().copied();
        ensure(next == Some((stage, because)), || {
            format!("stage {} because of {}, and {next:?} comes next", stage.0, because.0)
        })?;
        ensure(self.cancelled != Some(Interrupt::Kill), || "the run was killed".to_owned())?;
        ensure(self.stage(stage).undo == UndoState::NotStarted, || format!("stage {} twice", stage.0))?;
        match &context.stage(stage).environment {
            Some(environment) => self.check_fence(context, &environment.name, fence)?,
            None => ensure(fence.is_none(), || format!("token {fence:?} without an environment"))?,
        }
        self.check_nothing_waits_there(context, stage)?;
        context.count("undo");
        let state = self.stage_mut(stage);
        state.undo = UndoState::Started;
        state.doubt = Some(state.attempts);
        Ok(())
    }

    pub(super) fn on_undo_ended(&mut self, context: &Context<'_>, stage: StageIndex, outcome: Outcome) -> CheckResult {
        let state = self.stage(stage);
        let answer = context.facts().answer(stage, state.attempts, Call::Undo);
        let killed = self.cancelled == Some(Interrupt::Kill);
        let expected = match (state.undo, answer.map(|report| &report.end)) {
            (UndoState::Started, Some(AttemptEnd::Succeeded)) => Outcome::Succeeded,
            (UndoState::Started, Some(AttemptEnd::Skipped(_))) => Outcome::Skipped,
            (UndoState::Started, Some(AttemptEnd::Unsuccessful(outcome, _))) => *outcome,
            (UndoState::Started, Some(_)) => Outcome::Errored,
            (UndoState::Started, None) if self.is_left_behind(context) => Outcome::Cancelled,
            (UndoState::NotStarted, _) if killed => Outcome::Cancelled,
            (UndoState::NotStarted, _) if self.is_superseded(context, stage) => Outcome::Errored,
            (undo, answer) => return Err(format!("stage {} as {outcome:?}: {undo:?}, {answer:?}", stage.0)),
        };
        ensure(outcome == expected, || format!("stage {} as {outcome:?} instead of {expected:?}", stage.0))?;
        context.count(if outcome == Outcome::Succeeded { "compensated" } else { "compensation failed" });
        self.undo.retain(|(queued, _)| *queued != stage);
        let state = self.stage_mut(stage);
        state.undo = UndoState::Ended(outcome);
        if matches!(outcome, Outcome::Succeeded | Outcome::Skipped) {
            state.doubt = None;
        }
        if outcome == Outcome::Succeeded {
            state.release = false;
        }
        Ok(())
    }
}
