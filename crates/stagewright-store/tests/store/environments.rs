//! Acquiring environments.

use std::collections::BTreeSet;

use stagewright_engine::{
    EnvironmentAnswer, EnvironmentRequest, Event, EventKind, LEASE, Rollout, RolloutPhase, RunCoordinator, RunId,
    RunStore as _, Timestamp,
};
use stagewright_model::StageIndex;
use stagewright_store::{EnvironmentFreeze, Store};
use tempfile::TempDir;

use super::{record, report};

const SILENCE: u64 = LEASE.as_millis() as u64;

/// A store with the runs a, b and c, created in this order, each at an earlier time than the one before.
fn runs() -> (TempDir, Store) {
    let directory = TempDir::new().unwrap();
    let mut store = Store::open(&directory.path().join("state")).unwrap();
    for (id, started) in [("a", 9_000), ("b", 5_000), ("c", 1_000)] {
        store.create_run(&record(id, started)).unwrap();
    }
    (directory, store)
}

fn run(id: &str) -> RunId {
    RunId(id.to_owned())
}

fn claim_at(store: &mut Store, id: &str, at: u64) -> EnvironmentAnswer {
    claim_of(store, id, "production", at)
}

fn claim_of(store: &mut Store, id: &str, environment: &str, at: u64) -> EnvironmentAnswer {
    let claim = EnvironmentRequest {
        run: run(id),
        environment: environment.to_owned(),
        override_freeze: false,
        take_over: false,
        at: Timestamp(at),
    };
    RunCoordinator::acquire_environment(store, &claim).unwrap()
}

fn claim(store: &mut Store, id: &str) -> EnvironmentAnswer {
    claim_at(store, id, 10_000)
}

fn granted(fence: u64) -> EnvironmentAnswer {
    EnvironmentAnswer::Granted { fence, current: None, standing: None, last_known_good: None, restored: None }
}

fn held(by: &str) -> EnvironmentAnswer {
    EnvironmentAnswer::Held { by: run(by) }
}

fn claim_region(store: &mut Store, id: &str, region: &str) -> EnvironmentAnswer {
    claim_of(store, id, &format!("production.{region}"), 10_000)
}

#[test]
fn regions_have_fences_of_their_own_under_one_lock() {
    let (_directory, mut store) = runs();
    let lease = store.lock_run(&run("a")).unwrap();
    assert_eq!(claim_region(&mut store, "a", "us"), granted(1));
    assert_eq!(claim_region(&mut store, "a", "eu"), granted(2), "a run acts on several regions at once");
    for (region, fence) in [("us", 1), ("eu", 2)] {
        assert!(store.holds(&run("a"), &format!("production.{region}"), fence).unwrap(), "{region}");
    }
    assert_eq!(claim_region(&mut store, "b", "ap"), held("a"));
    assert_eq!(claim(&mut store, "b"), held("a"), "the lock is that of the whole environment");
    let names = |store: &Store| -> Vec<(String, Option<RunId>)> {
        let rows = store.environments(false, Timestamp(10_000)).unwrap();
        rows.into_iter().map(|row| (row.name, row.holder)).collect()
    };
    let by_a = |region: &str| (format!("production.{region}"), Some(run("a")));
    assert_eq!(names(&store), [by_a("eu"), by_a("us")]);
    drop(lease);

    // The process of `a` is gone. Whatever region another run acquires, none of the fences of `a` is valid any more.
    assert_eq!(claim_region(&mut store, "b", "ap"), granted(3));
    for (region, fence) in [("us", 1), ("eu", 2)] {
        assert!(!store.holds(&run("a"), &format!("production.{region}"), fence).unwrap(), "{region}");
    }
    assert_eq!(claim_region(&mut store, "a", "us"), EnvironmentAnswer::Superseded { by: run("b") });
    RunCoordinator::release_environment(&mut store, &run("b"), "production").unwrap();
    assert_eq!(names(&store).into_iter().filter_map(|(_, holder)| holder).next(), None);
    // A region that becomes an environment of its own, or the other way round, goes on with greater fences.
    assert_eq!(claim(&mut store, "b"), granted(4));
}

