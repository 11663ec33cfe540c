//! Attempts that were left unresolved: observation, settling, and what follows from the outcome.

use std::time::Duration;

use stagewright_engine::{
    Decision, EffectClass, Event, EventKind, Finding, GateKind, Interrupt, Observation, Outcome, PluginFacts,
    RunCommand, RunValues,
};
use stagewright_model::{Backoff, Retry, RetryCause, Stage};

use crate::fake::{Act, FakeStore, Ran, Script, World, found, reach};
use crate::gates::answer;
use crate::plans::{cell, deploy, plan, stage};

const LATER: Duration = Duration::from_secs(100);

fn stages() -> Vec<Stage> {
    vec![stage("build", &[]), deploy("deploy", &[0]), stage("check", &[1])]
}

/// The journal of a run whose machine crashed right after `deploy` recorded the intent of its effect.
fn broken_off() -> (Ran, Vec<Event>) {
    let ran = World::new(plan(stages()), Script::of([("deploy", vec![reach(Act::Succeed)])])).run();
    let intent = ran.recorded.iter().position(|event| matches!(event.kind, EventKind::EffectIntended { .. }));
    let past = ran.recorded[..=intent.expect("an intent")].to_vec();
    (ran, past)
}

fn after(observations: Vec<Act>) -> World {
    let (before, past) = broken_off();
    let script = Script::of([("observe deploy", observations), ("deploy", vec![reach(Act::Succeed)])]);
    World { past, ..World::new(before.plan.clone(), script) }
}

fn settle(finding: Finding) -> Decision {
    Decision { finding: Some(finding), ..answer(true, "ada") }
}

fn unknown() -> Act {
    Act::Observe(Observation::Unknown("the target is silent".to_owned()))
}

#[test]
fn attempt_without_effect_runs_again() {
    let ran = after(vec![found(Finding::NotStarted)]).run();
    assert_eq!(ran.starts(), ["observe deploy#1", "deploy#2", "check#1"]);
    assert_eq!(ran.effects(), ["deploy#2"]);
    assert_eq!(ran.conclusion(), Some(Outcome::Succeeded));
}

#[test]
fn applied_effect_is_not_repeated() {
    let ran = after(vec![found(Finding::Applied("v1".to_owned()))]).run();
    assert_eq!(ran.starts(), ["observe deploy#1", "check#1"]);
    assert_eq!(ran.conclusion(), Some(Outcome::Succeeded));
    assert_eq!(ran.reason("deploy"), "found in place: v1");
}

#[test]
fn failed_effect_fails_the_stage() {
    let ran = after(vec![found(Finding::Failed("crash loop".to_owned()))]).run();
    assert_eq!(ran.starts(), ["observe deploy#1"]);
    assert_eq!(ran.outcomes()[1..], ["deploy failed", "check skipped"]);
}

#[test]
fn effect_in_progress_is_observed_again() {
    let going_on = Act::Observe(Observation::InProgress);
    let ran = after(vec![going_on.clone(), going_on, found(Finding::Applied("v1".to_owned()))]).run();
    assert_eq!(ran.starts(), ["observe deploy#1", "observe deploy#1", "observe deploy#1", "check#1"]);
    assert_eq!(ran.took, Duration::from_secs(3 + 2 * 5 + 1));
}

#[test]
fn failed_observation_opens_a_gate() {
    for silence in [unknown(), Act::Fail, Act::Succeed, Act::Panic, Act::TimeOut] {
        let ran = after(vec![silence]).command(LATER, RunCommand::Suspend).run();
        assert_eq!(ran.starts(), ["observe deploy#1"]);
        let opened = ran.events(|kind| match kind {
            EventKind::GateOpened { gate, .. } => Some(format!("{:?}", gate.kind)),
            _ => None,
        });
        assert_eq!(opened, ["Unresolved"]);
        assert_eq!(ran.conclusion(), None);
    }
}

