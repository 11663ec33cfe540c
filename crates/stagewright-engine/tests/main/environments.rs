//! Environments: the fences, approvals and freezes that precede a stage's first attempt.

use std::time::Duration;

use serde_json::json;
use stagewright_engine::{
    Decision, EffectClass, EnvironmentAnswer, Event, EventKind, Gate, GateKind, Interrupt, Outcome, PluginFacts,
    RunCommand, RunId, RunState, RunValues, Timestamp,
};
use stagewright_model::{Environment, EnvironmentRef, Plan, Retry, RetryCause, Stage, StageIndex};

use crate::fake::{Act, FakeStore, Ran, Script, WORK, World, granted, reach};
use crate::gates::{answer, gate};
use crate::plans::{cell, deploy, plan, plan_with, stage, templates};

pub(crate) const LATER: Duration = Duration::from_secs(100);

pub(crate) fn said(ran: &Ran) -> Vec<String> {
    let said = ran.coordinator.said.lock().expect("a lock");
    said.iter().filter(|said| *said != "beat").cloned().collect()
}

pub(crate) fn gates(ran: &Ran) -> Vec<GateKind> {
    let opened = ran.recorded.iter().filter_map(|event| match &event.kind {
        EventKind::GateOpened { gate, .. } => Some(gate.kind),
        _ => None,
    });
    opened.collect()
}

fn other() -> RunId {
    RunId("r0".to_owned())
}

fn bound_to(binding: &str) -> RunValues {
    RunValues { binding: Some(binding.to_owned()), ..RunValues::default() }
}

#[test]
fn intents_are_recorded_once_and_durably_before_effects() {
    let ran = World::new(plan(vec![deploy("deploy", &[])]), Script::of([("deploy", vec![reach(reach(Act::Succeed))])]));
    // The fake runner checks that they are durable.
    let ran = ran.run();
    let intents = ran.events(|kind| matches!(kind, EventKind::EffectIntended { .. }).then(String::new));
    assert_eq!(intents.len(), 1);
    assert_eq!(ran.state(&[]).stages[0].unresolved_attempt, None);
}

#[test]
fn effect_with_a_stale_fence_is_refused() {
    let mut world = World::new(plan(vec![deploy("deploy", &[])]), Script::of([("deploy", vec![reach(Act::Succeed)])]));
    world.coordinator.overtaken = true;
    let ran = world.run();
    assert_eq!(ran.effects(), [""; 0]);
    assert_eq!(ran.seen.lock().unwrap().refused, ["deploy#1"]);
    assert_eq!(ran.outcomes(), ["deploy failed"]);
}

#[test]
fn an_effect_that_cannot_be_recorded_is_refused() {
    let store = FakeStore { full_from: Some(2), ..FakeStore::default() };
    let script = Script::of([("deploy", vec![reach(Act::Succeed)])]);
    let ran = World { store, ..World::new(plan(vec![deploy("deploy", &[])]), script) }.run();
    assert!(ran.result.is_err());
    assert_eq!(ran.seen.lock().unwrap().refused, ["deploy#1"]);
    assert_eq!(said(&ran), ["claim production", "release_environment production"], "its process may live on");
}

#[test]
fn stages_of_a_run_use_an_environment_one_at_a_time() {
    let stages = vec![deploy("api", &[]), deploy("web", &[]), stage("other", &[])];
    let script = Script::of([("api", vec![Act::Deploy("api@1")]), ("web", vec![Act::Deploy("web@1")])]);
    let ran = World::new(plan(stages), script).run();
    assert_eq!(ran.outcomes(), ["api succeeded", "web succeeded", "other succeeded"]);
    assert_eq!(ran.starts(), ["other#1", "api#1", "web#1"]);
}

#[test]
fn waiting_for_an_environment_is_recorded_once() {
    let world = World::new(plan(vec![deploy("deploy", &[]), stage("other", &[])]), Script::default());
    let held = || EnvironmentAnswer::Held { by: other() };
    world.coordinator.claims.lock().unwrap().extend([held(), held(), held()]);
    let ran = world.run();
    assert_eq!(ran.starts(), ["other#1", "deploy#1"]);
    assert_eq!(ran.took, Duration::from_secs(3) + WORK);
    let awaited = ran.events(|kind| matches!(kind, EventKind::EnvironmentAwaited { .. }).then(String::new));
    assert_eq!(awaited.len(), 1);
}

