//! Starting stages: whether a stage may start, when a slot is free, and the request for its attempt.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use petgraph::graph::NodeIndex;
use stagewright_model::{
    CacheUse, EffectClass, EnvironmentRef, EvaluationError, NeedsStatus, Stage, StageIndex, StageKind, Wave,
};

use super::{Action, Scheduler};
use crate::event::{EventKind, Failure, GateKind, Interrupt, Outcome, RunSource};
use crate::port::{AttemptRequest, CacheRequest, Call, EarlierStage, EnvironmentView, Need, SourceView};
use crate::scope::{StageScope, render_env};
use crate::state::{IllegalTransition, Resumption, StageStatus};

impl Scheduler {
    /// Resolves a stage whose needs have all ended: it becomes ready, or ends without having run.
    pub(super) fn resolve(&mut self, index: StageIndex) -> Result<(), IllegalTransition> {
        let stage = self.plan.stage(index);
        let needs = NeedsStatus { failed: self.needs_failed(index), cancelled: self.state.cancel.is_some() };
        let checks_status = stage.condition.as_ref().is_some_and(|condition| condition.calls_status());
        if self.state.cancel == Some(Interrupt::Kill)
            || (needs.cancelled && !checks_status && stage.kind == StageKind::Main)
        {
            return self.cancel_stage(index, "the run was cancelled");
        }
        let blocked = self.blocking_wave(index).or_else(|| self.blocking_need(index).filter(|_| !checks_status));
        if let Some(reason) = blocked {
            return self.end_stage(index, Outcome::Skipped, Outcome::Skipped, Some(reason));
        }
        let Some(condition) = stage.condition.clone() else {
            self.ready.insert(index);
            return Ok(());
        };
        let holds = self.render(index, needs, |scope, _| condition.holds(scope));
        match holds {
            Ok(true) => {
                self.ready.insert(index);
                Ok(())
            }
            Ok(false) => {
                let reason = format!("its `if` is false: {}", condition.source());
                self.end_stage(index, Outcome::Skipped, Outcome::Skipped, Some(reason))
            }
            Err(error) if self.rehearsed_source(&error).is_some() => self.end_without_value(index, &error),
            Err(error) => self.end_stage(index, Outcome::Errored, Outcome::Errored, Some(format!("`if`: {error}"))),
        }
    }

    /// Starts ready stages while slots are free.
    pub(super) fn launch_ready(&mut self) -> Result<(), IllegalTransition> {
        let mut after = None;
        while self.has_slot() {
            let next = match after {
                None => self.ready.first().copied(),
                Some(index) => {
                    self.ready.range((std::ops::Bound::Excluded(index), std::ops::Bound::Unbounded)).next().copied()
                }
            };
            let Some(index) = next else { break };
            if !self.has_group() {
                break;
            }
            let is_acquiring = self.acquiring.contains(&index);
            if is_acquiring || self.cells_are_full(index) || self.is_environment_busy(index) {
                after = Some(index);
                continue;
            }
            self.ready.remove(&index);
            self.start(index)?;
        }
        Ok(())
    }

    /// Starts a stage, or the next step before its attempt: recovery, an approval, or acquiring its environment.
    fn start(&mut self, index: StageIndex) -> Result<(), IllegalTransition> {
        if let Some(attempt) = self.unresolved_attempt_of(index) {
            return self.start_recovery(index, attempt);
        }
        if !self.needs_environment(index) {
            return self.begin(index, None);
        }
        if self.lacks_approval(index) {
            let attempt = self.next_attempt(index);
            return self.open_engine_gate(index, attempt, GateKind::Environment, self.question(index), None);
        }
        let override_freeze = self.overrides_freeze(index) || self.has_acted_on_environment(index);
        match self.freeze_of(index) {
            Some((until, reason)) if !override_freeze => self.open_freeze(index, Some(until), &reason),
            _ => {
                self.acquire_environment(index, override_freeze);
                Ok(())
            }
        }
    }

    /// What the approvers of the stage's environment are asked.
    pub(super) fn question(&self, index: StageIndex) -> String {
        let environment = self.environment_of(index).unwrap_or_default();
        let mut question = format!("Let `{}` act on `{environment}`?", self.plan.stage(index).id);
        if self.plan.region(index).is_some() {
            let whole = self.lock_of(index).unwrap_or_default();
            question.push_str(&format!(" An approval covers all regions of `{whole}`."));
        }
        question
    }

    /// Whether a slot is free for one more attempt.
    pub(super) fn has_slot(&self) -> bool {
        self.running.len() + self.acquiring.len() < self.jobs
    }

