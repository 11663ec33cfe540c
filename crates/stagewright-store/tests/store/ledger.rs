//! The ledger of releases: current and last known-good releases.

use serde_json::json;
use stagewright_engine::{
    EnvironmentAnswer, EnvironmentRequest, Event, EventKind, Outcome, Release, ReleaseOrigin, ReleaseSource,
    RunCoordinator, RunId, RunStore, Timestamp,
};
use stagewright_model::StageIndex;
use stagewright_store::{ReleaseRow, Store};
use tempfile::TempDir;

use super::{event, record, started};

const DEPLOY: StageIndex = StageIndex(1);

/// Successive runs that deploy to production.
pub(crate) struct Deploys {
    _directory: TempDir,
    pub(crate) store: Store,
    runs: usize,
}

impl Deploys {
    pub(crate) fn new() -> Deploys {
        let directory = TempDir::new().unwrap();
        let store = Store::open(&directory.path().join("state")).unwrap();
        Deploys { _directory: directory, store, runs: 0 }
    }

    /// Creates a run.
    pub(crate) fn run(&mut self) -> RunId {
        self.runs += 1;
        let run = record(&format!("r{}", self.runs), 1);
        self.store.create_run(&run).unwrap();
        self.append(&run.id, vec![started()]);
        run.id
    }

    pub(crate) fn append(&mut self, run: &RunId, kinds: Vec<EventKind>) {
        let next = self.store.events(run).unwrap().len() as u64;
        let events: Vec<Event> = (next..).zip(kinds).map(|(seq, kind)| event(seq, kind)).collect();
        self.store.append(run, &events, true).unwrap();
    }

    /// Creates a run that deploys an artifact.
    fn deploy(&mut self, artifact: &str, origin: ReleaseOrigin, confirmed: bool) -> RunId {
        let run = self.run();
        let mut kinds = vec![recorded(artifact, origin)];
        if confirmed {
            kinds.push(EventKind::ReleaseConfirmed { stage: DEPLOY });
        }
        self.append(&run, kinds);
        run
    }

    pub(crate) fn good(&mut self, artifact: &str) -> RunId {
        self.deploy(artifact, ReleaseOrigin::Deploy, true)
    }

    /// Artifacts of the current and the last known-good release, as a new run gets them.
    fn standing(&mut self) -> (String, String) {
        let run = self.run();
        self.standing_for(&run)
    }

    fn standing_for(&mut self, run: &RunId) -> (String, String) {
        match RunCoordinator::acquire_environment(&mut self.store, &claim(run, "production")).unwrap() {
            EnvironmentAnswer::Granted { current, last_known_good, .. } => (name(current), name(last_known_good)),
            other => panic!("{other:?}"),
        }
    }
}

fn claim(run: &RunId, environment: &str) -> EnvironmentRequest {
    EnvironmentRequest {
        run: run.clone(),
        environment: environment.to_owned(),
        override_freeze: false,
        take_over: false,
        at: Timestamp(1),
    }
}

fn name(release: Option<Release>) -> String {
    release.map_or_else(String::new, |release| release.artifact)
}

fn pair(current: &str, last_known_good: &str) -> (String, String) {
    (current.to_owned(), last_known_good.to_owned())
}

/// A release from `ARTIFACT/CONFIGURATION`.
fn release(artifact: &str, origin: ReleaseOrigin) -> Release {
    Release {
        parts: Default::default(),
        environment: "production".to_owned(),
        artifact: artifact.to_owned(),
        url: Some("https://example.org".to_owned()),
        fence: 7,
        config: json!({"replicas": 2}),
        commit: "abc".to_owned(),
        by: "ada".to_owned(),
        origin,
    }
}

pub(crate) fn recorded(artifact: &str, origin: ReleaseOrigin) -> EventKind {
    EventKind::ReleaseRecorded { stage: DEPLOY, attempt: 1, release: release(artifact, origin) }
}

fn undone(outcome: Outcome) -> EventKind {
    EventKind::UndoEnded { stage: DEPLOY, attempt: 1, outcome, failure: None }
}