#[test]
fn stage_waits_for_a_slot_after_its_environment_is_free() {
    let world = World::new(plan(vec![deploy("deploy", &[]), stage("a", &[]), stage("b", &[])]), Script::default());
    world.coordinator.claims.lock().unwrap().push_back(EnvironmentAnswer::Held { by: other() });
    let ran = World { jobs: 1, ..world }.run();
    assert_eq!(ran.conclusion(), Some(Outcome::Succeeded));
    assert_eq!(ran.seen.lock().unwrap().most_running, 1);
}

#[test]
fn older_run_is_superseded() {
    let world = World::new(plan(vec![deploy("deploy", &[]), stage("check", &[0])]), Script::default());
    world.coordinator.claims.lock().unwrap().push_back(EnvironmentAnswer::Superseded { by: other() });
    let ran = world.run();
    assert_eq!(ran.outcomes(), ["deploy errored", "check skipped"]);
    assert!(ran.reason("deploy").contains("run r0 is newer"), "{}", ran.reason("deploy"));
}

#[test]
fn cells_refused_together_end_once_each() {
    let on_production = |n| Stage { environment: deploy("", &[]).environment, ..cell("m", n, None) };
    let world = World::new(plan((0..3).map(on_production).collect()), Script::default());
    world.coordinator.claims.lock().unwrap().push_back(EnvironmentAnswer::Superseded { by: other() });
    let ran = world.run();
    assert_eq!(ran.outcomes(), ["m (n=0) errored", "m (n=1) cancelled", "m (n=2) cancelled"]);
}

#[test]
fn environment_is_released_at_gates_and_at_the_end() {
    let stages = vec![deploy("deploy", &[]), stage("approve", &[0]), deploy("promote", &[1]), stage("last", &[2])];
    let script = Script::of([("approve", vec![Act::Ask(gate())])]);
    let ran = World::new(plan(stages), script).answer(LATER, 1, answer(true, "ada")).run();
    // The second request overrides a freeze, because the run has already acted on the environment.
    assert_eq!(
        said(&ran),
        ["claim production", "release_environment production", "claim production!", "release_environment production"]
    );
    let promoted =
        ran.recorded.iter().filter(|event| matches!(event.kind, EventKind::AttemptStarted { fence: Some(2), .. }));
    assert_eq!(promoted.count(), 1);
}

#[test]
fn waiting_run_releases_unused_environments() {
    let mut staging = deploy("staging", &[]);
    staging.environment.as_mut().expect("an environment").name = "staging".to_owned();
    let stages = vec![
        staging.clone(),
        deploy("deploy", &[0]),
        Stage { name: "again".to_owned(), id: "again".to_owned(), needs: vec![StageIndex(1)], ..staging },
    ];
    let world = World::new(plan(stages), Script::default());
    world.coordinator.claims.lock().unwrap().extend([granted(1), EnvironmentAnswer::Held { by: other() }]);
    let ran = world.run();
    assert_eq!(
        said(&ran)[..4],
        ["claim staging", "claim production", "release_environment staging", "claim production"]
    );
    assert_eq!(ran.conclusion(), Some(Outcome::Succeeded));
}

#[test]
fn run_sends_heartbeats_while_it_holds_something() {
    let script = Script::of([("deploy", vec![Act::Hang])]);
    let cancel = RunCommand::Cancel { how: Interrupt::Graceful, reason: "Ctrl-C".to_owned() };
    let ran = World::new(plan(vec![deploy("deploy", &[])]), script).command(Duration::from_secs(21), cancel).run();
    assert_eq!(ran.coordinator.said.lock().unwrap().iter().filter(|said| *said == "beat").count(), 4);
}

#[test]
fn an_environment_with_approvers_asks_them_before_the_first_step() {
    let world = || World::new(plan_with(vec![deploy("deploy", &[])], &["team:release"], None), Script::default());
    let ran = world().answer(LATER, 0, answer(true, "eve")).answer(2 * LATER, 0, answer(true, "grace")).run();
    assert_eq!(gates(&ran), [GateKind::Environment]);
    assert_eq!(ran.took, 2 * LATER + WORK);
    assert_eq!(ran.starts(), ["deploy#1"]);
    let no = world().answer(LATER, 0, answer(false, "ada")).run();
    assert_eq!((no.conclusion(), no.starts().len()), (Some(Outcome::Rejected), 0));
    let cancel = RunCommand::Cancel { how: Interrupt::Graceful, reason: "Ctrl-C".to_owned() };
    assert_eq!(world().command(LATER, cancel).run().conclusion(), Some(Outcome::Cancelled));
}

