//! Resumed runs: the journal is folded, and only the missing stages run.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use stagewright_engine::{
    EffectClass, Event, EventKind, Finding, Outcome, PluginFacts, RunCommand, RunId, RunState, RunValues, UndoState,
};
use stagewright_model::{Retry, Stage, StageIndex};

use crate::environments::approval_of;
use crate::fake::{Act, FakeStore, Ran, Script, World, found, reach};
use crate::gates::{answer, gate};
use crate::plans::{deploy, finally, plan, plan_with, stage, stage_if, templates};

fn resumed(before: &Ran, past: Vec<Event>, script: Script) -> Ran {
    World { past, store: FakeStore::default(), ..World::new(before.plan.clone(), script) }.run()
}

#[test]
fn succeeded_stages_do_not_run_again() {
    let stages = vec![stage("a", &[]), stage("b", &[0]), stage("c", &[1]), finally("clean")];
    let failed = World::new(plan(stages), Script::of([("b", vec![Act::Fail])])).run();
    assert_eq!(failed.outcomes(), ["a succeeded", "b failed", "c skipped", "clean succeeded"]);
    let ran = resumed(&failed, failed.recorded.clone(), Script::default());
    assert_eq!(ran.conclusion(), Some(Outcome::Succeeded));
    assert_eq!(ran.starts(), ["b#2", "c#1"]);
}

#[test]
fn run_can_be_resumed_after_any_event() {
    let stages = vec![stage("a", &[]), stage("b", &[0]), stage("c", &[0]), stage("d", &[1, 2]), finally("clean")];
    let script = || Script::of([("b", vec![Act::Fail, Act::Succeed])]);
    let whole = World::new(plan(stages), script()).run();
    for cut in 1..=whole.recorded.len() {
        let ran = resumed(&whole, whole.recorded[..cut].to_vec(), Script::default());
        assert_eq!(ran.conclusion(), Some(Outcome::Succeeded), "cut after {cut}");
        let mut state = RunState::new(whole.plan.stages.iter().map(|stage| stage.id.clone()).collect());
        let all = whole.recorded[..cut].iter().chain(&ran.recorded);
        for (seq, event) in all.enumerate() {
            assert_eq!(event.seq, seq as u64);
            state.apply(&event.kind).expect("one sound journal");
        }
    }
}

#[test]
fn running_attempt_is_lost_and_the_next_has_a_new_number() {
    let whole = World::new(plan(vec![stage("a", &[])]), Script::default()).run();
    let started = whole.recorded.iter().position(|event| matches!(event.kind, EventKind::AttemptStarted { .. }));
    let ran = resumed(&whole, whole.recorded[..=started.unwrap()].to_vec(), Script::default());
    let lost =
        |event: &&Event| matches!(event.kind, EventKind::AttemptEnded { attempt: 1, outcome: Outcome::Lost, .. });
    assert_eq!(ran.recorded.iter().filter(lost).count(), 1);
    assert_eq!(ran.starts(), ["a#2"]);
}

#[test]
fn a_gate_stays_open_across_a_restart() {
    let stages = vec![stage("approve", &[]), stage("deploy", &[0])];
    let waiting = World::new(plan(stages), Script::of([("approve", vec![Act::Ask(gate())])]))
        .command(Duration::ZERO, RunCommand::Suspend)
        .run();
    let decision = answer(true, "ada");
    let wish = RunCommand::Decide { stage: StageIndex(0), decision };
    let again = World { past: waiting.recorded.clone(), ..World::new(waiting.plan.clone(), Script::default()) }
        .command(Duration::from_secs(1), wish)
        .run();
    assert_eq!(again.starts(), ["approve#1", "deploy#1"]);
    assert_eq!(again.conclusion(), Some(Outcome::Succeeded));
}

#[test]
fn left_out_stages_stay_left_out() {
    let stages = vec![stage("approve", &[]), stage("deploy", &[0]), stage("check", &[1])];
    let left_out = BTreeMap::from([(StageIndex(2), "left out".to_owned())]);
    let values = RunValues { left_out, ..Default::default() };
    let script = Script::of([("approve", vec![Act::Ask(gate())])]);
    let waiting =
        World { values, ..World::new(plan(stages), script) }.command(Duration::ZERO, RunCommand::Suspend).run();
    let decision = answer(true, "ada");
    let wish = RunCommand::Decide { stage: StageIndex(0), decision };
    let again = World { past: waiting.recorded.clone(), ..World::new(waiting.plan.clone(), Script::default()) }
        .command(Duration::from_secs(1), wish)
        .run();
    assert_eq!(again.starts(), ["approve#1", "deploy#1"]);
    assert_eq!(again.conclusion(), Some(Outcome::Succeeded));
}

