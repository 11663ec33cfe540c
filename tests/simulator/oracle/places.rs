//! Environments and concurrency groups: who may act where and when, and who keeps what from others.

use stagewright_engine::Timestamp;
use stagewright_model::{FreezeWindow, StageIndex};

use super::{Context, Judged, Phase, Truth, ensure};

impl Truth {
    /// Whether an attempt may act on the stage's environment, if it has one: the run has it, under the newest token; its
    /// approvers have let it; and no freeze is in force that it would have to wait for.
    pub(super) fn check_place(&self, context: &Context<'_>, stage: StageIndex, fence: Option<u64>) -> Judged {
        let Some(environment) = context.stage(stage).environment.as_ref().map(|environment| &environment.name) else {
            return ensure(fence.is_none(), || format!("token {fence:?} of no environment"));
        };
        ensure(context.at == context.inner.wall(), || "at another time than now".to_owned())?;
        self.check_fence(context, environment, fence)?;
        ensure(self.is_approved(context, stage), || format!("{environment} was not approved"))?;
        if let Some(until) = self.frozen(context, stage) {
            let excused = self.is_freeze_overridden(stage) || self.has_acted_on_environment(context, stage);
            ensure(excused, || format!("{environment} is frozen until {until:?}"))?;
            context.count(if self.is_freeze_overridden(stage) { "freeze overridden" } else { "begun before a freeze" });
        }
        Ok(())
    }

    pub(super) fn check_fence(&self, context: &Context<'_>, environment: &str, fence: Option<u64>) -> Judged {
        let granted = context.facts().granted.get(environment).copied();
        ensure(fence.is_some() && fence == granted, || format!("token {fence:?}, and {granted:?} was granted"))?;
        let newest = context.inner.coordinator.newest_fence(environment);
        ensure(fence == Some(newest), || format!("token {fence:?}, and {newest} is the newest"))
    }

    /// Until when the stage's environment is frozen.
    pub(super) fn frozen(&self, context: &Context<'_>, stage: StageIndex) -> Option<Timestamp> {
        let by_hand = || {
            let environment = &context.stage(stage).environment.as_ref()?.name;
            let until = context.inner.coordinator.environments.get(environment)?.frozen?;
            (context.at < until).then_some(until)
        };
        self.frozen_by_plan(context, stage).or_else(by_hand)
    }

    /// The same, as far as the pipeline says so. Windows that touch or overlap are one.
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

    /// Whether the run has begun something on the stage's environment that isn't to be begun again: that is better
    /// finished, freeze or no freeze.
    fn has_acted_on_environment(&self, context: &Context<'_>, stage: StageIndex) -> bool {
        let name = |index| context.stage(index).environment.as_ref().map(|environment| &environment.name);
        let mut same = context.plan().indices().filter(|index| name(*index) == name(stage));
        same.any(|index| self.stage(index).has_acted_on_environment && self.stage(index).phase != Phase::Free)
    }

    /// Whether a claim of the run was refused because a newer run has acted on the stage's environment.
    pub(super) fn is_superseded(&self, context: &Context<'_>, stage: StageIndex) -> bool {
        let environment = context.stage(stage).environment.as_ref();
        environment.is_some_and(|environment| context.facts().superseded.contains(&environment.name))
    }

    pub(super) fn on_environment_awaited(&mut self, context: &Context<'_>, stage: StageIndex) -> Judged {
        context.count("environment awaited");
        ensure(context.stage(stage).environment.is_some(), || format!("stage {} has none", stage.0))
    }

    pub(super) fn on_group(&mut self, context: &Context<'_>, joined: bool) -> Judged {
        let concurrency = context.plan().concurrency.as_ref();
        let holder = context.run().pipeline.group.as_ref().and_then(|group| context.inner.coordinator.holder(group));
        self.in_group = joined;
        if joined {
            return ensure(holder == Some(context.run), || format!("{holder:?} has the group"));
        }
        context.count("group left at a gate");
        ensure(concurrency.is_some_and(|concurrency| !concurrency.hold_at_gates), || {
            "a run that holds its group at gates left it".to_owned()
        })?;
        self.waits_for_people_alone(context)
    }

    pub(super) fn on_suspended(&mut self, context: &Context<'_>, waiting: &[StageIndex]) -> Judged {
        self.waits_for_people_alone(context)?;
        let is_waiting = |index: &StageIndex| matches!(self.stage(*index).phase, Phase::Waiting(_));
        let expected: Vec<StageIndex> = context.plan().indices().filter(is_waiting).collect();
        ensure(waiting == expected, || format!("{waiting:?} wait in place of {expected:?}"))?;
        context.count("suspended");
        self.check_keeps_nothing(context)
    }

    /// Whether only people can bring the run on. The error is what else can.
    pub(super) fn waits_for_people_alone(&self, context: &Context<'_>) -> Judged {
        let plan = context.plan();
        let busy = context.facts().calls.iter().find(|call| call.under_way);
        ensure(busy.is_none(), || format!("{busy:?} is under way"))?;
        ensure(self.undo.is_empty(), || format!("{:?} are to be compensated", self.undo))?;
        for index in plan.indices() {
            let is_open = |other: &StageIndex| self.conclusion(*other).is_none();
            match self.stage(index).phase {
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
    pub(super) fn check_keeps_nothing(&self, context: &Context<'_>) -> Judged {
        let coordinator = &context.inner.coordinator;
        let held = coordinator.held_by(context.run, context.process);
        ensure(held.is_none(), || format!("holds {held:?} while it waits for people"))?;
        let hold = context.plan().concurrency.as_ref().is_none_or(|concurrency| concurrency.hold_at_gates);
        let group = context.run().pipeline.group.as_ref();
        let keeps = group.is_some_and(|group| coordinator.has_joined(group, context.run, context.process));
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
