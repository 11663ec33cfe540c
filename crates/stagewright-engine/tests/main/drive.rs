//! The loop: recording, logs, cancellation, and failing ports.

use std::time::Duration;

use stagewright_engine::{DriveError, EventKind, Interrupt, Outcome, RunCommand};
use stagewright_model::{Expression, Stage};

use crate::fake::{Act, FakeStore, Script, WORK, World};
use crate::plans::{deploy, finally, plan, plan_with, stage};

fn cancel(how: Interrupt) -> RunCommand {
    RunCommand::Cancel { how, reason: "Ctrl-C".to_owned() }
}

#[test]
fn every_start_is_durable_before_the_attempt() {
    let store = FakeStore::default();
    let world =
        World { store: store.clone(), ..World::new(plan(vec![stage("a", &[]), stage("b", &[0])]), Script::default()) };
    let ran = world.run();
    assert_eq!(ran.conclusion(), Some(Outcome::Succeeded));
    let durable = store.durable.lock().unwrap();
    for event in ran.recorded.iter().filter(|event| event.kind.is_intent()) {
        assert!(durable.contains(&(event.seq, true)), "{event:?}");
    }
    let seqs = ran.recorded.iter().map(|event| event.seq).collect::<Vec<_>>();
    assert_eq!(seqs, (0..seqs.len() as u64).collect::<Vec<_>>());
}

#[test]
fn a_store_that_fails_stops_the_run_and_its_attempts() {
    let store = FakeStore { full_from: Some(4), ..FakeStore::default() };
    let stages = vec![stage("hangs", &[]), stage("ends", &[]), stage("never", &[1])];
    let script = Script::of([("hangs", vec![Act::IgnoreGraceful])]);
    let ran = World { store, ..World::new(plan(stages), script) }.run();
    assert!(matches!(ran.result, Err(DriveError::Store(_))), "{:?}", ran.result);
    assert_eq!(ran.starts(), ["hangs#1", "ends#1"]);
    assert_eq!(ran.seen.lock().unwrap().running, 0);
}

#[test]
fn log_of_an_attempt_is_sealed_before_its_end() {
    let script = Script::of([("a", vec![Act::Say(&["one", "two", "three"])])]);
    let ran = World::new(plan(vec![stage("a", &[])]), script).run();
    let lines = ran.lines.iter().map(|(_, line)| line.as_str()).collect::<Vec<_>>();
    assert_eq!(lines, ["one", "two", "three", "<sealed>"]);
    let is_line = |kind: &EventKind| matches!(kind, EventKind::Log { .. });
    let last_line = ran.observed.iter().rposition(|event| is_line(&event.kind)).unwrap();
    let end = ran.observed.iter().position(|event| matches!(event.kind, EventKind::AttemptEnded { .. })).unwrap();
    assert!(last_line < end);
    assert!(!ran.recorded.iter().any(|event| is_line(&event.kind)), "log lines are stored separately");
}

#[test]
fn cancel_stops_attempts_and_starts_only_finally_stages() {
    let stages = vec![stage("hangs", &[]), stage("after", &[0]), finally("clean")];
    let ran = World::new(plan(stages), Script::of([("hangs", vec![Act::Hang])]))
        .command(Duration::from_secs(5), cancel(Interrupt::Graceful))
        .run();
    assert_eq!(ran.conclusion(), Some(Outcome::Cancelled));
    assert_eq!(ran.outcomes(), ["hangs cancelled", "after cancelled", "clean succeeded"]);
    assert_eq!(ran.took, Duration::from_secs(5) + WORK);
}

#[test]
fn second_cancel_kills_attempts_and_skips_finally_stages() {
    let stages = vec![stage("stubborn", &[]), finally("clean")];
    let ran = World::new(plan(stages), Script::of([("stubborn", vec![Act::IgnoreGraceful])]))
        .command(Duration::from_secs(5), cancel(Interrupt::Graceful))
        .command(Duration::from_secs(20), cancel(Interrupt::Kill))
        .run();
    assert_eq!(ran.outcomes(), ["stubborn cancelled", "clean cancelled"]);
    assert_eq!(ran.took, Duration::from_secs(20));
}

#[test]
fn attempt_that_ignores_a_kill_is_abandoned() {
    let ran = World::new(plan(vec![stage("a", &[])]), Script::of([("a", vec![Act::IgnoreEverything])]))
        .command(Duration::from_secs(1), cancel(Interrupt::Kill))
        .run();
    assert_eq!(ran.conclusion(), Some(Outcome::Cancelled));
    assert_eq!(ran.took, Duration::from_secs(6));
}

#[test]
fn attempt_is_killed_after_the_graceful_bound() {
    for (act, seconds) in [(Act::IgnoreGraceful, 1 + 15), (Act::IgnoreEverything, 1 + 15 + 5)] {
        let stages = vec![stage("a", &[]), finally("clean")];
        let ran = World::new(plan(stages), Script::of([("a", vec![act])]))
            .command(Duration::from_secs(1), cancel(Interrupt::Graceful))
            .run();
        assert_eq!(ran.outcomes(), ["a cancelled", "clean succeeded"]);
        assert_eq!(ran.took, Duration::from_secs(seconds) + WORK);
    }
}

#[test]
fn panic_of_the_runner_fails_only_its_stage() {
    let ran = World::new(plan(vec![stage("a", &[]), stage("b", &[])]), Script::of([("a", vec![Act::Panic])])).run();
    assert_eq!(ran.outcomes(), ["a errored", "b succeeded"]);
}

/// A stage with `always()` opens a gate after the cancellation, and ends there.
#[test]
fn cancelled_run_reaches_finally_stages_after_a_gate() {
    let always = Expression::parse("always()").expect("an expression");
    let report = Stage { condition: Some(always), ..deploy("report", &[0]) };
    let stages = vec![stage("hangs", &[]), report, finally("clean")];
    let ran = World::new(plan_with(stages, &["ada"], None), Script::of([("hangs", vec![Act::Hang])]))
        .command(Duration::from_secs(5), cancel(Interrupt::Graceful))
        .run();
    assert_eq!(ran.outcomes(), ["hangs cancelled", "report cancelled", "clean succeeded"]);
    assert_eq!(ran.conclusion(), Some(Outcome::Cancelled));
    assert_eq!(ran.took, Duration::from_secs(5) + WORK);
}
