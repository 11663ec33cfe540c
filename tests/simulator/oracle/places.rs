//! Environments and concurrency groups: which run may act on them, and when it holds them.

use stagewright_engine::Timestamp;
use stagewright_model::{FreezeWindow, StageIndex};

use super::{CheckResult, Context, Phase, Truth, ensure};

impl Truth {
    /// Checks that an attempt may act on the stage's environment, if it has one: the run holds it under the newest token,
    /// it is approved, and it isn't frozen.
    pub(super) fn check_place(&self, context: &Context<'_>, stage: StageIndex, fence: Option<u64>) -> CheckResult {
        let Some(environment) = context.stage(stage).environment.as_ref().map(|environment| &environment.name) else {
            return ensure(fence.is_none(), || format!("token {fence:?} without an environment"));
        };
        ensure(context.at == context.inner.wall(), || "its time isn't the current time".to_owned())?;
        self.check_fence(context, environment, fence)?;
        ensure(self.is_approved(context, stage), || format!("{environment} was not approved"))?;
        if let Some(until) = self.frozen(context, stage) {
            let excused = self.is_freeze_overridden(stage) || self.has_acted_on_environment(context, stage);
            ensure(excused, || format!("{environment} is frozen until {until:?}"))?;
            context.count(if self.is_freeze_overridden(stage) { "freeze overridden" } else { "begun before a freeze" });
        }
        Ok(())
    }

    pub(super) fn check_fence(&self, context: &Context<'_>, environment: &str, fence: Option<u64>) -> CheckResult {
        let granted = context.facts().granted.get(environment).copied();
        ensure(fence.is_some() && fence == granted, || format!("token {fence:?}, and {granted:?} was granted"))?;
        let newest = context.inner.coordinator.newest_fence(environment);
        ensure(fence == Some(newest), || format!("token {fence:?}, but {newest} is the newest"))
    }

    /// When the freeze of the stage's environment ends; none if it isn't frozen.
    pub(super) fn frozen(&self, context: &Context<'_>, stage: StageIndex) -> Option<Timestamp> {
        let by_hand = || {
            let environment = &context.stage(stage).environment.as_ref()?.name;
            let until = context.inner.coordinator.environments.get(environment)?.frozen?;
            (context.at < until).then_some(until)
        };
        self.frozen_by_plan(context, stage).or_else(by_hand)
    }

    /// The same for the freeze windows of the pipeline. Adjacent and overlapping windows are one.
    pub(super) fn frozen_by_plan(&self, context: &Context<'_>, stage: StageIndex) -> Option<Timestamp> {
        let environment = context.stage(stage).environment.as_ref()?;
        let mut windows = Vec::new();
        for freeze in &context.plan().environments.get(&environment.name)?.freeze {
            if let FreezeWindow::Once(window) = &freeze.window {
                windows.push(window.clone());
            }
        }
        windows.sort_by_key(|window| window.start);
        let mut until = None;
        for window in windows {
            let reaches = |at: u64| window.start <= at && at < window.end;
            if reaches(until.unwrap_or(context.at.0)) || reaches(context.at.0) {
                until = until.max(Some(window.end));
            }
        }
        until.map(Timestamp)
    }

    /// Whether an attempt of the run has acted on the stage's environment, except for stages that are run again. Such a run
    /// is allowed to finish in spite of a freeze.
    fn has_acted_on_environment(&self, context: &Context<'_>, stage: StageIndex) -> bool {
        let name = |index| context.stage(index).environment.as_ref().map(|environment| &environment.name);
        let mut same = context.plan().indices().filter(|index| name(*index) == name(stage));
        same.any(|index| self.stage(index).has_acted_on_environment && self.stage(index).phase != Phase::Free)
    }

    /// Whether a request of the run was refused because a newer run has acted on the stage's environment.
    pub(super) fn is_superseded(&self, context: &Context<'_>, stage: StageIndex) -> bool {
        let environment = context.stage(stage).environment.as_ref();
        environment.is_some_and(|environment| context.facts().superseded.contains(&environment.name))
    }

