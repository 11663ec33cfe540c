//! Compensation for earlier stages when a later one fails.

use std::time::Duration;

use stagewright_engine::{
    EnvironmentAnswer, EventKind, Finding, Interrupt, Outcome, Release, ReleaseOrigin, RunCommand, RunId, UndoState,
};
use stagewright_model::{Stage, StageIndex};

use crate::fake::{Act, Ran, Script, World, found, granted, reach};
use crate::plans::{deploy, finally, plan, stage};

fn stages() -> Vec<Stage> {
    let check = Stage { compensate: vec![StageIndex(0), StageIndex(1)], ..stage("check", &[1]) };
    vec![deploy("first", &[]), deploy("second", &[0]), check, finally("clean")]
}

fn script(check: Act, undo: Act) -> Script {
    Script::of([
        ("first", vec![reach(Act::Succeed)]),
        ("second", vec![Act::Deploy("app@2")]),
        ("check", vec![check]),
        ("undo first", vec![reach(undo.clone())]),
        ("undo second", vec![reach(undo)]),
    ])
}

fn cancel(how: Interrupt) -> RunCommand {
    RunCommand::Cancel { how, reason: "Ctrl-C".to_owned() }
}

fn undone(ran: &Ran) -> Vec<String> {
    ran.events(|kind| match kind {
        EventKind::UndoEnded { stage, outcome, .. } => Some(format!("{} {}", stage.0, outcome.as_str())),
        _ => None,
    })
}

#[test]
fn compensation_runs_in_reverse_order_before_finally_stages() {
    let ran = World::new(plan(stages()), script(Act::Fail, Act::Succeed)).run();
    assert_eq!(ran.starts(), ["first#1", "second#1", "check#1", "undo second#1", "undo first#1", "clean#1"]);
    assert_eq!(ran.effects(), ["first#1", "second#1", "undo second#1", "undo first#1"]);
    assert_eq!(ran.conclusion(), Some(Outcome::Failed));
    let state = ran.state(&[]);
    assert_eq!(state.stages[1].release, None);
    assert_eq!(
        (state.stages[0].undo, state.stages[0].unresolved_attempt),
        (UndoState::Ended(Outcome::Succeeded), None)
    );
}

#[test]
fn each_undo_has_a_new_fence() {
    let ran = World::new(plan(stages()), script(Act::Fail, Act::Succeed)).run();
    let fences = ran.events(|kind| match kind {
        EventKind::AttemptStarted { fence: Some(fence), .. } | EventKind::UndoStarted { fence: Some(fence), .. } => {
            Some(fence.to_string())
        }
        _ => None,
    });
    assert_eq!(fences, ["1", "2", "3", "4"]);
    assert_eq!(ran.state(&[]).stages[0].fence, Some(4));
}

#[test]
fn nothing_is_compensated_without_a_failure() {
    assert_eq!(undone(&World::new(plan(stages()), script(Act::Succeed, Act::Succeed)).run()), [""; 0]);
    assert_eq!(undone(&World::new(plan(stages()), script(Act::Skip("no"), Act::Succeed)).run()), [""; 0]);
    let cancelled = World::new(plan(stages()), script(Act::Hang, Act::Succeed))
        .command(Duration::from_secs(9), cancel(Interrupt::Graceful));
    assert_eq!(undone(&cancelled.run()), [""; 0]);
}

#[test]
fn nothing_is_compensated_twice() {
    let mut stages = stages();
    let other = Stage { compensate: vec![StageIndex(1)], ..stage("other", &[1]) };
    stages.insert(3, other);
    let mut acts = script(Act::Fail, Act::Succeed);
    acts.add("other", vec![Act::Fail]);
    assert_eq!(undone(&World::new(plan(stages), acts).run()), ["1 succeeded", "0 succeeded"]);
}

#[test]
fn failed_undo_does_not_stop_other_compensations() {
    let ran = World::new(plan(stages()), script(Act::Fail, Act::Fail)).run();
    assert_eq!(undone(&ran), ["1 failed", "0 failed"]);
    assert_eq!(ran.outcomes()[3], "clean succeeded");
}