/// A stage whose gate approves the given environments.
pub(crate) fn approval_of(environments: &[&str]) -> Stage {
    let mut approve = stage("approve", &[]);
    approve.with = templates(json!({ "environments": environments }));
    approve
}

#[test]
fn a_gate_approves_the_environments_that_it_names_and_no_others() {
    let gates_of = |environments: &[&str]| {
        let script = Script::of([("approve", vec![Act::Ask(gate())])]);
        let stages = vec![approval_of(environments), deploy("deploy", &[0])];
        let world = World::new(plan_with(stages, &["ada"], None), script);
        gates(&world.answer(LATER, 0, answer(true, "ada")).command(2 * LATER, RunCommand::Suspend).run())
    };
    assert_eq!(gates_of(&["staging", "production"]), [GateKind::Approval]);
    for others in [&[][..], &["staging"], &["Production"]] {
        assert_eq!(gates_of(others), [GateKind::Approval, GateKind::Environment], "{others:?}");
    }
}

/// The gate has other approvers than the environment.
#[test]
fn approval_requires_an_approver_of_the_environment() {
    let gates_of = |own: &[&str], by: &str| {
        let asked = Gate { approvers: own.iter().map(ToString::to_string).collect(), ..gate() };
        let script = Script::of([("approve", vec![Act::Ask(asked)])]);
        let stages = vec![approval_of(&["production"]), deploy("deploy", &[0])];
        let world = World::new(plan_with(stages, &["ada"], None), script);
        gates(&world.answer(LATER, 0, answer(true, by)).command(2 * LATER, RunCommand::Suspend).run())
    };
    assert_eq!(gates_of(&["eve"], "eve"), [GateKind::Approval, GateKind::Environment]);
    assert_eq!(gates_of(&["eve", "ada"], "ada"), [GateKind::Approval]);
}

#[test]
fn an_approval_upstream_counts_once_it_is_complete() {
    let stages = || vec![approval_of(&["production"]), deploy("deploy", &[0]), deploy("beside", &[])];
    let asked = Gate { approvals: 2, ..gate() };
    let world = || {
        let script = Script::of([("approve", vec![Act::Ask(asked.clone())])]);
        World::new(plan_with(stages(), &["ada", "grace"], None), script)
    };
    let ran = world()
        .answer(LATER, 0, answer(true, "ada"))
        .answer(2 * LATER, 0, answer(true, "grace"))
        .answer(3 * LATER, 2, answer(true, "grace"))
        .run();
    assert_eq!(gates(&ran), [GateKind::Environment, GateKind::Approval]);
    assert_eq!(ran.conclusion(), Some(Outcome::Succeeded));
    let half = world()
        .answer(LATER, 0, answer(true, "ada"))
        .answer(2 * LATER, 0, answer(false, "grace"))
        .command(3 * LATER, RunCommand::Suspend)
        .run();
    assert!(!half.starts().iter().any(|start| start.starts_with("beside")), "it has no approval");
}

#[test]
fn freeze_ends_and_keeps_the_approval() {
    let frozen = plan_with(vec![deploy("deploy", &[])], &["ada"], Some(0..500_000));
    let world = World::new(frozen, Script::default()).answer(LATER, 0, answer(true, "ada"));
    let ran = world.command(10 * LATER, RunCommand::Suspend).run();
    assert_eq!(gates(&ran), [GateKind::Environment, GateKind::Freeze]);
    assert_eq!(ran.took, Duration::from_secs(500) + WORK);
    assert_eq!(said(&ran), ["claim production", "release_environment production"]);
}

#[test]
fn an_approval_overrides_a_freeze_and_only_there() {
    let frozen = || plan_with(vec![deploy("deploy", &[])], &[], Some(0..500_000));
    let ran = World::new(frozen(), Script::default()).answer(LATER, 0, answer(true, "ada")).run();
    assert_eq!(ran.took, LATER + WORK);
    assert_eq!(said(&ran), ["claim production!", "release_environment production"]);
    let no = World::new(frozen(), Script::default()).answer(LATER, 0, answer(false, "ada")).run();
    assert_eq!(no.conclusion(), Some(Outcome::Rejected));
}

