//! Changes that weren't made by a deploy.

use stagewright_sdk::LiveDifference;

use super::*;

fn replicas(found: &str) -> LiveDifference {
    LiveDifference { what: "replicas".to_owned(), expected: Some("3".to_owned()), found: Some(found.to_owned()) }
}

fn missing() -> LiveDifference {
    LiveDifference { what: "cache".to_owned(), expected: None, found: None }
}

/// A target on which another run's release serves, and the ledger's record of it.
fn changed(drift: Vec<LiveDifference>) -> Json {
    world(World { is_foreign: true, drift, ..World::default() });
    json!({ "artifact": OLD, "config": { "image": OLD, "strategy": { "recreate": {} } }, "fence": 3 })
}

fn deploy(current: Json) -> FakeHost {
    host(&json!({ "recreate": {} })).ledger(Some(current), None)
}

#[test]
fn a_deploy_asks_before_it_overwrites_what_others_have_changed() {
    let current = changed(vec![replicas("5"), missing()]);
    let asked = deploy(current.clone()).run::<Deploy>();
    assert!(matches!(asked.result, Ok(Outcome::Suspended(_))), "{:?}", asked.result);
    let gate = &asked.gates[0];
    let choices = gate.fields[0].choices.as_ref().unwrap();
    assert_eq!(
        gate.message,
        format!(
            "production has 1 change that no deploy has made. To overwrite what was changed, approve with `--field overwrite={}`\n\
             replicas: 5 instead of 3",
            choices[0]
        )
    );
    assert!(calls().is_empty());
    let (field, mark) = (&gate.fields[0].name, &choices[0]);

    let other = deploy(current.clone()).approved("ada", None, json!({ field: "00000000" })).run::<Deploy>();
    assert!(matches!(other.result, Ok(Outcome::Suspended(_))), "it was approved for other changes");
    let approved = deploy(current.clone()).approved("ada", None, json!({ field: mark })).run::<Deploy>();
    assert_eq!(approved.result, Ok(Outcome::Succeeded));
    assert!(approved.logged("overwriting replicas: 5 instead of 3"));

    changed(vec![replicas("6")]);
    let later = deploy(current).approved("ada", None, json!({ field: mark })).run::<Deploy>();
    assert!(matches!(later.result, Ok(Outcome::Suspended(_))), "changed again after the approval");
}

#[test]
fn what_is_missing_or_was_put_there_by_another_deploy_stops_none() {
    assert_eq!(deploy(changed(vec![missing()])).run::<Deploy>().result, Ok(Outcome::Succeeded));
    let mut of_another_service = changed(vec![replicas("5")]);
    of_another_service["config"] = json!({ "image": OLD });
    assert_eq!(deploy(of_another_service).run::<Deploy>().result, Ok(Outcome::Succeeded), "of another plugin");
    // The ledger missed the end of a deploy.
    let mut earlier = changed(Vec::new());
    earlier["artifact"] = "app@sha256:older".into();
    earlier["config"]["image"] = "app@sha256:older".into();
    let asked = deploy(earlier.clone()).run::<Deploy>();
    assert!(matches!(asked.result, Ok(Outcome::Suspended(_))), "the release has no token");
    WORLD.with_borrow_mut(|world| world.fence = Some(4));
    assert_eq!(deploy(earlier).run::<Deploy>().result, Ok(Outcome::Succeeded));
}

#[test]
fn neither_a_rollback_nor_the_continuation_of_a_deploy_asks() {
    let current = changed(vec![replicas("5")]);
    let restored = deploy(current.clone()).restored(current.clone()).run::<Deploy>();
    assert_eq!(restored.result, Ok(Outcome::Succeeded));
    let current = changed(Vec::new());
    let first = host(&canary()).ledger(Some(current.clone()), None).run::<Deploy>();
    WORLD.with_borrow_mut(|world| world.drift = vec![replicas("5")]);
    let (next, token) = after(&canary(), &first);
    let second = next.ledger(Some(current), None).signalled(&token, Json::Null).run::<Deploy>();
    assert_eq!(summary(&second), (RolloutPhase::Paused, 3, 50));
    assert!(second.gates.is_empty());
}

#[test]
fn a_release_is_compared_with_what_is_in_place() {
    let compare = |current: &Json| {
        let host = FakeHost::new().config(current["config"].clone()).environment("production");
        host.restored(current.clone()).compare::<Deploy>().result.unwrap()
    };
    let current = changed(vec![replicas("5"), missing()]);
    assert_eq!(compare(&current), [replicas("5"), missing()]);
    assert!(calls().is_empty());
    WORLD.with_borrow_mut(|world| world.serving = Some("app@sha256:other".to_owned()));
    let release = |found: Option<&str>| LiveDifference {
        what: "release".to_owned(),
        expected: Some(OLD.to_owned()),
        found: found.map(ToOwned::to_owned),
    };
    assert_eq!(compare(&current), [release(Some("app@sha256:other"))]);
    WORLD.with_borrow_mut(|world| world.serving = None);
    assert_eq!(compare(&current), [release(None)]);
}
