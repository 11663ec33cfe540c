//! Concurrency groups: when a run enters, waits and leaves.

use std::time::Duration;

use stagewright_engine::{EventKind, Gate, GroupAnswer, Interrupt, Outcome, RunCommand, RunId, Timestamp};
use stagewright_model::{Stage, StageIndex};

use crate::fake::{Act, Ran, Script, WORK, World};
use crate::gates::{answer, gate};
use crate::plans::{cell, finally, grouped, stage};

const LATER: Duration = Duration::from_secs(100);

fn world(hold_at_gates: bool) -> World {
    let stages = vec![stage("a", &[]), stage("approve", &[0]), stage("b", &[1])];
    World::new(grouped(stages, hold_at_gates), Script::of([("approve", vec![Act::Ask(gate())])]))
}

fn waiting() -> GroupAnswer {
    GroupAnswer::Waiting { holder: RunId("r0".to_owned()) }
}

/// Group events and starts, in order.
fn story(ran: &Ran) -> Vec<String> {
    ran.events(|kind| match kind {
        EventKind::GroupAwaited { .. } => Some("awaited".to_owned()),
        EventKind::GroupJoined { .. } => Some("joined".to_owned()),
        EventKind::GroupLeft { .. } => Some("left".to_owned()),
        EventKind::AttemptStarted { stage, .. } => Some(stage.0.to_string()),
        _ => None,
    })
}

fn said(ran: &Ran) -> Vec<String> {
    let said = ran.coordinator.said.lock().expect("a lock");
    said.iter().filter(|said| *said != "beat").cloned().collect()
}

#[test]
fn run_enters_its_group_before_the_first_stage_and_leaves_at_gates() {
    let ran = world(false).answer(LATER, 1, answer(true, "ada")).run();
    assert_eq!(story(&ran), ["joined", "0", "1", "left", "joined", "1", "2"]);
    assert_eq!(said(&ran), ["join g", "leave g", "join g", "leave g"]);
}

#[test]
fn run_with_hold_at_gates_keeps_its_group() {
    let ran = world(true).answer(LATER, 1, answer(true, "ada")).run();
    assert_eq!(story(&ran), ["joined", "0", "1", "1", "2"]);
    assert_eq!(said(&ran), ["join g", "leave g"]);
    assert!(
        ran.coordinator.said.lock().unwrap().iter().filter(|said| *said == "beat").count() >= 19,
        "it sends heartbeats"
    );
}

#[test]
fn waiting_for_a_group_is_recorded_once() {
    let world = world(false);
    world.coordinator.joins.lock().unwrap().extend([waiting(), waiting(), waiting()]);
    let ran = world.answer(LATER, 1, answer(true, "ada")).run();
    assert_eq!(story(&ran)[..3], ["awaited", "joined", "0"]);
    assert_eq!(said(&ran)[..5], ["join g", "join g", "join g", "join g", "leave g"]);
}

#[test]
fn cancelled_run_leaves_the_group_queue() {
    let world = World::new(grouped(vec![stage("a", &[]), finally("clean")], false), Script::default());
    world.coordinator.joins.lock().unwrap().extend((0..9).map(|_| waiting()));
    let cancel = RunCommand::Cancel { how: Interrupt::Graceful, reason: "replaced".to_owned() };
    let ran = world.command(Duration::from_millis(2_500), cancel).run();
    assert_eq!(ran.outcomes(), ["a cancelled", "clean succeeded"]);
    assert_eq!(ran.took, Duration::from_millis(2_500) + WORK);
    assert_eq!(said(&ran), ["join g", "join g", "join g", "leave g"]);
}

#[test]
fn run_that_needs_its_group_no_longer_leaves_the_queue() {
    let expiring = Gate { expires: Some(Timestamp(60_000)), ..gate() };
    let stages = vec![cell("cell", 1, None), cell("cell", 2, None), stage("other", &[])];
    let script = Script::of([
        ("cell (n=1)", vec![Act::Ask(expiring)]),
        ("cell (n=2)", vec![Act::Ask(Gate { token: "t2".to_owned(), ..gate() })]),
        ("other", vec![Act::Ask(gate())]),
    ]);
    let world = World::new(grouped(stages, false), script);
    let granted = GroupAnswer::Granted { replaced: Vec::new() };
    world.coordinator.joins.lock().unwrap().extend([granted].into_iter().chain((0..99).map(|_| waiting())));
    // While the approved cell waits for the group, its sibling times out, and the matrix is fail-fast.
    let ran = world.answer(Duration::from_secs(58), 1, answer(true, "ada")).command(LATER, RunCommand::Suspend).run();
    assert_eq!(ran.outcomes(), ["cell (n=1) timed-out", "cell (n=2) cancelled", "other open"]);
    let said = said(&ran);
    assert_eq!(
        (said[..3].join(", "), said[said.len() - 1].as_str()),
        ("join g, leave g, join g".to_owned(), "leave g")
    );
}

#[test]
fn resumed_run_enters_its_group_again() {
    let suspended = world(true).command(Duration::ZERO, RunCommand::Suspend).run();
    assert_eq!(suspended.conclusion(), None);
    let again = World { past: suspended.recorded.clone(), ..World::new(suspended.plan.clone(), Script::default()) }
        .answer(LATER, 1, answer(true, "ada"))
        .run();
    assert_eq!(story(&again), ["joined", "1", "2"]);
    assert_eq!(again.conclusion(), Some(Outcome::Succeeded));
}

#[test]
fn compensation_waits_for_the_group() {
    let expiring = Gate { expires: Some(Timestamp(60_000)), ..gate() };
    let check = Stage { compensate: vec![StageIndex(0)], ..stage("check", &[0]) };
    let script = Script::of([("check", vec![Act::Ask(expiring)])]);
    let world = World::new(grouped(vec![stage("a", &[]), check], false), script);
    world.coordinator.joins.lock().unwrap().extend([GroupAnswer::Granted { replaced: Vec::new() }, waiting()]);
    let ran = world.command(LATER, RunCommand::Suspend).run();
    assert_eq!(story(&ran), ["joined", "0", "1", "left", "awaited", "joined"]);
    assert_eq!(ran.starts(), ["a#1", "check#1", "undo a#1"]);
    assert_eq!(ran.took, Duration::from_secs(61) + WORK);
}