#[test]
fn person_can_settle_with_each_outcome() {
    let settled = |finding| after(vec![unknown()]).answer(LATER, 1, settle(finding)).run();
    assert_eq!(settled(Finding::NotStarted).effects(), ["deploy#2"]);
    let applied = settled(Finding::Applied("v1".to_owned()));
    assert_eq!(applied.starts(), ["observe deploy#1", "check#1"]);
    let by = applied.events(|kind| match kind {
        EventKind::Recovered { by, .. } => by.clone(),
        _ => None,
    });
    assert_eq!(by, ["ada"]);
    assert_eq!(settled(Finding::Failed("no".to_owned())).outcomes()[1], "deploy failed");
}

#[test]
fn approval_does_not_settle_an_unresolved_attempt() {
    let ran =
        after(vec![unknown()]).answer(LATER, 1, answer(true, "ada")).command(2 * LATER, RunCommand::Suspend).run();
    assert_eq!(ran.conclusion(), None);
    assert!(!ran.recorded.iter().any(|event| matches!(event.kind, EventKind::GateDecided { .. })));
}

#[test]
fn only_an_approver_can_settle_an_attempt() {
    let (_, past) = broken_off();
    let approved = crate::plans::plan_with(stages(), &["ada"], None);
    let script = Script::of([("observe deploy", vec![unknown()])]);
    let mallory = Decision { by: "mallory".to_owned(), ..settle(Finding::Applied("v1".to_owned())) };
    let ran = World { past, ..World::new(approved, script) }
        .answer(LATER, 1, mallory)
        .command(2 * LATER, RunCommand::Suspend)
        .run();
    assert!(!ran.recorded.iter().any(|event| matches!(event.kind, EventKind::GateDecided { .. })));
}

#[test]
fn settling_does_not_approve_the_environment() {
    let (before, past) = broken_off();
    let approved = crate::plans::plan_with(stages(), &["ada"], None);
    let script = Script::of([("observe deploy", vec![unknown()])]);
    let ran = World { past, ..World::new(approved, script) }
        .answer(LATER, 1, settle(Finding::NotStarted))
        .command(2 * LATER, RunCommand::Suspend)
        .run();
    assert_eq!(
        ran.state(&before.recorded[..ran.recorded[0].seq as usize]).stages[1].gate_kind(),
        Some(GateKind::Environment)
    );
}

#[test]
fn recovery_can_be_resumed_after_any_event() {
    let (_, past) = broken_off();
    let asked = after(vec![Act::Observe(Observation::InProgress), unknown()])
        .answer(LATER, 1, settle(Finding::Applied("v1".to_owned())))
        .run();
    let whole: Vec<Event> = past.iter().chain(&asked.recorded).cloned().collect();
    for cut in past.len()..=whole.len() {
        let script = Script::of([("observe deploy", vec![found(Finding::Applied("v1".to_owned()))])]);
        let past = whole[..cut].to_vec();
        let again = World { past: past.clone(), store: FakeStore::default(), ..World::new(asked.plan.clone(), script) }
            .answer(LATER, 1, settle(Finding::Applied("v1".to_owned())))
            .run();
        assert_eq!(again.conclusion(), Some(Outcome::Succeeded), "cut after {cut}");
        assert_eq!(again.effects(), [""; 0], "cut after {cut}");
        again.state(&past);
    }
}

#[test]
fn attempt_without_a_recorded_intent_runs_again() {
    let ran = World::new(plan(stages()), Script::default()).run();
    let started = ran
        .recorded
        .iter()
        .position(|event| matches!(event.kind, EventKind::AttemptStarted { stage, .. } if stage.0 == 1));
    let past = ran.recorded[..=started.unwrap()].to_vec();
    let again = World { past, ..World::new(ran.plan.clone(), Script::default()) }.run();
    assert_eq!(again.starts(), ["deploy#2", "check#1"]);
}

fn retried() -> Stage {
    Stage { retry: Retry { max: 2, on: RetryCause::ALL.to_vec(), ..Retry::default() }.into(), ..deploy("deploy", &[]) }
}

