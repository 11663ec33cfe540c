//! Gates: their approvers and questions, which answers are accepted, and when they expire.

use std::collections::BTreeSet;
use std::sync::Arc;

use stagewright_engine::{Decision, Gate, GateKind};
use stagewright_model::StageIndex;

use super::{CheckResult, Context, Phase, Truth, ensure};

impl Truth {
    pub(super) fn on_gate_opened(
        &mut self,
        context: &Context<'_>,
        stage: StageIndex,
        attempt: u32,
        gate: &Gate,
    ) -> CheckResult {
        if gate.kind == GateKind::Wait {
            return self.on_wait_opened(context, stage, attempt, gate);
        }
        self.check_occasion(context, stage, attempt, gate)?;
        self.check_question(context, stage, attempt, gate)?;
        context.count(match gate.kind {
            GateKind::Approval => "gate approval",
            GateKind::Environment => "gate environment",
            GateKind::Freeze => "gate freeze",
            GateKind::Unresolved => "gate doubt",
            GateKind::Wait => "gate wait",
        });
        if gate.kind == GateKind::Environment && self.stage(stage).wait.is_some() {
            context.count("approval asked again after a wait");
        }
        let state = self.stage_mut(stage);
        state.wait = None;
        state.phase = Phase::Waiting(attempt);
        state.gate = Some(Arc::new(gate.clone()));
        // An approval lapses when what it was given for changes, even if that is changed back later.
        state.admitted.retain(|(_, _, binding)| *binding == gate.binding);
        state.votes.clear();
        Ok(())
    }

    /// Checks that there is a reason for the gate.
    fn check_occasion(&self, context: &Context<'_>, stage: StageIndex, attempt: u32, gate: &Gate) -> CheckResult {
        let state = self.stage(stage);
        let wrong = |why: &str| Err(format!("stage {} is {:?}: {why}", stage.0, state.phase));
        match (gate.kind, state.phase) {
            (GateKind::Approval, Phase::Running(now)) if now == attempt => {
                match self.own_question(context, stage, attempt) {
                    Some(_) => Ok(()),
                    None => wrong("its plugin didn't request a gate"),
                }
            }
            (GateKind::Unresolved, Phase::Observing(now)) if now == attempt => {
                match self.is_unknown(context, stage, attempt) {
                    true => Ok(()),
                    false => wrong("its plugin knows the outcome"),
                }
            }
            (kind, phase) if Truth::is_before_attempt(kind) => {
                let to_come = match phase {
                    Phase::Free => state.attempts + 1,
                    Phase::Backoff(next) | Phase::Passed(next) => next,
                    _ => return wrong("no attempt of it is about to start"),
                };
                ensure(attempt == to_come, || format!("for attempt {attempt}, and {to_come} comes next"))?;
                match kind {
                    GateKind::Environment if self.is_approved(context, stage) => wrong("it is already approved"),
                    GateKind::Freeze if self.frozen(context, stage).is_none() => wrong("nothing is frozen"),
                    GateKind::Freeze if self.is_freeze_overridden(stage) => wrong("an approval overrode the freeze"),
                    _ => Ok(()),
                }
            }
            _ => wrong("no gate is expected now"),
        }
    }

