//! Every artifact that a plugin reports is recorded, in order, before any other consequence of the same report.

use stagewright_engine::{Artifact, AttemptReport, Call, EventKind, Outcome, UndoState};
use stagewright_model::StageIndex;

use super::{CheckResult, Context, Phase, Truth, ensure};

impl Truth {
    pub(super) fn on_artifact(
        &mut self,
        context: &Context<'_>,
        stage: StageIndex,
        attempt: u32,
        artifact: &Artifact,
    ) -> CheckResult {
        let recorded = self.stage(stage).artifacts;
        let reported = self.last_answer(context, stage, attempt).and_then(|report| report.artifacts.get(recorded));
        ensure(reported == Some(artifact), || {
            format!("{artifact:?} of attempt {attempt} of stage {}, which reported {reported:?}", stage.0)
        })?;
        context.count("artifact");
        self.stage_mut(stage).artifacts += 1;
        Ok(())
    }

    /// Before a consequence of a report, all of its artifacts must have been recorded. An attempt that ends at a gate ends
    /// without a report of its plugin, and one that is lost while its gate is prepared has recorded them for nothing.
    pub(super) fn lacks_no_artifact(&mut self, context: &Context<'_>, kind: &EventKind) -> CheckResult {
        match kind {
            EventKind::AttemptStarted { stage, .. }
            | EventKind::RecoveryStarted { stage, .. }
            | EventKind::UndoStarted { stage, .. } => self.stage_mut(*stage).artifacts = 0,
            EventKind::AttemptEnded { stage, attempt, outcome: Outcome::Lost, .. }
                if self.last_answer(context, *stage, *attempt).is_none() => {}
            EventKind::AttemptEnded { stage, attempt, .. }
            | EventKind::Recovered { stage, attempt, .. }
            | EventKind::GateOpened { stage, attempt, .. }
            | EventKind::UndoEnded { stage, attempt, .. }
                if self.call_under_way(*stage).is_some() =>
            {
                let reported = self.last_answer(context, *stage, *attempt).map_or(0, |report| report.artifacts.len());
                let recorded = self.stage(*stage).artifacts;
                ensure(recorded == reported, || format!("{recorded} of {reported} artifacts were recorded"))?;
            }
            _ => {}
        }
        Ok(())
    }

    /// The report of the current call, once it has ended.
    fn last_answer<'a>(&self, context: &'a Context<'_>, stage: StageIndex, attempt: u32) -> Option<&'a AttemptReport> {
        context.facts().answer(stage, attempt, self.call_under_way(stage)?)
    }

    fn call_under_way(&self, stage: StageIndex) -> Option<Call> {
        let state = self.stage(stage);
        match state.phase {
            Phase::Running(_) => Some(Call::Run),
            Phase::Observing(_) => Some(Call::Observe),
            Phase::Done { .. } if state.undo == UndoState::Started => Some(Call::Undo),
            _ => None,
        }
    }
}