#[test]
fn a_release_is_kept_as_it_was_recorded() {
    let mut deploys = Deploys::new();
    let run = deploys.deploy("one", ReleaseOrigin::Deploy, false);
    deploys.good("two");
    let rows = deploys.store.releases("production", false, 10).unwrap();
    assert_eq!(rows.iter().map(|row| row.release.artifact.as_str()).collect::<Vec<_>>(), ["two", "one"]);
    let row = &rows[1];
    assert_eq!(row.release, release("one", ReleaseOrigin::Deploy));
    assert_eq!((&row.run, row.stage, row.stage_id.as_str(), row.attempt), (&run, DEPLOY, "approve", 1));
    assert_eq!((row.at.0, row.confirmed, row.undone, rows[0].confirmed), (1_001, false, false, true));
    assert_eq!(deploys.store.releases("production", false, 1).unwrap(), rows[..1]);
    assert_eq!(deploys.store.releases("production", true, 10).unwrap(), []);
    assert_eq!(deploys.store.releases("staging", false, 10).unwrap(), []);
}

#[test]
fn only_known_good_releases_can_be_restored() {
    let mut deploys = Deploys::new();
    assert_eq!(deploys.standing(), pair("", ""));
    deploys.deploy("one", ReleaseOrigin::Deploy, false);
    assert_eq!(deploys.standing(), pair("one", ""));
    deploys.good("two");
    assert_eq!(deploys.standing(), pair("two", ""));
    deploys.good("three");
    assert_eq!(deploys.standing(), pair("three", "two"));
    deploys.deploy("four", ReleaseOrigin::Deploy, false);
    assert_eq!(deploys.standing(), pair("four", "three"));
    deploys.deploy("five", ReleaseOrigin::Deploy, false);
    assert_eq!(deploys.standing(), pair("five", "three"));
}

#[test]
fn the_good_release_is_of_another_run_and_has_the_commit_of_its_deploy() {
    let mut deploys = Deploys::new();
    let asking = deploys.run();
    let mut record = |artifact: &str, commit: &str, origin: ReleaseOrigin, confirmed: bool| {
        let run = deploys.run();
        let release = Release { commit: commit.to_owned(), ..release(artifact, origin) };
        let mut kinds = vec![EventKind::ReleaseRecorded { stage: DEPLOY, attempt: 1, release }];
        kinds.extend(confirmed.then_some(EventKind::ReleaseConfirmed { stage: DEPLOY }));
        deploys.append(&run, kinds);
        let good = |asking: &RunId| {
            let row = deploys.store.good_release("production", asking).unwrap();
            row.map_or(String::new(), |row| format!("{} {}", row.release.artifact, row.release.commit))
        };
        (good(&asking), good(&run))
    };
    let both = |one: &str, other: &str| (one.to_owned(), other.to_owned());
    assert_eq!(record("one", "a", ReleaseOrigin::Deploy, false), both("", ""));
    assert_eq!(record("one", "b", ReleaseOrigin::Deploy, true), both("one b", ""));
    assert_eq!(record("two", "c", ReleaseOrigin::Deploy, true), both("two c", "one b"));
    assert_eq!(record("three", "d", ReleaseOrigin::Deploy, false), both("two c", "two c"));
    // The run of a rollback or a compensation is for another commit than the release that it restores.
    assert_eq!(record("two", "d", ReleaseOrigin::Undo, true), both("two c", "two c"));
    assert_eq!(record("one", "e", ReleaseOrigin::Rollback, true), both("one b", "two c"));
    assert_eq!(deploys.store.good_release("staging", &asking).unwrap(), None);
}

#[test]
fn deploying_the_same_again_is_not_a_rollback() {
    let mut deploys = Deploys::new();
    deploys.good("one");
    deploys.good("two");
    deploys.good("two");
    assert_eq!(deploys.standing(), pair("two", "one"));
    // The same artifact with another configuration is a different release.
    let run = deploys.run();
    let mut other = release("two", ReleaseOrigin::Deploy);
    other.config = json!({"replicas": 3});
    deploys.append(&run, vec![EventKind::ReleaseRecorded { stage: DEPLOY, attempt: 1, release: other }]);
    assert_eq!(deploys.standing(), pair("two", "two"));
}