#[test]
fn a_freeze_and_a_rollout_of_a_region_count() {
    let (_directory, mut store) = runs();
    let freeze = |by: &str| EnvironmentFreeze {
        from: Timestamp(1),
        until: None,
        reason: "a fair".to_owned(),
        by: by.to_owned(),
    };
    store.freeze("production.eu", &freeze("ada")).unwrap();
    assert_eq!(claim_region(&mut store, "a", "us"), granted(1));
    let frozen = EnvironmentAnswer::Frozen { until: None, reason: "a fair, by ada".to_owned() };
    assert_eq!(claim_region(&mut store, "a", "eu"), frozen);
    store.unfreeze("production.eu").unwrap();
    store.freeze("production", &freeze("grace")).unwrap();
    let frozen = EnvironmentAnswer::Frozen { until: None, reason: "a fair, by grace".to_owned() };
    assert_eq!(claim_region(&mut store, "a", "eu"), frozen);
    store.unfreeze("production").unwrap();

    // An unfinished rollout in one region keeps all of them.
    roll_out(&mut store, "a", "production.us", 0, RolloutPhase::Paused);
    RunCoordinator::release_environment(&mut store, &run("a"), "production").unwrap();
    assert_eq!(claim_region(&mut store, "b", "eu"), held("a"));
    // The name of another environment may begin with the same letters.
    assert_eq!(claim_of(&mut store, "b", "production-2", 10_000), granted(1));
}

#[test]
fn fences_increase_and_only_the_newest_is_valid() {
    let (directory, mut store) = runs();
    assert_eq!(claim(&mut store, "a"), granted(1));
    assert!(store.holds(&run("a"), "production", 1).unwrap());
    assert_eq!(claim(&mut store, "a"), granted(2), "what a run has it may ask for again");
    assert!(!store.holds(&run("a"), "production", 1).unwrap());
    store.release_environment(&run("a"), "production").unwrap();
    assert!(store.holds(&run("a"), "production", 2).unwrap(), "no other run has acquired it yet");
    drop(store);
    let mut again = Store::open(&directory.path().join("state")).unwrap();
    assert_eq!(claim(&mut again, "b"), granted(3));
    assert!(!again.holds(&run("a"), "production", 2).unwrap());
    assert!(!again.holds(&run("a"), "staging", 1).unwrap());
}

/// Records in run `id` that its rollout in an environment is in this phase.
fn roll_out(store: &mut Store, id: &str, environment: &str, seq: u64, phase: RolloutPhase) {
    let rollout = Rollout {
        service: "app".to_owned(),
        version: "app-1".to_owned(),
        artifact: "local/app@sha256:1".to_owned(),
        strategy: "canary".to_owned(),
        phase,
        step: 1,
        steps: 2,
        weight: 10,
        message: String::new(),
        state: serde_json::Value::Null,
    };
    let kind = EventKind::RolloutProgressed {
        stage: StageIndex(0),
        attempt: 1,
        environment: environment.to_owned(),
        rollout: Box::new(rollout),
    };
    store.append(&run(id), &[Event { seq, at: Timestamp(seq), kind }], true).unwrap();
}

#[test]
fn unfinished_rollout_keeps_the_environment_without_a_process() {
    let (_directory, mut store) = runs();
    assert_eq!(claim(&mut store, "a"), granted(1));
    roll_out(&mut store, "a", "production", 0, RolloutPhase::Paused);
    store.release_environment(&run("a"), "production").unwrap();
    assert_eq!(claim(&mut store, "b"), held("a"));
    assert_eq!(claim(&mut store, "a"), granted(2), "its own run continues it");
    store.release_environment(&run("a"), "production").unwrap();

    let rollout = store.rollout("production").unwrap().unwrap();
    assert_eq!((rollout.run, rollout.rollout.phase, rollout.at), (run("a"), RolloutPhase::Paused, Timestamp(0)));
    assert_eq!(store.rollout("staging").unwrap(), None);

    roll_out(&mut store, "a", "production", 1, RolloutPhase::Degraded);
    assert_eq!(claim(&mut store, "b"), held("a"), "two versions may share the requests");
    roll_out(&mut store, "a", "production", 2, RolloutPhase::Aborted);
    assert_eq!(claim(&mut store, "b"), granted(3));
}

#[test]
fn rollback_takes_an_unfinished_rollout_over_unless_it_is_being_driven() {
    let (directory, mut store) = runs();
    let mut other = Store::open(&directory.path().join("state")).unwrap();
    let lock = other.lock_run(&run("a")).unwrap();
    assert_eq!(claim(&mut other, "a"), granted(1));
    roll_out(&mut other, "a", "production", 0, RolloutPhase::Progressing);
    let take_over = |store: &mut Store| {
        let environment = "production".to_owned();
        let at = Timestamp(10_000);
        let claim = EnvironmentRequest { run: run("b"), environment, override_freeze: false, take_over: true, at };
        RunCoordinator::acquire_environment(store, &claim).unwrap()
    };
    assert_eq!(take_over(&mut store), held("a"));
    drop(lock);
    assert_eq!(claim(&mut store, "b"), held("a"));
    assert_eq!(take_over(&mut store), granted(2));
    assert_eq!(store.environments(false, Timestamp(10_000)).unwrap()[0].rollout.as_ref().unwrap().run, run("a"));
}