#[test]
fn graceful_cancel_lets_an_undo_finish_and_kill_does_not() {
    let at = Duration::from_millis(3_500);
    let graceful = World::new(plan(stages()), script(Act::Fail, Act::Succeed)).command(at, cancel(Interrupt::Graceful));
    assert_eq!(undone(&graceful.run()), ["1 succeeded", "0 succeeded"]);
    let killed =
        World::new(plan(stages()), script(Act::Fail, Act::IgnoreGraceful)).command(at, cancel(Interrupt::Kill)).run();
    assert_eq!(undone(&killed), ["1 cancelled", "0 cancelled"]);
    assert_eq!(killed.took, at);
    // On resume, the interrupted compensation is observed. The one that hadn't started leaves its effect in place.
    let acts =
        Script::of([("observe second", vec![found(Finding::NotStarted)]), ("second", vec![reach(Act::Succeed)])]);
    let again = World { past: killed.recorded.clone(), ..World::new(killed.plan.clone(), acts) }.run();
    assert_eq!(again.starts(), ["observe second#1", "second#2", "check#2", "clean#1"]);
}

#[test]
fn interrupted_compensation_ends_fully_undone_or_in_place() {
    let whole = World::new(plan(stages()), script(Act::Fail, Act::Succeed)).run();
    let from = whole.recorded.iter().position(|event| matches!(event.kind, EventKind::UndoStarted { .. })).unwrap();
    for cut in from..=whole.recorded.len() {
        let past = whole.recorded[..cut].to_vec();
        let again =
            World { past: past.clone(), ..World::new(whole.plan.clone(), script(Act::Succeed, Act::Succeed)) }.run();
        assert_eq!(again.conclusion(), Some(Outcome::Succeeded), "cut after {cut}");
        let state = again.state(&past);
        for stage in 0..2u32 {
            let began = past
                .iter()
                .any(|event| matches!(event.kind, EventKind::UndoStarted { stage: of, .. } if of.0 == stage));
            assert_eq!(state.stages[stage as usize].attempts, if began { 2 } else { 1 }, "cut after {cut}");
        }
        let again =
            World { past: past.clone(), ..World::new(whole.plan.clone(), script(Act::Fail, Act::Succeed)) }.run();
        let state = again.state(&past);
        assert!(
            state.stages[..2].iter().all(|stage| stage.undo == UndoState::Ended(Outcome::Succeeded)),
            "cut after {cut}"
        );
    }
}

#[test]
fn undo_restores_the_last_known_good_release() {
    let good = Release {
        parts: Default::default(),
        environment: "production".to_owned(),
        artifact: "app@1".to_owned(),
        url: None,
        fence: 1,
        config: serde_json::json!({ "size": 3 }),
        commit: String::new(),
        by: String::new(),
        origin: ReleaseOrigin::Deploy,
    };
    let granted = |fence| EnvironmentAnswer::Granted {
        standing: None,
        fence,
        current: None,
        last_known_good: Some(good.clone()),
        restored: None,
    };
    let mut acts = script(Act::Fail, Act::Succeed);
    acts.add("undo second", vec![Act::Deploy("app@1")]);
    let world = World::new(plan(stages()), acts);
    world.coordinator.claims.lock().unwrap().extend((11..=14).map(granted));
    let ran = world.run();
    let release = ran.state(&[]).stages[1].release.clone().unwrap();
    assert_eq!((release.origin, release.fence, release.config), (ReleaseOrigin::Undo, 13, good.config));
    assert!(ran.state(&[]).stages[1].confirmed);
}

#[test]
fn undo_waits_for_the_environment_and_yields_to_a_newer_run() {
    let by = RunId("r0".to_owned());
    let world = World::new(plan(stages()), script(Act::Fail, Act::Succeed));
    let held = EnvironmentAnswer::Held { by: by.clone() };
    let superseded = EnvironmentAnswer::Superseded { by };
    world.coordinator.claims.lock().unwrap().extend([
        granted(1),
        granted(2),
        held.clone(),
        held,
        granted(3),
        superseded,
    ]);
    let ran = world.run();
    assert_eq!(undone(&ran), ["1 succeeded", "0 errored"]);
    assert_eq!(ran.outcomes()[3], "clean succeeded");
    let awaited = ran.events(|kind| matches!(kind, EventKind::EnvironmentAwaited { .. }).then(String::new));
    assert_eq!(awaited.len(), 1, "recorded once");
}

#[test]
fn undo_uses_a_slot() {
    let stages = vec![
        deploy("first", &[]),
        Stage { compensate: vec![StageIndex(0)], ..stage("check", &[0]) },
        stage("long", &[0]),
        stage("longer", &[0]),
    ];
    let acts = Script::of([("first", vec![reach(Act::Succeed)]), ("check", vec![Act::Fail])]);
    let ran = World { jobs: 2, ..World::new(plan(stages), acts) }.run();
    assert_eq!(ran.seen.lock().unwrap().most_running, 2);
    assert_eq!(undone(&ran), ["0 succeeded"]);
}