/// A run with everything: an approval, a freeze, two deploys of which one is retried, and a failure that compensates
/// for them.
fn everything() -> (Vec<Stage>, fn() -> Script) {
    let mut retried = deploy("second", &[1]);
    retried.retry = Retry { max: 1, ..Retry::default() }.into();
    let check = Stage { compensate: vec![StageIndex(1), StageIndex(2)], ..stage("check", &[2]) };
    let script = || {
        Script::of([
            ("approve", vec![Act::Ask(gate())]),
            ("first", vec![reach(Act::Succeed)]),
            ("second", vec![reach(Act::TimeOut), Act::Deploy("app@1")]),
            ("check", vec![Act::Fail]),
            ("undo first", vec![reach(Act::Succeed)]),
            ("undo second", vec![reach(Act::Succeed)]),
        ])
    };
    (vec![approval_of(&["production"]), deploy("first", &[0]), retried, check, finally("clean")], script)
}

/// The state of the target according to a journal: whether the stage may have had an effect, and whether that is
/// certain.
fn intended(past: &[Event], stage: StageIndex) -> (bool, bool) {
    let mut there = (false, true);
    for event in past {
        match &event.kind {
            EventKind::EffectIntended { stage: of, .. } if *of == stage => there = (true, false),
            EventKind::AttemptEnded { stage: of, outcome, .. } if *of == stage => {
                there.1 = there.1 || matches!(outcome, Outcome::Succeeded | Outcome::Failed);
            }
            EventKind::Recovered { stage: of, finding: Finding::NotStarted, .. } if *of == stage => {
                there = (false, true);
            }
            EventKind::UndoStarted { stage: of, .. } if *of == stage => there = (true, false),
            EventKind::UndoEnded { stage: of, outcome: Outcome::Succeeded, .. } if *of == stage => {
                there = (false, true);
            }
            _ => {}
        }
    }
    there
}

#[test]
fn resuming_after_any_event_repeats_no_effect() {
    let (stages, script) = everything();
    let plan = plan_with(stages, &["ada"], Some(0..150_000));
    let whole = World::new(plan, script())
        .answer(Duration::from_secs(100), 0, answer(true, "ada"))
        .command(Duration::from_secs(10_000), RunCommand::Suspend)
        .run();
    assert_eq!(whole.effects(), ["first#1", "second#1", "second#2", "undo second#2", "undo first#1"]);
    for cut in 1..=whole.recorded.len() {
        for applied in [true, false] {
            let past = whole.recorded[..cut].to_vec();
            let mut acts = script();
            acts.add("check", vec![Act::Succeed]);
            acts.add("second", vec![Act::Deploy("app@1")]);
            let finding = if applied { Finding::Applied("there".to_owned()) } else { Finding::NotStarted };
            for stage in ["observe first", "observe second"] {
                acts.add(stage, vec![found(finding.clone())]);
            }
            let ran = World { past: past.clone(), ..World::new(whole.plan.clone(), acts) }
                .answer(Duration::from_secs(1), 0, answer(true, "ada"))
                .answer(Duration::from_secs(200), 0, answer(true, "ada"))
                .answer(Duration::from_secs(201), 1, answer(true, "ada"))
                .answer(Duration::from_secs(202), 2, answer(true, "ada"))
                .command(Duration::from_secs(10_000), RunCommand::Suspend)
                .run();
            assert_eq!(ran.conclusion(), Some(Outcome::Succeeded), "cut after {cut}, {applied}");
            ran.state(&past);
            for (index, name) in [(1, "first"), (2, "second")] {
                let again = ran.effects().iter().filter(|effect| effect.starts_with(name)).count();
                let (there, certain) = intended(&past, StageIndex(index));
                let expected = if there && (certain || applied) { 0 } else { 1 };
                assert_eq!(again, expected, "{name} after {cut}, {applied}");
            }
        }
    }
}

#[test]
fn named_stages_run_again_with_their_dependents() {
    let stages = vec![stage("a", &[]), stage("b", &[0]), stage("c", &[1]), stage("other", &[])];
    let whole = World::new(plan(stages), Script::default()).run();
    let again = World {
        past: whole.recorded.clone(),
        from: vec![StageIndex(1)],
        ..World::new(whole.plan.clone(), Script::default())
    }
    .run();
    assert_eq!(again.starts(), ["b#2", "c#2"]);
}