    pub(super) fn on_environment_awaited(&mut self, context: &Context<'_>, stage: StageIndex) -> CheckResult {
        context.count("environment awaited");
        ensure(context.stage(stage).environment.is_some(), || format!("stage {} has none", stage.0))
    }

    pub(super) fn on_group(&mut self, context: &Context<'_>, joined: bool) -> CheckResult {
        let concurrency = context.plan().concurrency.as_ref();
        let holder = context.run().pipeline.group.as_ref().and_then(|group| context.inner.coordinator.holder(group));
        self.in_group = joined;
        if joined {
            return ensure(holder == Some(context.run), || format!("{holder:?} holds the group"));
        }
        context.count("group left at a gate");
        ensure(concurrency.is_some_and(|concurrency| !concurrency.hold_at_gates), || {
            "a run with `hold-at-gates` left its group".to_owned()
        })?;
        self.waits_for_people_alone(context)
    }

    pub(super) fn on_suspended(&mut self, context: &Context<'_>, waiting: &[StageIndex]) -> CheckResult {
        self.waits_for_people_alone(context)?;
        let is_waiting = |index: &StageIndex| matches!(self.stage(*index).phase, Phase::Waiting(_));
        let expected: Vec<StageIndex> = context.plan().indices().filter(is_waiting).collect();
        ensure(waiting == expected, || format!("{waiting:?} wait instead of {expected:?}"))?;
        context.count("suspended");
        self.check_keeps_nothing(context)
    }

    /// Whether the run can only continue after a person's answer. The error is what else it can continue with.
    pub(super) fn waits_for_people_alone(&self, context: &Context<'_>) -> CheckResult {
        let plan = context.plan();
        let busy = context.facts().calls.iter().find(|call| call.under_way);
        // The engine doesn't wait for a call that ignored a request to stop.
        ensure(busy.is_none() || self.is_left_behind(context), || format!("{busy:?} is running"))?;
        ensure(self.undo.is_empty(), || format!("{:?} are to be compensated", self.undo))?;
        for index in plan.indices() {
            let is_open = |other: &StageIndex| self.conclusion(*other).is_none();
            match self.stage(index).phase {
                Phase::Waiting(_) if self.stage(index).is_between_calls() => {
                    return Err(format!("stage {} waits for a time", index.0));
                }
                Phase::Done { .. } | Phase::Waiting(_) => {}
                Phase::Free if plan.stage(index).needs.iter().any(is_open) => {}
                Phase::Free if self.is_time_for_finally(context).is_err() && !is_main(context, index) => {}
                phase => return Err(format!("stage {} is {phase:?}", index.0)),
            }
        }
        let waits = plan.indices().any(|index| matches!(self.stage(index).phase, Phase::Waiting(_)));
        ensure(waits, || "no gate is open".to_owned())
    }

    /// A run that waits for people holds no environment, and its group only with `hold-at-gates`.
    pub(super) fn check_keeps_nothing(&self, context: &Context<'_>) -> CheckResult {
        let coordinator = &context.inner.coordinator;
        let held = coordinator.held_by(context.run, context.process);
        ensure(held.is_none(), || format!("holds {held:?} while it waits for people"))?;
        let hold = context.plan().concurrency.as_ref().is_none_or(|concurrency| concurrency.hold_at_gates);
        let group = context.run().pipeline.group.as_ref();
        let keeps = group.is_some_and(|group| coordinator.has_entered(group, context.run, context.process));
        ensure(hold || !keeps, || format!("holds {group:?} while it waits for people"))?;
        if hold && keeps {
            context.count("group held at a gate");
        }
        Ok(())
    }
}

fn is_main(context: &Context<'_>, index: StageIndex) -> bool {
    context.stage(index).kind == stagewright_model::StageKind::Main
}