#[test]
fn unknown_run_is_refused() {
    let (_directory, mut store) = runs();
    let environment = "production".to_owned();
    let request =
        EnvironmentRequest { run: run("x"), environment, override_freeze: false, take_over: false, at: Timestamp(1) };
    let error = RunCoordinator::acquire_environment(&mut store, &request).unwrap_err();
    assert!(report(&error).contains("has no run x"), "{}", report(&error));
}

#[test]
fn environment_of_a_dead_process_is_free_at_once() {
    let (directory, mut store) = runs();
    let mut other = Store::open(&directory.path().join("state")).unwrap();
    let lease = store.lock_run(&run("a")).unwrap();
    assert_eq!(claim(&mut store, "a"), granted(1));
    assert_eq!(claim(&mut other, "b"), held("a"));
    drop(lease);
    assert_eq!(claim(&mut other, "b"), granted(2));
}

#[test]
fn environment_is_free_after_the_lease_expires() {
    let (_directory, mut store) = runs();
    let _hangs = store.lock_run(&run("a")).unwrap();
    assert_eq!(claim_at(&mut store, "a", 10_000), granted(1));
    assert_eq!(claim_at(&mut store, "b", 10_000 + SILENCE), held("a"));
    store.heartbeat(&run("a"), Timestamp(20_000)).unwrap();
    assert_eq!(claim_at(&mut store, "b", 20_000 + SILENCE), held("a"));
    let _lives = store.lock_run(&run("b")).unwrap();
    assert_eq!(claim_at(&mut store, "b", 20_001 + SILENCE), granted(2));

    // The process wakes up. Neither its heartbeat nor its release affects the environment that b holds now.
    assert!(!store.holds(&run("a"), "production", 1).unwrap());
    store.heartbeat(&run("a"), Timestamp(1_000_000)).unwrap();
    store.release_environment(&run("a"), "production").unwrap();
    assert_eq!(claim_at(&mut store, "c", 20_001 + SILENCE), held("b"));
    assert_eq!(claim_at(&mut store, "c", 20_002 + 2 * SILENCE), granted(3));
}

#[test]
fn clock_set_back_does_not_expire_leases() {
    let (_directory, mut store) = runs();
    let _lives = store.lock_run(&run("a")).unwrap();
    assert_eq!(claim_at(&mut store, "a", 1_000_000), granted(1));
    assert_eq!(claim_at(&mut store, "b", 5), held("a"));
    store.heartbeat(&run("a"), Timestamp(6)).unwrap();
    assert_eq!(claim_at(&mut store, "b", 6 + SILENCE), held("a"));
}

#[test]
fn an_older_run_never_overtakes_a_newer_one_whatever_the_clock_says() {
    let (_directory, mut store) = runs();
    assert_eq!(claim(&mut store, "b"), granted(1), "made after a, and started before it");
    let superseded = EnvironmentAnswer::Superseded { by: run("b") };
    assert_eq!(claim(&mut store, "a"), superseded, "though b is dead by now");
    store.release_environment(&run("b"), "production").unwrap();
    assert_eq!(claim(&mut store, "a"), superseded);
    assert_eq!(claim(&mut store, "b"), granted(2));
    assert_eq!(claim(&mut store, "c"), granted(3));
    assert_eq!(claim(&mut store, "b"), EnvironmentAnswer::Superseded { by: run("c") });
    // Superseded takes precedence over held, because waiting would be in vain.
    let _lives = store.lock_run(&run("c")).unwrap();
    assert_eq!(claim(&mut store, "b"), EnvironmentAnswer::Superseded { by: run("c") });
}

#[test]
fn refused_request_does_not_supersede_older_runs() {
    let (_directory, mut store) = runs();
    let _lives = store.lock_run(&run("a")).unwrap();
    assert_eq!(claim(&mut store, "a"), granted(1));
    assert_eq!(claim(&mut store, "b"), held("a"));
    assert_eq!(claim(&mut store, "a"), granted(2));
}

#[test]
fn new_driver_does_not_hold_environments_of_a_dead_one() {
    let (_directory, mut store) = runs();
    let lease = store.lock_run(&run("a")).unwrap();
    assert_eq!(claim(&mut store, "a"), granted(1));
    drop(lease);
    // The run is resumed, and waits at a gate before its environment is used again.
    let _resumed = store.lock_run(&run("a")).unwrap();
    assert_eq!(claim(&mut store, "b"), granted(2));
}