    /// Checks the gate's approvers, their number, and its expiry.
    fn check_question(&self, context: &Context<'_>, stage: StageIndex, attempt: u32, gate: &Gate) -> CheckResult {
        let (mut approvers, mut approvals, mut expires) = (environment_approvers(context, stage), 1, None);
        if let Some(own) = self.own_question(context, stage, attempt).filter(|_| gate.kind == GateKind::Approval) {
            approvals = own.approvals;
            expires = own.expires;
            ensure(gate.token == own.token, || "the token isn't the plugin's".to_owned())?;
            if own.approvers.is_empty() {
                let of_named = context.run().pipeline.approves[stage.get()].as_ref();
                approvers.extend(of_named.map(|name| approvers_of(context, name)).unwrap_or_default());
                let mut seen = BTreeSet::new();
                approvers.retain(|approver| seen.insert(approver.clone()));
            } else {
                approvers.clone_from(&own.approvers);
            }
        }
        let members = people(&approvers);
        ensure((&gate.approvers, &gate.members) == (&approvers, &members), || {
            format!("the approvers are {:?} instead of {approvers:?}", gate.approvers)
        })?;
        ensure(gate.approvals == approvals, || format!("{} approvals instead of {approvals}", gate.approvals))?;
        ensure(gate.expires == expires, || format!("expires at {:?} instead of {expires:?}", gate.expires))?;
        let until = (gate.kind == GateKind::Freeze).then(|| self.frozen(context, stage)).flatten();
        ensure(gate.until == until, || format!("opens at {:?} instead of {until:?}", gate.until))?;
        let binding = Some(context.run().binding);
        ensure(gate.binding.as_deref() == binding, || format!("for {:?} instead of {binding:?}", gate.binding))
    }

    pub(super) fn on_gate_elapsed(&mut self, context: &Context<'_>, stage: StageIndex) -> CheckResult {
        if self.stage(stage).wait.is_some() {
            return self.on_wait_elapsed(context, stage);
        }
        let state = self.stage(stage);
        let until = state.gate.as_ref().and_then(|gate| gate.until);
        let (Phase::Waiting(attempt), Some(GateKind::Freeze)) = (state.phase, state.gate_kind()) else {
            return Err(format!("stage {} is {:?}", stage.0, state.phase));
        };
        // A manual freeze may have been lifted while no process drove the run, so a resume checks it again.
        let is_looked_at_again = self.frozen_by_plan(context, stage).is_none() && !state.has_waited_here(context);
        ensure(until.is_some_and(|until| until <= context.at) || is_looked_at_again, || {
            format!("at {:?}, but the freeze of stage {} lasts until {until:?}", context.at, stage.0)
        })?;
        context.count("gate elapsed");
        self.stage_mut(stage).phase = Phase::Passed(attempt);
        Ok(())
    }