#[test]
fn a_freeze_by_hand_and_another_after_it_are_waited_for() {
    let world = World::new(plan(vec![deploy("deploy", &[])]), Script::default());
    let frozen = |until| EnvironmentAnswer::Frozen { until: Some(Timestamp(until)), reason: "incident".to_owned() };
    world.coordinator.claims.lock().unwrap().extend([
        EnvironmentAnswer::Held { by: other() },
        frozen(60_000),
        frozen(90_000),
    ]);
    let ran = world.command(10 * LATER, RunCommand::Suspend).run();
    assert_eq!(gates(&ran), [GateKind::Freeze, GateKind::Freeze]);
    assert_eq!(ran.took, Duration::from_secs(90) + WORK);
    let tokens = ran.events(|kind| match kind {
        EventKind::GateOpened { gate, .. } => Some(gate.token.clone()),
        _ => None,
    });
    assert_ne!(tokens[0], tokens[1]);
}

#[test]
fn run_suspends_at_a_freeze_and_checks_it_again_on_resume() {
    let world = World::new(plan(vec![deploy("deploy", &[])]), Script::default());
    let frozen = EnvironmentAnswer::Frozen { until: None, reason: "incident".to_owned() };
    world.coordinator.claims.lock().unwrap().extend([EnvironmentAnswer::Held { by: other() }, frozen]);
    let waiting = world.command(LATER, RunCommand::Suspend).run();
    assert_eq!(waiting.conclusion(), None);
    let again = World { past: waiting.recorded.clone(), ..World::new(waiting.plan.clone(), Script::default()) }.run();
    assert_eq!(again.starts(), ["deploy#1"]);
    again.state(&waiting.recorded);
}

/// An approval, then two deploys of which the second fails.
fn half_done(binding: &str) -> Ran {
    let mut staging = deploy("done", &[0]);
    staging.environment.as_mut().expect("an environment").name = "staging".to_owned();
    let stages = vec![approval_of(&["production"]), staging, deploy("failed", &[0])];
    let script = Script::of([
        ("approve", vec![Act::Ask(gate())]),
        ("done", vec![reach(Act::Succeed)]),
        ("failed", vec![reach(Act::Fail)]),
    ]);
    World { values: bound_to(binding), ..World::new(plan_with(stages, &["ada"], None), script) }
        .answer(LATER, 0, answer(true, "ada"))
        .run()
}

#[test]
fn lapsed_approval_is_asked_again_and_effects_are_not_repeated() {
    let before = half_done("one");
    assert_eq!(before.outcomes()[1..], ["done succeeded", "failed failed"]);
    let go_on = |binding| {
        let script = Script::of([("approve", vec![Act::Ask(Gate { token: "t2".to_owned(), ..gate() })])]);
        let world = World {
            past: before.recorded.clone(),
            values: bound_to(binding),
            ..World::new(before.plan.clone(), script)
        };
        world.answer(LATER, 0, answer(true, "ada")).run()
    };
    assert_eq!(go_on("one").starts(), ["failed#2"]);
    let asked_again = go_on("two");
    assert_eq!(asked_again.starts(), ["approve#2", "approve#2", "failed#2"]);
    assert_eq!(asked_again.conclusion(), Some(Outcome::Succeeded));
}

#[test]
fn lapsed_approval_does_not_repeat_a_deploy() {
    let stages = vec![deploy("deploy", &[]), stage("check", &[0])];
    let script = Script::of([("deploy", vec![reach(Act::Succeed)]), ("check", vec![Act::Fail])]);
    let before = World { values: bound_to("one"), ..World::new(plan_with(stages, &["ada"], None), script) }
        .answer(LATER, 0, answer(true, "ada"))
        .run();
    let again = World {
        past: before.recorded.clone(),
        values: bound_to("two"),
        ..World::new(before.plan.clone(), Script::default())
    }
    .run();
    assert_eq!(again.starts(), ["check#2"]);
}

