//! What may start, and when: needs, conditions, finally stages, cancellation, fail-fast.

use stagewright_engine::{Interrupt, Outcome};
use stagewright_model::{StageIndex, StageKind};

use super::{CheckResult, Context, Phase, Truth, ensure, is_failure};
use crate::plans::Condition;

/// What must happen to a stage once its needs have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Run,
    Skip,
    Cancel,
}

impl Truth {
    pub(super) fn on_started(&mut self, _: &Context<'_>) -> CheckResult {
        ensure(!self.started, || "twice".to_owned())?;
        self.started = true;
        Ok(())
    }

    pub(super) fn on_cancelled(&mut self, context: &Context<'_>, how: Interrupt, reason: &str) -> CheckResult {
        ensure(context.run().cancels.contains(reason), || format!("it was not requested: {reason}"))?;
        ensure(self.cancelled < Some(how), || "it was already cancelled as strongly".to_owned())?;
        self.cancelled = Some(how);
        context.count("cancel");
        Ok(())
    }

    pub(super) fn on_attempt_started(
        &mut self,
        context: &Context<'_>,
        stage: StageIndex,
        attempt: u32,
        fence: Option<u64>,
    ) -> CheckResult {
        self.may_begin(context, stage)?;
        self.check_number(stage, attempt)?;
        self.check_place(context, stage, fence)?;
        self.check_nothing_waits_there(context, stage)?;
        self.check_cells(context, stage)?;
        let on_environment = context.stage(stage).environment.is_some();
        let state = self.stage_mut(stage);
        state.phase = Phase::Running(attempt);
        state.attempts = attempt;
        state.wait = None;
        state.has_acted_on_environment |= on_environment;
        Ok(())
    }

    /// Whether an attempt of the stage may begin, given the plan and the earlier events.
    fn may_begin(&self, context: &Context<'_>, stage: StageIndex) -> CheckResult {
        let phase = self.stage(stage).phase;
        let plan = context.plan();
        for need in &plan.stage(stage).needs {
            ensure(self.conclusion(*need).is_some(), || format!("its need {} hasn't ended", need.0))?;
        }
        let verdicts = self.verdicts(context, stage);
        match phase {
            Phase::Free => {
                ensure(verdicts.contains(&Verdict::Run), || format!("it must {:?}", verdicts[0]))?;
            }
            Phase::Backoff(_) | Phase::Passed(_) => {
                ensure(self.cancelled.is_none(), || "the run was cancelled".to_owned())?;
            }
            _ => return Err(format!("stage {} is {phase:?}", stage.0)),
        }
        if plan.stage(stage).kind == StageKind::Finally {
            self.is_time_for_finally(context)?;
            context.count("finally stage");
        }
        if let Some(sibling) = self.failed_sibling(context, stage) {
            return Err(format!("stage {} of its fail-fast matrix had failed", sibling.0));
        }
        ensure(self.cancelled != Some(Interrupt::Kill), || "the run was killed".to_owned())?;
        let has_group = plan.concurrency.is_none() || self.in_group || self.cancelled.is_some();
        ensure(has_group, || "the run doesn't hold its group".to_owned())
    }

    /// Finally stages come after all main stages and all compensation.
    pub(super) fn is_time_for_finally(&self, context: &Context<'_>) -> CheckResult {
        let plan = context.plan();
        let is_open =
            |index: &StageIndex| plan.stage(*index).kind == StageKind::Main && self.conclusion(*index).is_none();
        if let Some(open) = plan.indices().find(is_open) {
            return Err(format!("a finally stage while the main stage {} is open", open.0));
        }
        ensure(self.undo.is_empty(), || format!("a finally stage before the compensation of {:?}", self.undo))
    }

    /// An attempt has the next number, or that of the one that continues after its gate. The number must have been granted
    /// by the run's start, a resume or a retry.
    fn check_number(&self, stage: StageIndex, attempt: u32) -> CheckResult {
        let state = self.stage(stage);
        let expected = state.phase.attempt().unwrap_or(state.attempts + 1);
        ensure(attempt == expected, || format!("attempt {attempt} instead of {expected}"))?;
        ensure(attempt <= state.granted, || format!("attempt {attempt}, and {} were granted", state.granted))?;
        let doubtful = state.doubt.filter(|doubtful| *doubtful != attempt);
        ensure(doubtful.is_none(), || format!("the outcome of attempt {doubtful:?} is unknown"))
    }

    /// The possible verdicts for a stage whose needs have ended. The condition of a finally stage is evaluated when its turn
    /// comes. Other stages may fail between that and its start, so that two verdicts are possible.
    pub(super) fn verdicts(&self, context: &Context<'_>, stage: StageIndex) -> Vec<Verdict> {
        let mut verdicts: Vec<Verdict> =
            self.failures_seen(context, stage).into_iter().map(|failed| self.verdict(context, stage, failed)).collect();
        verdicts.dedup();
        verdicts
    }

    fn verdict(&self, context: &Context<'_>, stage: StageIndex, failed: bool) -> Verdict {
        let condition = context.run().pipeline.conditions[stage.get()];
        let main = context.stage(stage).kind == StageKind::Main;
        let own_say = condition.is_some_and(Condition::asks_how_needs_ended);
        let cancelled = self.cancelled.is_some();
        if self.cancelled == Some(Interrupt::Kill) || (cancelled && main && !own_say) {
            return Verdict::Cancel;
        }
        let blocked = context.stage(stage).needs.iter().any(|need| self.conclusion(*need) != Some(Outcome::Succeeded));
        match condition {
            _ if blocked && !own_say => Verdict::Skip,
            Some(condition) if !condition.holds(failed, cancelled) => Verdict::Skip,
            _ => Verdict::Run,
        }
    }

    fn failures_seen(&self, context: &Context<'_>, stage: StageIndex) -> Vec<bool> {
        let plan = context.plan();
        let needs = &plan.stage(stage).needs;
        if plan.stage(stage).kind == StageKind::Main {
            return vec![needs.iter().any(|need| self.comes_of_failure(context, *need))];
        }
        let has_failed = |index: &StageIndex| self.conclusion(*index).is_some_and(is_failure);
        let before = |index: &StageIndex| plan.stage(*index).kind == StageKind::Main || needs.contains(index);
        vec![
            plan.indices().filter(before).any(|index| has_failed(&index)),
            plan.indices().any(|index| has_failed(&index)),
        ]
    }

    /// Whether the stage failed, or was skipped because an earlier one failed.
    fn comes_of_failure(&self, context: &Context<'_>, stage: StageIndex) -> bool {
        match self.conclusion(stage) {
            Some(conclusion) if is_failure(conclusion) => true,
            Some(Outcome::Skipped | Outcome::Cancelled) => {
                context.stage(stage).needs.iter().any(|need| self.comes_of_failure(context, *need))
            }
            _ => false,
        }
    }

    /// Whether no attempt of the stage may start any more.
    pub(super) fn is_to_stop(&self, context: &Context<'_>, stage: StageIndex) -> bool {
        self.cancelled.is_some() || self.failed_sibling(context, stage).is_some()
    }

    /// A cell of the same fail-fast matrix that failed.
    pub(super) fn failed_sibling(&self, context: &Context<'_>, stage: StageIndex) -> Option<StageIndex> {
        let plan = context.plan();
        let one = plan.stage(stage);
        one.matrix.as_ref().filter(|cell| cell.fail_fast)?;
        let is_sibling = |index: &StageIndex| *index != stage && plan.stage(*index).name == one.name;
        plan.indices().filter(is_sibling).find(|index| self.conclusion(*index).is_some_and(is_failure))
    }
}