#[test]
fn left_out_stages_do_not_run_with_named_ones() {
    let stages = vec![stage("a", &[]), stage("out", &[0]), stage("c", &[1])];
    let values =
        RunValues { left_out: BTreeMap::from([(StageIndex(1), "left out".to_owned())]), ..RunValues::default() };
    let whole = World { values, ..World::new(plan(stages), Script::default()) }.run();
    let again = World {
        past: whole.recorded.clone(),
        from: vec![StageIndex(0)],
        ..World::new(whole.plan.clone(), Script::default())
    };
    assert_eq!(again.run().starts(), ["a#2"]);
}

#[test]
fn outputs_of_what_is_left_out_are_inherited_across_a_restart() {
    let mut second = stage("second", &[0]);
    second.with = templates(json!({ "image": "${{ stages.first.outputs.image }}" }));
    let outputs = BTreeMap::from([("image".to_owned(), json!("local/app"))]);
    let values = RunValues {
        left_out: BTreeMap::from([(StageIndex(0), "run r0 has it".to_owned())]),
        inherited: BTreeMap::from([(StageIndex(0), (RunId("r0".to_owned()), outputs))]),
        ..RunValues::default()
    };
    let ran = World { values, ..World::new(plan(vec![stage("first", &[]), second]), Script::default()) }.run();
    assert_eq!(ran.seen.lock().unwrap().requests[0].config, json!({ "image": "local/app" }));
    let cut = ran.recorded.iter().position(|event| matches!(event.kind, EventKind::AttemptStarted { .. })).unwrap();
    let again = resumed(&ran, ran.recorded[..=cut].to_vec(), Script::default());
    assert_eq!(again.seen.lock().unwrap().requests[0].config, json!({ "image": "local/app" }));
}

#[test]
fn events_that_are_not_durable_can_be_repeated() {
    let local = PluginFacts { effect: EffectClass::Local, ..PluginFacts::default() };
    let external = PluginFacts::default();
    let values = || RunValues {
        plugins: vec![local.clone(), external.clone(), local.clone(), external.clone()],
        ..RunValues::default()
    };
    let stages = vec![stage("a", &[]), deploy("b", &[0]), stage("c", &[1]), deploy("d", &[2])];
    let script = || Script::of([("b", vec![reach(Act::Succeed)]), ("d", vec![reach(Act::Succeed)])]);
    let store = FakeStore::default();
    let whole = World { values: values(), store: store.clone(), ..World::new(plan(stages), script()) }.run();
    let durable = store.durable.lock().unwrap().clone();
    for cut in 1..=durable.len() {
        let lost = durable[cut..].iter().all(|(_, durable)| !durable);
        let past = whole.recorded[..cut].to_vec();
        let mut acts = script();
        acts.add("observe b", vec![found(Finding::Applied(String::new()))]);
        acts.add("observe d", vec![found(Finding::Applied(String::new()))]);
        let again = World { values: values(), past: past.clone(), ..World::new(whole.plan.clone(), acts) }.run();
        assert_eq!(again.conclusion(), Some(Outcome::Succeeded));
        for event in &whole.recorded[cut..] {
            let reaches_out = matches!(event.kind, EventKind::EffectIntended { .. } | EventKind::UndoStarted { .. });
            assert!(!(lost && reaches_out), "{event:?} could be lost with the machine");
        }
        assert!(
            again
                .state(&past)
                .stages
                .iter()
                .all(|stage| stage.undo == UndoState::NotStarted && stage.unresolved_attempt.is_none())
        );
    }
}

#[test]
fn gate_after_a_failure_asks_again_if_the_failed_stage_runs_again() {
    let stages = vec![stage("a", &[]), stage_if("repair", &[0], "failure()"), finally("clean")];
    let script = Script::of([("a", vec![Act::Fail]), ("repair", vec![Act::Ask(gate())])]);
    let waiting = World::new(plan(stages), script).command(Duration::ZERO, RunCommand::Suspend).run();
    assert_eq!(waiting.conclusion(), None);
    let again = World { past: waiting.recorded.clone(), ..World::new(waiting.plan.clone(), Script::default()) }
        .answer(Duration::from_millis(1), 1, answer(true, "ada"))
        .run();
    assert_eq!(again.starts(), ["a#2", "clean#1"]);
    assert_eq!(again.conclusion(), Some(Outcome::Succeeded));
}