    /// Whether an answer must be accepted. The error is the name of the reason why not, as counted.
    pub(super) fn accepts(
        &self,
        context: &Context<'_>,
        stage: StageIndex,
        answer: &Decision,
    ) -> Result<(), &'static str> {
        let state = self.stage(stage);
        if state.is_open_wait() {
            return Err("answer to a wait refused");
        }
        let (Phase::Waiting(_), Some(gate)) = (state.phase, &state.gate) else {
            return Err("answer to no open gate refused");
        };
        if gate.token != answer.token {
            return Err("answer to an earlier gate refused");
        }
        if gate.expires.is_some_and(|expires| answer.at.unwrap_or(context.at) >= expires) {
            return Err("answer after expiry refused");
        }
        if (gate.kind == GateKind::Unresolved) != answer.finding.is_some() {
            return Err("answer to another question refused");
        }
        if !gate.approvers.is_empty() && !gate.members.iter().any(|member| is_same(member, &answer.by)) {
            return Err("answer of another person refused");
        }
        if answer.approved && state.votes.iter().any(|earlier| is_same(&earlier.by, &answer.by)) {
            return Err("second answer of a person refused");
        }
        Ok(())
    }

    pub(super) fn on_decided(&mut self, context: &Context<'_>, stage: StageIndex, decision: &Decision) -> CheckResult {
        let given = context.answer.as_ref().is_some_and(|(asked, given)| *asked == stage && given == decision);
        ensure(given, || format!("{decision:?}, and {:?} was given", context.answer))?;
        if let Err(reason) = self.accepts(context, stage, decision) {
            return Err(format!("{decision:?} should have been refused: {reason}"));
        }
        let state = self.stage_mut(stage);
        let (Phase::Waiting(attempt), Some(gate)) = (state.phase, state.gate.clone()) else { return Ok(()) };
        state.votes.push(decision.clone());
        state.phase = match gate.kind {
            GateKind::Unresolved => Phase::Answered(attempt),
            _ if !decision.approved => Phase::Refused(attempt),
            _ if state.votes.len() >= gate.approvals as usize => Phase::Passed(attempt),
            _ => Phase::Waiting(attempt),
        };
        if gate.kind == GateKind::Approval {
            state.goes_on_with = Some((attempt, state.votes.clone()));
        }
        if let Phase::Passed(_) = state.phase {
            context.count(if gate.approvals > 1 { "gate passed by several" } else { "gate passed" });
            let admitted = |vote: &Decision| (gate.kind, vote.by.clone(), gate.binding.clone());
            state.admitted.extend(state.votes.iter().map(admitted));
        }
        Ok(())
    }

    /// Whether an approver has approved the stage's environment under the current binding.
    pub(super) fn is_approved(&self, context: &Context<'_>, stage: StageIndex) -> bool {
        let members = people(&environment_approvers(context, stage));
        let plan = context.plan();
        let environment = |index| plan.stage(index).environment.as_ref().map(|environment| &environment.name);
        let binding = Some(context.run().binding);
        let before = needed_by(context, stage);
        members.is_empty()
            || plan.indices().any(|index| {
                let names_it = context.run().pipeline.approves[index.get()].as_ref() == environment(stage);
                self.stage(index).admitted.iter().any(|(kind, by, bound)| {
                    let is_member = members.iter().any(|member| is_same(member, by));
                    let is_for_it = match kind {
                        GateKind::Approval => names_it && before.contains(&index),
                        _ => environment(index) == environment(stage),
                    };
                    is_for_it && is_member && bound.as_deref() == binding
                })
            })
    }

    /// Whether a person overrode the freeze at whose gate the stage waited.
    pub(super) fn is_freeze_overridden(&self, stage: StageIndex) -> bool {
        let state = self.stage(stage);
        matches!(state.phase, Phase::Passed(_))
            && state.gate_kind() == Some(GateKind::Freeze)
            && state.votes.iter().any(|vote| vote.approved)
    }
}

impl super::truth::StageTruth {
    /// Whether the gate was opened by the process that drives the run now.
    fn has_waited_here(&self, context: &Context<'_>) -> bool {
        let token = self.gate.as_ref().map(|gate| gate.token.as_str());
        token.is_some_and(|token| context.facts().opened.contains(token))
    }
}

fn environment_approvers(context: &Context<'_>, stage: StageIndex) -> Vec<String> {
    let environment = context.stage(stage).environment.as_ref();
    environment.map(|environment| approvers_of(context, &environment.name)).unwrap_or_default()
}

fn approvers_of(context: &Context<'_>, environment: &str) -> Vec<String> {
    let environment = context.plan().environments.get(environment);
    environment.map(|environment| environment.approvers.clone()).unwrap_or_default()
}

/// The stage and all that it needs, directly or not.
fn needed_by(context: &Context<'_>, stage: StageIndex) -> BTreeSet<StageIndex> {
    let mut found = BTreeSet::from([stage]);
    // In a plan, a stage comes after its needs.
    for index in context.plan().indices().collect::<Vec<_>>().into_iter().rev() {
        if found.contains(&index) {
            found.extend(&context.stage(index).needs);
        }
    }
    found
}

/// The people that a list of approvers means. There is one team.
fn people(approvers: &[String]) -> Vec<String> {
    let mut people = BTreeSet::new();
    for approver in approvers {
        match approver.as_str() {
            "team:ops" => people.extend(["ada".to_owned(), "grace".to_owned()]),
            person => people.extend([person.to_owned()]),
        }
    }
    people.into_iter().collect()
}

/// Whether two names are the same person's: case and surrounding blanks make no difference.
fn is_same(one: &str, other: &str) -> bool {
    one.trim().eq_ignore_ascii_case(other.trim())
}
