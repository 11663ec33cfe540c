//! Runs with a past: the journal is folded, and only what is missing runs.

use std::collections::BTreeMap;
use std::time::Duration;

use stagewright_engine::{Control, Event, EventKind, Outcome, RunState, RunValues};
use stagewright_model::StageIndex;

use crate::fake::{Act, FakeStore, Ran, Script, World};
use crate::gates::{answer, gate};
use crate::plans::{finally, plan, stage};

fn resumed(before: &Ran, past: Vec<Event>, script: Script) -> Ran {
    World { past, store: FakeStore::default(), ..World::new(before.plan.clone(), script) }.run()
}

#[test]
fn what_succeeded_is_not_run_again() {
    let stages = vec![stage("a", &[]), stage("b", &[0]), stage("c", &[1]), finally("clean")];
    let failed = World::new(plan(stages), Script::of([("b", vec![Act::Fail])])).run();
    assert_eq!(failed.outcomes(), ["a succeeded", "b failed", "c skipped", "clean succeeded"]);
    let ran = resumed(&failed, failed.recorded.clone(), Script::default());
    assert_eq!(ran.conclusion(), Some(Outcome::Succeeded));
    assert_eq!(ran.starts(), ["b#2", "c#1"]);
}

#[test]
fn a_journal_cut_anywhere_can_be_gone_on_with() {
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
fn an_attempt_that_was_under_way_is_lost_and_numbered_on() {
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
        .wish(Duration::ZERO, Control::Suspend)
        .run();
    let decision = answer(true, "ada");
    let wish = Control::Decide { stage: StageIndex(0), decision };
    let again = World { past: waiting.recorded.clone(), ..World::new(waiting.plan.clone(), Script::default()) }
        .wish(Duration::from_secs(1), wish)
        .run();
    assert_eq!(again.starts(), ["approve#1", "deploy#1"]);
    assert_eq!(again.conclusion(), Some(Outcome::Succeeded));
}

#[test]
fn what_was_left_out_stays_left_out() {
    let stages = vec![stage("approve", &[]), stage("deploy", &[0]), stage("check", &[1])];
    let left_out = BTreeMap::from([(StageIndex(2), "left out".to_owned())]);
    let values = RunValues { left_out, ..Default::default() };
    let script = Script::of([("approve", vec![Act::Ask(gate())])]);
    let waiting = World { values, ..World::new(plan(stages), script) }.wish(Duration::ZERO, Control::Suspend).run();
    let decision = answer(true, "ada");
    let wish = Control::Decide { stage: StageIndex(0), decision };
    let again = World { past: waiting.recorded.clone(), ..World::new(waiting.plan.clone(), Script::default()) }
        .wish(Duration::from_secs(1), wish)
        .run();
    assert_eq!(again.starts(), ["approve#1", "deploy#1"]);
    assert_eq!(again.conclusion(), Some(Outcome::Succeeded));
}
