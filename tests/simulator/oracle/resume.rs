//! Which stages a resume runs again.

use stagewright_engine::{GateKind, Outcome, UndoState};
use stagewright_model::{StageIndex, StageKind};

use super::truth::StageTruth;
use super::{CheckResult, Context, Phase, Truth, ensure};

impl Truth {
    pub(super) fn on_resumed(&mut self, context: &Context<'_>, again: &[StageIndex]) -> CheckResult {
        ensure(self.started, || "it never started".to_owned())?;
        let expected = self.to_repeat(context);
        ensure(again == expected, || format!("runs {again:?} again instead of {expected:?}"))?;
        for state in &mut self.stages {
            ensure(!matches!(state.phase, Phase::Running(_) | Phase::AttemptEnded(_)), || {
                format!("a stage is {:?}", state.phase)
            })?;
            state.was_in_doubt = false;
        }
        for index in expected {
            let state = self.stage_mut(index);
            let StageTruth { attempts, doubt, has_acted_on_environment, .. } = *state;
            if doubt.is_some() {
                context.count("run again without a known outcome");
            }
            *state = StageTruth {
                attempts,
                doubt,
                has_acted_on_environment,
                before: attempts,
                granted: attempts + 1,
                ..StageTruth::default()
            };
        }
        self.cancelled = None;
        self.ended = None;
        self.in_group = false;
        // Compensation that had not begun is dropped: the failed stage runs again.
        self.undo.clear();
        context.count("resumed");
        Ok(())
    }

    /// The stages to run again. In a plan, a stage comes after its needs, so one pass is enough.
    fn to_repeat(&self, context: &Context<'_>) -> Vec<StageIndex> {
        let plan = context.plan();
        let mut repeated = Vec::new();
        // If a repeated stage had succeeded, the stages that need it are repeated as well.
        let mut replaced = Vec::new();
        for index in plan.indices() {
            let state = self.stage(index);
            let (is_done, succeeded) = (state.conclusion().is_some(), state.has_succeeded());
            let was_left_out = succeeded && state.attempts == 0;
            let needs = &plan.stage(index).needs;
            let came_of_it = !was_left_out && needs.iter().any(|need| replaced.contains(need));
            let waits_on = |other: &StageIndex| {
                let finally = plan.stage(index).kind == StageKind::Finally;
                needs.contains(other) || finally && plan.stage(*other).kind == StageKind::Main
            };
            let came_too_early = !is_done && plan.indices().any(|other| waits_on(&other) && repeated.contains(&other));
            let has_begun = state.phase != Phase::Free;
            let taken_back = match state.undo {
                UndoState::NotStarted => false,
                UndoState::Started | UndoState::Ended(Outcome::Succeeded) => true,
                UndoState::Ended(_) => state.doubt.is_some(),
            };
            let named = context.run().named.contains(&index);
            let forced = has_begun && (came_of_it || came_too_early) || taken_back || named;
            if forced && succeeded {
                replaced.push(index);
            }
            if forced || is_done && !succeeded || self.has_lapsed(context, index) {
                repeated.push(index);
            }
        }
        repeated
    }

    /// Whether an approval is still needed but was given for something else than what would run now.
    fn has_lapsed(&self, context: &Context<'_>, index: StageIndex) -> bool {
        let state = self.stage(index);
        // An attempt at a wait goes on: what it has begun goes on as well.
        let Some(gate) = state.gate.as_ref().filter(|_| state.wait.is_none()) else { return false };
        if gate.kind == GateKind::Unresolved || gate.binding.as_deref() == Some(context.run().binding) {
            return false;
        }
        let plan = context.plan();
        let is_open =
            |other: StageIndex| plan.stage(other).needs.contains(&index) && !self.stage(other).has_succeeded();
        let lapsed = match state.conclusion() {
            None => true,
            Some(_) => gate.kind == GateKind::Approval && !state.acted && plan.indices().any(is_open),
        };
        if lapsed {
            context.count("approval lapsed");
        }
        lapsed
    }
}