#[test]
fn rehearsals_have_environments_of_their_own() {
    let (_directory, mut store) = runs();
    let mut rehearsal = record("r", 1);
    rehearsal.rehearsal = true;
    store.create_run(&rehearsal).unwrap();
    let (_a, _r) = (store.lock_run(&run("a")).unwrap(), store.lock_run(&run("r")).unwrap());
    assert_eq!(claim(&mut store, "r"), granted(1));
    assert_eq!(claim(&mut store, "a"), granted(1));
    assert_eq!(claim(&mut store, "a"), granted(2));
    assert!(store.holds(&run("r"), "production", 1).unwrap());
    let names = |rehearsal| {
        let rows = store.environments(rehearsal, Timestamp(10_000)).unwrap();
        rows.into_iter().map(|row| (row.name, row.holder, row.fence)).collect::<Vec<_>>()
    };
    assert_eq!(names(true), [("production".to_owned(), Some(run("r")), 1)]);
    assert_eq!(names(false), [("production".to_owned(), Some(run("a")), 2)]);
}

fn freeze(until: Option<u64>) -> EnvironmentFreeze {
    let (reason, by) = ("release week".to_owned(), "ada".to_owned());
    EnvironmentFreeze { from: Timestamp(7_000), until: until.map(Timestamp), reason, by }
}

#[test]
fn a_freeze_holds_until_its_end_or_until_it_is_lifted() {
    let (_directory, mut store) = runs();
    store.freeze("production", &freeze(Some(20_000))).unwrap();
    let frozen = |until: Option<u64>| EnvironmentAnswer::Frozen {
        until: until.map(Timestamp),
        reason: "release week, by ada".to_owned(),
    };
    assert_eq!(claim_at(&mut store, "a", 19_999), frozen(Some(20_000)));
    assert_eq!(claim_at(&mut store, "a", 1), frozen(Some(20_000)), "the clock was put back to before it was said");
    assert_eq!(claim_at(&mut store, "a", 20_000), granted(1));
    store.freeze("production", &freeze(None)).unwrap();
    assert_eq!(claim_at(&mut store, "a", u64::from(u32::MAX)), frozen(None));
    assert!(store.unfreeze("production").unwrap());
    assert!(!store.unfreeze("production").unwrap() && !store.unfreeze("staging").unwrap());
    assert_eq!(claim(&mut store, "a"), granted(2));
}

#[test]
fn override_applies_only_to_a_freeze() {
    let (_directory, mut store) = runs();
    let _lives = store.lock_run(&run("b")).unwrap();
    assert_eq!(claim(&mut store, "b"), granted(1));
    store.freeze("production", &freeze(None)).unwrap();
    let environment = "production".to_owned();
    let mut ask = |id: &str| {
        let claim = EnvironmentRequest {
            run: run(id),
            environment: environment.clone(),
            override_freeze: true,
            take_over: false,
            at: Timestamp(10_000),
        };
        RunCoordinator::acquire_environment(&mut store, &claim).unwrap()
    };
    assert_eq!(ask("a"), EnvironmentAnswer::Superseded { by: run("b") });
    assert_eq!(ask("c"), held("b"));
    assert_eq!(ask("b"), granted(2));
    assert!(
        matches!(claim(&mut store, "a"), EnvironmentAnswer::Frozen { .. }),
        "the freeze is everybody's first answer"
    );
}

#[test]
fn freezes_do_not_apply_to_rehearsals() {
    let (_directory, mut store) = runs();
    let mut rehearsal = record("r", 1);
    rehearsal.rehearsal = true;
    store.create_run(&rehearsal).unwrap();
    store.freeze("production", &freeze(None)).unwrap();
    assert_eq!(claim(&mut store, "r"), granted(1));
    let row = |store: &Store, now| store.environments(false, Timestamp(now)).unwrap().remove(0);
    assert_eq!(row(&store, 8_000).freeze, Some(freeze(None)));
    store.freeze("production", &freeze(Some(9_000))).unwrap();
    assert_eq!((row(&store, 8_999).freeze, row(&store, 9_000).freeze), (Some(freeze(Some(9_000))), None));
}

#[test]
fn concurrent_requests_never_get_the_same_fence() {
    let (directory, store) = runs();
    drop(store);
    let state = directory.path().join("state");
    let fences = std::thread::scope(|scope| {
        let ask = || {
            let mut store = Store::open(&state).unwrap();
            (0..10).map(|_| claim(&mut store, "a")).collect::<Vec<_>>()
        };
        let asking: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        asking.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let fences: BTreeSet<u64> = fences
        .into_iter()
        .map(|claimed| match claimed {
            EnvironmentAnswer::Granted { fence, .. } => fence,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(fences, (1..=40).collect());
}