    /// The unresolved attempt whose outcome must be determined before the stage may start.
    fn unresolved_attempt_of(&self, index: StageIndex) -> Option<u32> {
        let state = self.state.stage(index);
        match state.status {
            StageStatus::Recovering(attempt) => Some(attempt),
            StageStatus::Pending | StageStatus::Backoff(_) => state.unresolved_attempt,
            _ => None,
        }
    }

    /// Whether as many cells of the stage's matrix are busy as may be. One whose attempt is between two calls counts:
    /// what it has begun elsewhere, such as a rollout, goes on.
    fn cells_are_full(&self, index: StageIndex) -> bool {
        let stage = self.plan.stage(index);
        let Some(max) = stage.matrix.as_ref().and_then(|cell| cell.max_parallel) else { return false };
        let is_busy = |cell: &&StageIndex| {
            let is_between_calls = **cell != index && self.state.stage(**cell).is_between_calls();
            let is_under_way = self.running.contains(cell) || self.acquiring.contains(cell);
            is_between_calls || is_under_way || self.opening.contains_key(cell)
        };
        let running = self.cells[&stage.name].iter().filter(is_busy).count();
        running >= max as usize
    }

    /// Starts an attempt.
    pub(super) fn begin(
        &mut self,
        index: StageIndex,
        environment: Option<EnvironmentView>,
    ) -> Result<(), IllegalTransition> {
        let attempt = self.next_attempt(index);
        let mut request = match self.request(index, attempt, Call::Run) {
            Ok(request) => request,
            Err(error) => return self.end_without_value(index, &error),
        };
        let fence = environment.as_ref().and_then(|view| view.fence);
        request.environment = environment.or(request.environment);
        self.record(EventKind::AttemptStarted { stage: index, attempt, fence })?;
        self.running.insert(index);
        self.response.actions.push(Action::Launch(Box::new(request)));
        Ok(())
    }

    /// Ends a stage that can't start for a reason outside its attempt.
    pub(super) fn fail_before_start(&mut self, index: StageIndex, failure: Failure) -> Result<(), IllegalTransition> {
        let mut reason = failure.message.clone();
        if let Some(help) = &failure.help {
            reason.push_str(&format!(" ({help})"));
        }
        if let StageStatus::Approved(attempt) = self.state.stage(index).status
            && self.state.stage(index).has_begun(attempt)
        {
            self.end_attempt(index, attempt, Outcome::Errored, Some(failure), BTreeMap::new())?;
        }
        self.end_stage(index, Outcome::Errored, Outcome::Errored, Some(reason))
    }

    /// The request for a call of the stage's plugin. Expressions are evaluated for each call; their values don't change
    /// between the calls for an attempt.
    pub(super) fn request(
        &self,
        index: StageIndex,
        attempt: u32,
        call: Call,
    ) -> Result<AttemptRequest, EvaluationError> {
        let needs = NeedsStatus { failed: self.needs_failed(index), cancelled: self.state.cancel.is_some() };
        let plan = Arc::clone(&self.plan);
        let stage = plan.stage(index);
        let terms = self.terms(index);
        let rehearsed = stage.rehearse.as_ref().and_then(|rehearse| rehearse.with.as_ref());
        let with = rehearsed.filter(|_| terms.is_some()).unwrap_or(&stage.with);
        let (config, env) = self.render(index, needs, |scope, env| Ok((with.evaluate(scope)?, env.clone())))?;
        let state = self.state.stage(index);
        let view = |environment: &EnvironmentRef| self.environment_view(&environment.name);
        Ok(AttemptRequest {
            run: self.run_id(),
            pipeline: plan.name.clone(),
            stage: index,
            stage_id: stage.id.clone(),
            table: match stage.kind {
                StageKind::Main => format!("stages.{}", stage.name),
                StageKind::Finally => format!("finally.{}", stage.name),
            },
            attempt,
            call,
            uses: stage.uses.clone(),
            trust: stage.trust.clone(),
            plugin: self.values.plugin(index).digest.as_deref().map(str::to_owned),
            config,
            env,
            permissions: stage.permissions.as_ref().clone(),
            environment: stage.environment.as_ref().map(view),
            needs: self.ended_before(stage),
            before: self.all_before(index),
            source: self.values.plugin(index).reads_source.then(|| Box::new(self.source_view())),
            timeout: stage.timeout,
            memory: stage.memory,
            log_limit: stage.log_limit,
            limits: stage.limits,
            declared: None,
            cache: self.may_use_cache(index, call).then(|| self.cached(index)).flatten(),
            failed_tests: state.failed_tests.clone(),
            resumption: state.resumption.as_ref().map(Resumption::to_json),
            rollout: state.rollout.clone(),
            rehearsal: terms,
            basis: self.basis(index),
            folder: None,
        })
    }