#[test]
fn after_a_lapsed_approval_only_remaining_stages_ask_again() {
    let stages = vec![deploy("first", &[]), deploy("second", &[0])];
    let script = Script::of([("first", vec![reach(Act::Succeed)]), ("second", vec![reach(Act::Fail)])]);
    let before = World { values: bound_to("one"), ..World::new(plan_with(stages, &["ada"], None), script) }
        .answer(LATER, 0, answer(true, "ada"))
        .run();
    assert_eq!(before.outcomes(), ["first succeeded", "second failed"]);
    let resumed = |binding| {
        let world = World {
            past: before.recorded.clone(),
            values: bound_to(binding),
            ..World::new(before.plan.clone(), Script::default())
        };
        let ran = world.command(LATER, RunCommand::Suspend).run();
        (gates(&ran), ran.starts())
    };
    assert_eq!(resumed("one"), (Vec::new(), vec!["second#2".to_owned()]));
    assert_eq!(resumed("two"), (vec![GateKind::Environment], Vec::new()));
}

#[test]
fn recorded_answer_at_an_open_gate_lapses() {
    let plan = plan_with(vec![deploy("deploy", &[])], &["ada"], Some(0..500_000));
    let waiting = World { values: bound_to("one"), ..World::new(plan, Script::default()) }
        .answer(LATER, 0, answer(true, "ada"))
        .command(2 * LATER, RunCommand::Suspend)
        .run();
    assert_eq!(gates(&waiting), [GateKind::Environment, GateKind::Freeze]);
    let again = World {
        past: waiting.recorded.clone(),
        values: bound_to("two"),
        ..World::new(waiting.plan.clone(), Script::default())
    }
    .command(LATER, RunCommand::Suspend)
    .run();
    assert_eq!(gates(&again), [GateKind::Environment]);
}

#[test]
fn retry_has_a_new_fence() {
    let retry = Retry { max: 1, on: RetryCause::ALL.to_vec(), ..Retry::default() };
    let flaky = Stage { retry: retry.into(), ..deploy("deploy", &[]) };
    let script = Script::of([("deploy", vec![reach(Act::Fail), reach(Act::Succeed)])]);
    let ran = World::new(plan(vec![flaky]), script).run();
    assert_eq!(ran.effects(), ["deploy#1", "deploy#2"]);
    assert_eq!(ran.state(&[]).stages[0].fence, Some(2));
}

#[test]
fn releases_are_recorded_and_confirmed_when_all_that_needs_them_succeeded() {
    let stages = || vec![deploy("deploy", &[]), stage("one", &[0]), stage("two", &[0]), stage("later", &[1])];
    let script =
        |two| Script::of([("deploy", vec![Act::Deploy("app@1")]), ("two", vec![two]), ("later", vec![Act::Fail])]);
    let good = World::new(plan(stages()), script(Act::Succeed)).run();
    let state = good.state(&[]);
    assert_eq!(
        state.stages[0].release.as_ref().map(|release| (release.artifact.as_str(), release.fence)),
        Some(("app@1", 1))
    );
    assert!(state.stages[0].confirmed);
    let bad = World::new(plan(stages()), script(Act::Fail)).run();
    assert!(!bad.state(&[]).stages[0].confirmed);
    let again = World { past: bad.recorded.clone(), ..World::new(bad.plan.clone(), Script::default()) }.run();
    assert!(again.state(&bad.recorded).stages[0].confirmed);
}

#[test]
fn a_crash_between_the_last_proof_and_its_record_does_not_lose_the_confirmation() {
    let stages = vec![deploy("deploy", &[]), stage("check", &[0])];
    let whole = World::new(plan(stages), Script::of([("deploy", vec![Act::Deploy("app@1")])])).run();
    for cut in 1..whole.recorded.len() {
        let past: Vec<Event> = whole.recorded[..cut].to_vec();
        let script = Script::of([("deploy", vec![Act::Deploy("app@1")])]);
        let again = World { past: past.clone(), ..World::new(whole.plan.clone(), script) }.run();
        assert!(again.state(&past).stages[0].confirmed, "cut after {cut}");
    }
}

