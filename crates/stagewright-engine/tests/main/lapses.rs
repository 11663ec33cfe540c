//! Approvals that lapse because another run has deployed since.

use std::collections::BTreeMap;

use serde_json::json;
use stagewright_engine::{EnvironmentAnswer, EventKind, GateKind, Outcome, Release, ReleaseOrigin, RunCommand};
use stagewright_model::{Retry, RetryCause, Stage};

use crate::environments::{LATER, gates, said};
use crate::fake::{Act, Script, World, granted};
use crate::gates::answer;
use crate::plans::{deploy, plan_with};

/// A grant of `production`, where the release with the given fence is current.
fn granted_over(fence: u64, current: u64) -> EnvironmentAnswer {
    let release = Release {
        environment: "production".to_owned(),
        artifact: "app@1".to_owned(),
        url: None,
        parts: BTreeMap::new(),
        fence: current,
        config: json!({}),
        commit: String::new(),
        by: "linus".to_owned(),
        origin: ReleaseOrigin::Deploy,
    };
    let current = Some(release);
    EnvironmentAnswer::Granted { fence, current, standing: None, last_known_good: None, restored: None }
}

/// A run that `ada` approves once. `current` are the fences of the releases that are current when its gates open, and
/// `claims` the answers to its requests of the environment.
fn approved_once(stages: Vec<Stage>, script: Script, current: &[u64], claims: Vec<EnvironmentAnswer>) -> World {
    let world = World::new(plan_with(stages, &["ada"], None), script);
    world.coordinator.current.lock().expect("a lock").extend(current);
    *world.coordinator.claims.lock().expect("a lock") = claims.into();
    world.answer(LATER, 0, answer(true, "ada"))
}

#[test]
fn an_approval_lapses_once_another_run_has_deployed() {
    let world =
        |current: &[u64], claims| approved_once(vec![deploy("deploy", &[])], Script::default(), current, claims);
    let same = world(&[3], vec![granted_over(5, 3)]).run();
    assert_eq!((gates(&same), same.conclusion()), (vec![GateKind::Environment], Some(Outcome::Succeeded)));

    for (before, answer) in [(&[3][..], granted_over(5, 4)), (&[], granted_over(5, 4)), (&[3], granted(5))] {
        let other = world(before, vec![answer]).command(2 * LATER, RunCommand::Suspend).run();
        assert_eq!(gates(&other), [GateKind::Environment, GateKind::Environment]);
        assert_eq!(said(&other), ["claim production", "release_environment production"]);
        assert_eq!(other.starts(), [""; 0]);
    }

    let again = world(&[3, 4], vec![granted_over(5, 4), granted_over(6, 4)]);
    let again = again.answer(2 * LATER, 0, answer(true, "ada")).run();
    let questions = again.events(|kind| match kind {
        EventKind::GateOpened { gate, .. } => Some(gate.message.clone()),
        _ => None,
    });
    assert!(questions[1].starts_with("Since `production` was approved for this run, linus deployed app@1."));
    assert_eq!((again.starts(), again.conclusion()), (vec!["deploy#1".to_owned()], Some(Outcome::Succeeded)));
}

#[test]
fn an_approval_covers_what_its_own_run_has_deployed() {
    let script = Script::of([("first", vec![Act::Deploy("app@2")]), ("again", vec![Act::Fail, Act::Succeed])]);
    let retry = Retry { max: 1, on: RetryCause::ALL.to_vec(), ..Retry::default() };
    let again = Stage { retry: retry.into(), ..deploy("again", &[0]) };
    let claims = vec![granted_over(5, 3), granted_over(6, 5), granted_over(7, 5)];
    let ran = approved_once(vec![deploy("first", &[]), again], script, &[3], claims).run();
    assert_eq!((gates(&ran), ran.conclusion()), (vec![GateKind::Environment], Some(Outcome::Succeeded)));
}