#[test]
fn retry_observes_a_stopped_attempt_first() {
    let acts = [(Act::TimeOut, true), (Act::Panic, true), (Act::ExceedLimit, true), (Act::Fail, false)];
    for (stopped, asks) in acts {
        let script = || vec![reach(stopped.clone()), reach(Act::Succeed)];
        let again = World::new(plan(vec![retried()]), Script::of([("deploy", script())])).run();
        let expected: &[&str] =
            if asks { &["deploy#1", "observe deploy#1", "deploy#2"] } else { &["deploy#1", "deploy#2"] };
        assert_eq!(again.starts(), expected);
        let observed = ("observe deploy", vec![found(Finding::Applied(String::new()))]);
        let ran = World::new(plan(vec![retried()]), Script::of([("deploy", script()), observed])).run();
        assert_eq!(ran.effects().len(), if asks { 1 } else { 2 });
        assert_eq!(ran.conclusion(), Some(Outcome::Succeeded));
    }
}

#[test]
fn cancelling_keeps_the_attempt_unresolved() {
    let cancel = RunCommand::Cancel { how: Interrupt::Graceful, reason: "Ctrl-C".to_owned() };
    let (_, past) = broken_off();
    let going_on = Act::Observe(Observation::InProgress);
    for world in [after(vec![going_on]).command(LATER, cancel.clone()), after(vec![unknown()]).command(LATER, cancel)] {
        let cancelled = world.run();
        assert_eq!(cancelled.conclusion(), Some(Outcome::Cancelled));
        let past: Vec<Event> = past.iter().chain(&cancelled.recorded).cloned().collect();
        let script = Script::of([("observe deploy", vec![found(Finding::Applied("v1".to_owned()))])]);
        let again = World { past, ..World::new(cancelled.plan.clone(), script) }.run();
        assert_eq!(again.starts(), ["observe deploy#1", "check#1"]);
    }
}

#[test]
fn recoveries_use_slots() {
    let stages = (0..4).map(|n| stage(&format!("s{n}"), &[])).collect();
    let ran =
        World::new(plan(stages), Script::of((0..4).map(|n| (["s0", "s1", "s2", "s3"][n], vec![reach(Act::Hang)]))))
            .command(LATER, RunCommand::Cancel { how: Interrupt::Kill, reason: "Ctrl-C".to_owned() })
            .run();
    let script = Script::of(
        ["observe s0", "observe s1", "observe s2", "observe s3"]
            .map(|key| (key, vec![Act::Observe(Observation::InProgress), found(Finding::Applied(String::new()))])),
    );
    let again = World { jobs: 2, past: ran.recorded.clone(), ..World::new(ran.plan.clone(), script) }.run();
    assert_eq!(again.starts().len(), 8);
    assert_eq!(again.seen.lock().unwrap().most_running, 2);
}

#[test]
fn stage_with_continue_on_error_is_observed_too() {
    let lenient = Stage { continue_on_error: true, ..deploy("deploy", &[]) };
    let ran =
        World::new(plan(vec![lenient, stage("check", &[0])]), Script::of([("deploy", vec![reach(Act::Succeed)])]))
            .run();
    let intent = ran.recorded.iter().position(|event| matches!(event.kind, EventKind::EffectIntended { .. }));
    let past = ran.recorded[..=intent.unwrap()].to_vec();
    let again = World { past, ..World::new(ran.plan.clone(), Script::default()) }.run();
    assert_eq!(again.starts(), ["observe deploy#1", "deploy#2", "check#1"]);
}

#[test]
fn local_effects_are_never_observed() {
    let local = PluginFacts { effect: EffectClass::Local, ..PluginFacts::default() };
    let values = || RunValues { plugins: vec![local.clone(); 3], ..RunValues::default() };
    let ran = World { values: values(), ..World::new(plan(stages()), Script::default()) }.run();
    for cut in 1..=ran.recorded.len() {
        let past = ran.recorded[..cut].to_vec();
        let again = World { values: values(), past, ..World::new(ran.plan.clone(), Script::default()) }.run();
        assert!(!again.starts().iter().any(|start| start.starts_with("observe")));
    }
}