#[test]
fn stage_that_names_an_environment_is_bound_by_its_rules() {
    let local = PluginFacts { effect: EffectClass::Local, ..PluginFacts::default() };
    let values = || RunValues { plugins: vec![local.clone()], ..RunValues::default() };
    let guarded = plan_with(vec![deploy("deploy", &[])], &["ada"], None);
    let asked = World { values: values(), ..World::new(guarded, Script::default()) };
    let asked = asked.command(Duration::ZERO, RunCommand::Suspend).run();
    assert_eq!((asked.starts().len(), gates(&asked)), (0, vec![GateKind::Environment]));

    let frozen = plan_with(vec![deploy("deploy", &[])], &[], Some(0..500_000));
    let waits = World { values: values(), ..World::new(frozen, Script::default()) };
    assert_eq!(gates(&waits.command(Duration::ZERO, RunCommand::Suspend).run()), [GateKind::Freeze]);

    let ran = World { values: values(), ..World::new(plan(vec![deploy("deploy", &[])]), Script::default()) }.run();
    assert_eq!(said(&ran), ["claim production", "release_environment production"]);
}

#[test]
fn answer_for_an_unknown_stage_changes_nothing() {
    let decision = Decision { token: "x".to_owned(), ..answer(true, "ada") };
    let wish = RunCommand::Decide { stage: StageIndex(9), decision };
    let ran = World::new(plan(vec![stage("a", &[])]), Script::default()).command(Duration::ZERO, wish).run();
    assert_eq!(ran.conclusion(), Some(Outcome::Succeeded));
}

/// The stage passed a gate, was observed after a crash, and is at a gate with a new binding.
#[test]
fn approvals_are_void_after_the_binding_changed() {
    let mut state = RunState::new(vec!["deploy".to_owned()]);
    let gate = |token: &str, binding: &str| Gate {
        token: token.to_owned(),
        kind: GateKind::Environment,
        approvals: 1,
        binding: Some(binding.to_owned()),
        ..Gate::default()
    };
    let open = |token, binding| EventKind::GateOpened { stage: StageIndex(0), attempt: 1, gate: gate(token, binding) };
    let approve = |token: &str| EventKind::GateDecided {
        stage: StageIndex(0),
        decision: Decision { token: token.to_owned(), approved: true, ..Default::default() },
    };
    state.apply(&open("one", "then")).expect("a gate before the first attempt");
    state.apply(&approve("one")).expect("an answer");
    state.apply(&open("two", "then")).expect("a freeze after the approval");
    assert_eq!(state.stage(StageIndex(0)).approved_gates.len(), 1);
    state.apply(&approve("two")).expect("an answer");
    state.apply(&open("three", "now")).expect("a gate for what runs now");
    assert_eq!(state.stage(StageIndex(0)).approved_gates, []);
}

#[test]
fn own_gate_does_not_repeat_the_environment_approval() {
    let script = || Script::of([("deploy", vec![Act::Ask(gate())])]);
    let stages = || vec![deploy("deploy", &[]), deploy("second", &[0])];
    let ran = World::new(plan_with(stages(), &["ada"], None), script())
        .answer(LATER, 0, answer(true, "ada"))
        .answer(2 * LATER, 0, answer(true, "ada"))
        .command(3 * LATER, RunCommand::Suspend)
        .run();
    assert_eq!(gates(&ran), [GateKind::Environment, GateKind::Approval]);
    assert_eq!(ran.starts(), ["deploy#1", "deploy#1", "second#1"]);
}

/// The gate for `staging` is in a stage that acts on `production`. Ada approves production, and Grace answers the gate.
#[test]
fn an_approval_of_one_environment_does_not_count_for_another() {
    let gates_of = |by: &str| {
        let asked = Gate { approvers: vec!["ada".to_owned(), "grace".to_owned()], ..gate() };
        let mut first = deploy("first", &[]);
        first.with = templates(json!({ "environments": ["staging"] }));
        let mut second = deploy("second", &[0]);
        second.environment = Some(EnvironmentRef { name: "staging".to_owned(), url: None });
        let mut plan = Plan::clone(&plan_with(vec![first, second], &["ada"], None));
        let staging = Environment { approvers: vec!["ada".to_owned()], ..plan.environments["production"].clone() };
        plan.environments.insert("staging".to_owned(), staging);
        let world = World::new(plan.into(), Script::of([("first", vec![Act::Ask(asked)])]));
        let world = world.answer(LATER, 0, answer(true, "ada")).answer(2 * LATER, 0, answer(true, by));
        gates(&world.command(3 * LATER, RunCommand::Suspend).run())
    };
    assert_eq!(gates_of("ada"), [GateKind::Environment, GateKind::Approval]);
    assert_eq!(gates_of("grace"), [GateKind::Environment, GateKind::Approval, GateKind::Environment]);
}