    /// A call that runs only some tests must not: the key doesn't say which, and the stage's result is that of all.
    fn may_use_cache(&self, index: StageIndex, call: Call) -> bool {
        let state = self.state.stage(index);
        call == Call::Run && state.resumption.is_none() && state.failed_tests.is_none()
    }

    /// How an attempt of the stage uses the cache. None for external stages: an effect beyond this machine must happen
    /// again, even if its result is known.
    fn cached(&self, index: StageIndex) -> Option<CacheRequest> {
        let stage = self.plan.stage(index);
        self.can_be_cached(index).then(|| CacheRequest {
            take: self.state.stage(index).attempts_before == 0,
            keep: stage.cache == CacheUse::ReadWrite,
            inputs: stage.inputs.clone(),
            outputs: stage.outputs.clone(),
            before: self.writers_before(index),
        })
    }

    fn can_be_cached(&self, index: StageIndex) -> bool {
        self.plan.stage(index).cache != CacheUse::Never && self.effect_of(index) < EffectClass::External
    }

    fn writers_before(&self, index: StageIndex) -> Vec<EarlierStage> {
        if self.plan.stage(index).permissions.write.is_empty() {
            return Vec::new();
        }
        let (mut seen, mut open) = (BTreeSet::new(), self.plan.stage(index).needs.clone());
        while let Some(need) = open.pop() {
            if seen.insert(need) {
                open.extend(&self.plan.stage(need).needs);
            }
        }
        let writers = seen.into_iter().filter(|&before| !self.plan.stage(before).permissions.write.is_empty());
        let writers = writers.map(|before| {
            let stage = self.plan.stage(before);
            EarlierStage {
                stage_id: stage.id.clone(),
                outputs: stage.outputs.clone(),
                writes: stage.permissions.writable(),
                is_cached: self.can_be_cached(before),
            }
        });
        writers.collect()
    }

    /// The stages that a stage needs directly and, for a finally stage, all main stages.
    fn ended_before(&self, stage: &Stage) -> Vec<Need> {
        let is_before = |index: &StageIndex| {
            let is_main = self.plan.stage(*index).kind == StageKind::Main;
            stage.needs.contains(index) || (stage.kind == StageKind::Finally && is_main)
        };
        let need = |index: StageIndex| {
            let (other, state) = (self.plan.stage(index), self.state.stage(index));
            let StageStatus::Ended { outcome, conclusion } = state.status else { return None };
            let (stage, id, outputs) = (other.name.clone(), other.id.clone(), state.outputs.clone());
            Some(Need { stage, id, outcome, conclusion, outputs })
        };
        self.plan.indices().filter(is_before).filter_map(need).collect()
    }

    /// Unique names of all stages that a stage needs, directly or not; for a finally stage, of all main stages.
    fn all_before(&self, index: StageIndex) -> BTreeSet<String> {
        let finally = self.plan.stage(index).kind == StageKind::Finally;
        let main = self.plan.indices().filter(|other| finally && self.plan.stage(*other).kind == StageKind::Main);
        self.ancestors(index).into_iter().chain(main).map(|other| self.plan.stage(other).id.clone()).collect()
    }

    fn source_view(&self) -> SourceView {
        let RunSource { git, trigger, base, .. } = &self.values.source;
        SourceView { git: git.clone(), trigger: trigger.clone(), base: base.clone() }
    }