#[test]
fn undone_release_is_replaced_by_the_restored_one() {
    let mut deploys = Deploys::new();
    deploys.good("one");
    let run = deploys.good("two");
    deploys.append(&run, vec![undone(Outcome::Failed)]);
    assert_eq!(deploys.standing(), pair("two", "one"));
    let run = deploys.good("three");
    assert_eq!(deploys.standing_for(&run), pair("three", "two"));
    let back = recorded("two", ReleaseOrigin::Undo);
    deploys.append(&run, vec![undone(Outcome::Succeeded), back, EventKind::ReleaseConfirmed { stage: DEPLOY }]);
    assert_eq!(deploys.standing(), pair("two", "one"), "three was undone, although it was confirmed");
    let rows = deploys.store.releases("production", false, 3).unwrap();
    let marks = |row: &ReleaseRow| (row.release.origin, row.confirmed, row.undone);
    assert_eq!(
        rows.iter().map(marks).collect::<Vec<_>>(),
        [(ReleaseOrigin::Undo, true, false), (ReleaseOrigin::Deploy, true, true), (ReleaseOrigin::Deploy, true, false)]
    );
    deploys.good("four");
    assert_eq!(deploys.standing(), pair("four", "two"));
}

#[test]
fn two_rollbacks_go_back_two_steps() {
    let mut deploys = Deploys::new();
    for artifact in ["one", "two", "three"] {
        deploys.good(artifact);
    }
    for (back_to, next) in [("two", "one"), ("one", "")] {
        assert_eq!(deploys.standing().1, back_to);
        deploys.deploy(back_to, ReleaseOrigin::Rollback, true);
        assert_eq!(deploys.standing(), pair(back_to, next));
    }
    deploys.good("four");
    assert_eq!(deploys.standing(), pair("four", "one"), "what ran before it");
}

#[test]
fn undo_of_a_failed_rollback_restores_the_release_before_it() {
    let mut deploys = Deploys::new();
    for artifact in ["one", "two", "three"] {
        deploys.good(artifact);
    }
    let rollback = deploys.deploy("two", ReleaseOrigin::Rollback, false);
    assert_eq!(deploys.standing_for(&rollback), pair("two", "three"));
    assert_eq!(deploys.standing(), pair("two", "one"), "others go back further");
}

#[test]
fn environments_are_listed_with_their_current_release() {
    let mut deploys = Deploys::new();
    deploys.good("one");
    let run = deploys.good("two");
    let show = |store: &Store| {
        let row = store.environments(false, Timestamp(1)).unwrap().remove(0);
        (row.name, row.current, row.last_known_good, row.holder, row.fence)
    };
    let mut rows = deploys.store.releases("production", false, 10).unwrap().into_iter();
    let name = "production".to_owned();
    let mut expected = (name, rows.next(), rows.next(), None, 0);
    assert_eq!(
        show(&deploys.store),
        expected,
        "the environment was never acquired, because its deploys stayed on this machine"
    );
    let lease = deploys.store.lock_run(&run).unwrap();
    deploys.standing_for(&run);
    (expected.3, expected.4) = (Some(run), 1);
    assert_eq!(show(&deploys.store), expected);
    drop(lease);
    expected.3 = None;
    assert_eq!(show(&deploys.store), expected);
}

#[test]
fn a_rollback_is_told_which_release_it_restores() {
    let mut deploys = Deploys::new();
    deploys.good("app@1/a");
    deploys.good("app@2/a");
    let number = deploys.store.releases("production", false, 9).unwrap().last().unwrap().number;
    let restored = |deploys: &mut Deploys, release: Option<u64>, environment: &str| {
        deploys.runs += 1;
        let mut run = record(&format!("r{}", deploys.runs), 1);
        run.source.rollback = release.map(|release| ReleaseSource::of(RunId("r1".to_owned()), release));
        deploys.store.create_run(&run).unwrap();
        match RunCoordinator::acquire_environment(&mut deploys.store, &claim(&run.id, environment)).unwrap() {
            EnvironmentAnswer::Granted { restored, .. } => name(restored.map(|release| *release)),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(restored(&mut deploys, Some(number), "production"), "app@1/a");
    assert_eq!(restored(&mut deploys, None, "production"), "", "it isn't a rollback");
    assert_eq!(restored(&mut deploys, Some(number), "staging"), "", "the release is of another environment");
}
