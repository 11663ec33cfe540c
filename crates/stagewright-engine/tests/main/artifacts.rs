//! Published artifacts are recorded, for every call and every outcome.

use std::sync::Arc;
use std::time::Duration;

use stagewright_engine::{EventKind, Finding, Outcome, RunState};
use stagewright_model::{Retry, Stage, StageIndex};

use crate::fake::{Act, Ran, Script, World, artifact, found, reach};
use crate::gates::{answer, gate};
use crate::plans::{deploy, plan, stage};

fn publish(names: &'static [&'static str], then: Act) -> Act {
    Act::Publish(names, Box::new(then))
}

/// The events of published artifacts and of the ends of calls, in order.
fn recorded(ran: &Ran) -> Vec<String> {
    ran.events(|kind| match kind {
        EventKind::ArtifactPublished { stage, attempt, artifact: published } => {
            assert_eq!(*published, artifact(&published.name), "the whole artifact is recorded");
            Some(format!("{}#{attempt} {}", stage.0, published.name))
        }
        EventKind::AttemptEnded { stage, attempt, outcome, .. } => {
            Some(format!("{}#{attempt} {}", stage.0, outcome.as_str()))
        }
        EventKind::GateOpened { stage, attempt, .. } => Some(format!("{}#{attempt} waits", stage.0)),
        EventKind::Recovered { stage, attempt, .. } => Some(format!("{}#{attempt} recovered", stage.0)),
        EventKind::UndoEnded { stage, attempt, .. } => Some(format!("{}#{attempt} undone", stage.0)),
        _ => None,
    })
}

#[test]
fn artifacts_of_failed_attempts_are_recorded_before_the_end() {
    let build = Stage { retry: Arc::new(Retry { max: 1, ..Retry::default() }), ..stage("build", &[]) };
    let acts = vec![publish(&["log", "report"], Act::Fail), publish(&["app"], Act::Succeed)];
    let ran = World::new(plan(vec![build]), Script::of([("build", acts)])).run();
    assert_eq!(recorded(&ran), ["0#1 log", "0#1 report", "0#1 failed", "0#2 app", "0#2 succeeded"]);
    assert_eq!(ran.conclusion(), Some(Outcome::Succeeded));
}

#[test]
fn artifacts_are_recorded_before_a_gate() {
    let script = Script::of([("approve", vec![publish(&["notes"], Act::Ask(gate()))])]);
    let ran = World::new(plan(vec![stage("approve", &[])]), script);
    let ran = ran.answer(Duration::from_secs(100), 0, answer(true, "ada")).run();
    assert_eq!(recorded(&ran), ["0#1 notes", "0#1 waits", "0#1 succeeded"]);
}

#[test]
fn artifacts_of_undo_and_observe_are_recorded() {
    let check = Stage { compensate: vec![StageIndex(0)], ..stage("check", &[0]) };
    let stages = vec![deploy("deploy", &[]), check];
    let script = Script::of([
        ("deploy", vec![reach(Act::Succeed)]),
        ("observe deploy", vec![publish(&["state"], found(Finding::Applied("v1".to_owned())))]),
        ("check", vec![Act::Fail]),
        ("undo deploy", vec![publish(&["trace"], Act::Succeed)]),
    ]);
    let before = World::new(plan(stages), script.clone()).run();
    let intent = before.recorded.iter().position(|event| matches!(event.kind, EventKind::EffectIntended { .. }));
    let past = before.recorded[..=intent.expect("an intent")].to_vec();
    let ran = World { past, ..World::new(before.plan.clone(), script) }.run();
    let recorded = recorded(&ran);
    let expected = ["0#1 lost", "0#1 state", "0#1 recovered", "1#1 failed", "0#1 trace", "0#1 undone"];
    assert_eq!(recorded, expected);
}

#[test]
fn a_stage_that_does_not_run_publishes_nothing() {
    let ran = World::new(plan(vec![stage("build", &[])]), Script::default()).run();
    let mut state = RunState::new(vec!["build".to_owned()]);
    let published = |attempt| EventKind::ArtifactPublished { stage: StageIndex(0), attempt, artifact: artifact("app") };
    for event in &ran.recorded {
        let is_running = matches!(event.kind, EventKind::AttemptEnded { .. });
        assert_eq!(state.clone().apply(&published(1)).is_ok(), is_running, "before {event:?}");
        assert!(state.clone().apply(&published(2)).is_err(), "before {event:?}");
        state.apply(&event.kind).unwrap();
    }
    assert!(state.apply(&published(1)).is_err(), "after the end");
}