    /// Evaluates with the stage's variables; its `env` is evaluated first, because other expressions may use it.
    pub(super) fn render<T>(
        &self,
        index: StageIndex,
        needs: NeedsStatus,
        evaluate: impl FnOnce(&StageScope<'_>, &BTreeMap<String, String>) -> Result<T, EvaluationError>,
    ) -> Result<T, EvaluationError> {
        let conclusion = (self.plan.stage(index).kind == StageKind::Finally).then(|| self.conclusion());
        let none = BTreeMap::new();
        let scope = |env| StageScope {
            plan: &self.plan,
            state: &self.state,
            values: &self.values,
            stage: index,
            needs,
            env,
            conclusion,
        };
        let env = render_env(&self.plan.stage(index).env, &scope(&none))?;
        evaluate(&scope(&env), &env)
    }

    /// Why a stage whose `if` doesn't check the status of its needs can't run.
    fn blocking_need(&self, index: StageIndex) -> Option<String> {
        self.plan.stage(index).own_needs().find_map(|need| {
            let conclusion = self.state.stage(need).status.conclusion()?;
            let happened = happened(conclusion).or((conclusion == Outcome::Skipped).then_some("was skipped"))?;
            Some(format!("`{}` {happened}", self.plan.stage(need).id))
        })
    }

    /// Why the wave of a stage doesn't begin: a stage of the waves before it didn't succeed. One that was skipped because of
    /// its own condition, and all that were skipped because of that, don't count.
    fn blocking_wave(&self, index: StageIndex) -> Option<String> {
        let wave = self.plan.stage(index).wave.as_ref()?;
        let (mut seen, mut open) = (BTreeSet::new(), wave.after.clone());
        let mut has_acted = wave.after.is_empty();
        while let Some(before) = open.pop() {
            let conclusion = self.state.stage(before).status.conclusion()?;
            if let Some(happened) = happened(conclusion) {
                let Wave { environment, .. } = &**wave;
                let id = &self.plan.stage(before).id;
                return Some(format!("`{id}` {happened}, which ends the deploy to the regions of `{environment}`"));
            }
            has_acted |= conclusion != Outcome::Skipped;
            let needs = self.plan.stage(before).needs.iter();
            open.extend(needs.filter(|need| self.plan.stage(**need).wave.is_some() && seen.insert(**need)));
        }
        if !wave.is_pause {
            return None;
        }
        let empty = if has_acted { self.will_be_skipped(index).then_some("next wave") } else { Some("waves before") };
        empty.map(|waves| format!("there is nothing to do in the {waves}"))
    }

    /// Whether the conditions of all stages that directly follow are false, as far as that can be known.
    fn will_be_skipped(&self, index: StageIndex) -> bool {
        let is_false = |dependent: StageIndex| {
            let needs = NeedsStatus { failed: self.needs_failed(dependent), cancelled: false };
            let condition = self.plan.stage(dependent).condition.clone();
            condition.is_some_and(|condition| {
                matches!(self.render(dependent, needs, |scope, _| condition.holds(scope)), Ok(false))
            })
        };
        let mut dependents = self.plan.graph.neighbors(NodeIndex::new(index.get()));
        dependents.all(|dependent| is_false(self.plan.graph[dependent]))
    }

    /// Whether a need failed, directly or upstream. For finally stages, every main stage counts as a need.
    fn needs_failed(&self, index: StageIndex) -> bool {
        let stage = self.plan.stage(index);
        let failed = |need: StageIndex| {
            self.state.stage(need).status.conclusion().is_some_and(Outcome::is_failure)
                || self.upstream_failed[need.get()]
        };
        match stage.kind {
            StageKind::Main => stage.needs.iter().any(|&need| failed(need)),
            StageKind::Finally => self.conclusion().is_failure(),
        }
    }

    /// Whether the stage was skipped or cancelled after a failure upstream.
    pub(super) fn has_failed_upstream(&self, index: StageIndex) -> bool {
        let conclusion = self.state.stage(index).status.conclusion();
        matches!(conclusion, Some(Outcome::Skipped | Outcome::Cancelled)) && {
            let mut needs = self.plan.stage(index).needs.iter();
            needs.any(|need| {
                let conclusion = self.state.stage(*need).status.conclusion();
                conclusion.is_some_and(Outcome::is_failure) || self.upstream_failed[need.get()]
            })
        }
    }

    pub(super) fn conclusion(&self) -> Outcome {
        let mut worst = Outcome::Succeeded;
        for conclusion in self.state.stages.iter().filter_map(|stage| stage.status.conclusion()) {
            match conclusion {
                _ if conclusion.is_failure() => return Outcome::Failed,
                Outcome::Cancelled => worst = Outcome::Cancelled,
                Outcome::Rejected if worst == Outcome::Succeeded => worst = Outcome::Rejected,
                _ => {}
            }
        }
        worst
    }
}

/// What happened to a stage that didn't succeed, and wasn't skipped either.
fn happened(conclusion: Outcome) -> Option<&'static str> {
    match conclusion {
        Outcome::Succeeded | Outcome::Rehearsed | Outcome::Skipped => None,
        Outcome::Failed => Some("failed"),
        Outcome::Errored => Some("errored"),
        Outcome::TimedOut => Some("timed out"),
        Outcome::Cancelled => Some("was cancelled"),
        Outcome::Rejected => Some("was rejected"),
        Outcome::Lost => Some("was lost"),
        Outcome::Inconclusive => Some("was inconclusive"),
    }
}