#[test]
fn leftover_of_an_attempt_has_no_effect_during_recovery() {
    let backoff = Backoff { initial: Duration::from_secs(1), ..Backoff::default() };
    let retry = Retry { max: 1, backoff, ..Retry::default() };
    let script = Script::of([
        ("deploy", vec![Act::Linger(Duration::from_millis(2_500), Box::new(reach(Act::TimeOut))), reach(Act::Succeed)]),
        ("observe deploy", vec![found(Finding::Applied(String::new()))]),
    ]);
    // The second stage keeps the run alive until the leftover requests its effect.
    let stages = vec![Stage { retry: retry.into(), ..deploy("deploy", &[]) }, stage("after", &[0])];
    let ran = World::new(plan(stages), script).run();
    assert_eq!(ran.starts(), ["deploy#1", "observe deploy#1", "after#1"]);
    assert_eq!(ran.effects(), ["deploy#1"], "only its own effect, before its end");
    assert_eq!(ran.seen.lock().unwrap().refused, ["deploy#1"]);
}

#[test]
fn observed_cell_ends_once_when_a_sibling_fails() {
    let cells = || (0..2).map(|n| cell("m", n, None)).collect::<Vec<_>>();
    let before =
        World::new(plan(cells()), Script::of([("m (n=0)", vec![Act::Hang]), ("m (n=1)", vec![reach(Act::Hang)])]))
            .command(LATER, RunCommand::Cancel { how: Interrupt::Kill, reason: "Ctrl-C".to_owned() })
            .run();
    for finding in [Finding::NotStarted, Finding::Applied(String::new())] {
        let script = Script::of([("observe m (n=1)", vec![found(finding.clone())]), ("m (n=0)", vec![Act::Fail])]);
        let again = World { past: before.recorded.clone(), ..World::new(before.plan.clone(), script) }.run();
        assert_eq!(again.starts(), ["m (n=0)#2", "observe m (n=1)#1"]);
        assert_eq!(again.outcomes()[0], "m (n=0) failed");
    }
}

#[test]
fn answer_after_a_cancellation_counts() {
    let cancel = || RunCommand::Cancel { how: Interrupt::Graceful, reason: "Ctrl-C".to_owned() };
    let settled = |finding| after(vec![found(finding)]).command(Duration::from_millis(500), cancel()).run();
    assert_eq!(settled(Finding::Applied(String::new())).outcomes()[1..], ["deploy succeeded", "check cancelled"]);
    assert_eq!(settled(Finding::NotStarted).outcomes()[1..], ["deploy cancelled", "check cancelled"]);
}

/// A person settled attempt 1 as not started. Attempt 2 then timed out, and the machine crashed while its plugin was
/// observing it.
#[test]
fn settled_outcome_is_not_applied_to_a_later_attempt() {
    let plan = plan(vec![retried(), stage("check", &[0])]);
    let first = World::new(plan.clone(), Script::of([("deploy", vec![reach(Act::Succeed)])])).run();
    let until = |events: &[Event], is_it: fn(&EventKind) -> bool| {
        let last = events.iter().position(|event| is_it(&event.kind)).expect("such an event");
        events[..=last].to_vec()
    };
    let past = until(&first.recorded, |kind| matches!(kind, EventKind::EffectIntended { .. }));
    let script = Script::of([
        ("observe deploy", vec![unknown(), Act::Observe(Observation::InProgress)]),
        ("deploy", vec![reach(Act::TimeOut)]),
    ]);
    let second = World { past: past.clone(), ..World::new(plan.clone(), script) }
        .answer(LATER, 0, settle(Finding::NotStarted))
        .command(2 * LATER, RunCommand::Cancel { how: Interrupt::Kill, reason: "enough".to_owned() })
        .run();
    assert_eq!(second.effects(), ["deploy#2"]);
    let asked = |kind: &EventKind| matches!(kind, EventKind::RecoveryStarted { attempt: 2, .. });
    let past = [past, until(&second.recorded, asked)].concat();
    let script = Script::of([("observe deploy", vec![found(Finding::Applied("v1".to_owned()))])]);
    let third = World { past, ..World::new(plan, script) }.run();
    assert_eq!(third.starts(), ["observe deploy#2", "check#1"]);
    assert_eq!(third.conclusion(), Some(Outcome::Succeeded));
}
