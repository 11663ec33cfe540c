//! What garbage collection removes, and what it keeps.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::json;
use stagewright_engine::{
    EnvironmentAnswer, EnvironmentRequest, Event, EventKind, Lines, LogSink, Outcome, ReleaseOrigin, RunId, RunStore,
};
use stagewright_engine::{RunCoordinator, Stream, Timestamp};
use stagewright_model::StageIndex;
use stagewright_store::{GcReport, Retention, RunFilter, RunRecord, Store};
use tempfile::TempDir;

use super::ledger::recorded;
use super::{decision, gate_opened, record, started};

const DAY: u64 = 24 * 60 * 60 * 1000;

/// The current time in these tests: 400 days after the epoch.
const NOW: Timestamp = Timestamp(400 * DAY);

struct World {
    directory: TempDir,
    store: Store,
}

impl World {
    fn new() -> World {
        let directory = TempDir::new().unwrap();
        let store = Store::open(&directory.path().join("state")).unwrap();
        World { directory, store }
    }

    fn create(&mut self, record: &RunRecord) -> RunId {
        self.store.create_run(record).unwrap();
        self.append(&record.id, 0, vec![started()]);
        let mut logs = self.store.logs(&record.id).unwrap();
        logs.append(NOW, 0, StageIndex(0), 1, Stream::Stdout, &Lines::new("x".repeat(1000))).unwrap();
        logs.seal(StageIndex(0), 1).unwrap();
        record.id.clone()
    }

    /// Records a run that ended the given number of days ago.
    fn ended(&mut self, id: &str, days: u64) -> RunId {
        let run = self.create(&record(id, 1));
        self.append(&run, days, vec![end()]);
        run
    }

    fn append(&mut self, run: &RunId, days: u64, kinds: Vec<EventKind>) {
        let at = Timestamp(NOW.0 - days * DAY);
        let next = self.store.events(run).unwrap().len() as u64;
        let events: Vec<Event> = (next..).zip(kinds).map(|(seq, kind)| Event { seq, at, kind }).collect();
        self.store.append(run, &events, true).unwrap();
    }

    fn left(&self) -> Vec<String> {
        let mut ids: Vec<String> =
            self.store.list(&RunFilter::default()).unwrap().into_iter().map(|row| row.id.0).collect();
        ids.reverse();
        ids
    }

    fn folders(&self) -> Vec<String> {
        let runs = fs::read_dir(self.store.directory().join("runs")).unwrap();
        let mut names: Vec<String> = runs.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn gc(&mut self, policy: &Retention) -> GcReport {
        self.store.gc(policy, NOW).unwrap()
    }
}

fn end() -> EventKind {
    EventKind::RunEnded { conclusion: Outcome::Succeeded }
}

fn ids(runs: &[RunId]) -> Vec<&str> {
    runs.iter().map(|run| run.0.as_str()).collect()
}

/// A retention that keeps no run for its number or age.
fn nothing() -> Retention {
    Retention { runs: 0, age: Duration::ZERO, releases: 0, dry_run: false }
}

#[test]
fn old_runs_are_removed_and_new_ones_kept() {
    let mut world = World::new();
    for (id, days) in [("a", 90), ("b", 31), ("c", 29), ("d", 100), ("e", 40)] {
        world.ended(id, days);
    }
    let mut nightly = record("n", 1);
    nightly.pipeline = "nightly".to_owned();
    let rehearsal = RunRecord { rehearsal: true, ..record("r", 1) };
    for other in [nightly, rehearsal] {
        let run = world.create(&other);
        world.append(&run, 90, vec![end()]);
    }
    let policy = Retention { runs: 1, ..Retention::default() };
    let report = world.gc(&policy);
    assert_eq!(ids(&report.runs), ["a", "b", "d"]);
    assert_eq!(world.left(), ["c", "e", "n", "r"], "of each pipeline, and of its rehearsals, the newest");
    assert_eq!(world.folders(), ["c", "e", "n", "r"]);
    assert!(report.file_bytes > 3_000, "{report:?}");
    assert_eq!(world.gc(&policy), GcReport::default(), "there is nothing more to do");
    assert_eq!(world.gc(&Retention::default()), GcReport::default());
}

#[test]
fn run_is_removed_with_all_its_data() {
    let mut world = World::new();
    let run = world.ended("a", 1);
    world.append(
        &run,
        1,
        vec![EventKind::RunResumed { reason: String::new(), again: vec![], changed: vec![], pipeline: None }],
    );
    world.append(&run, 1, vec![gate_opened()]);
    super::put(&mut world.store, &run, &decision("ann")).unwrap();
    world.store.request_cancel(&run, "why").unwrap();
    world.append(&run, 1, vec![end()]);
    world.gc(&nothing());
    assert_eq!(world.store.run(&run).unwrap(), None);
    assert_eq!(world.store.events(&run).unwrap(), []);
    let database = rusqlite::Connection::open(world.store.directory().join("stagewright.db")).unwrap();
    for table in ["runs", "events", "open_gates", "decisions", "cancels", "group_members"] {
        let rows: i64 = database.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 0, "{table}");
    }
    assert!(world.store.append(&run, &[Event { seq: 5, at: NOW, kind: end() }], true).is_err());
}

#[test]
fn unfinished_runs_are_kept_regardless_of_age() {
    let mut world = World::new();
    let interrupted = world.create(&record("interrupted", 1));
    let waiting = world.create(&record("waiting", 1));
    world.append(&waiting, 390, vec![gate_opened(), EventKind::RunSuspended { waiting: vec![StageIndex(1)] }]);
    let resumed = world.ended("resumed", 390);
    world.append(
        &resumed,
        390,
        vec![EventKind::RunResumed { reason: String::new(), again: vec![], changed: vec![], pipeline: None }],
    );
    let driven = world.ended("driven", 390);
    let lease = world.store.lock_run(&driven).unwrap();
    assert_eq!(world.gc(&nothing()), GcReport::default());
    assert_eq!(world.gc(&Retention { dry_run: true, ..nothing() }), GcReport::default());
    drop(lease);
    assert_eq!(ids(&world.gc(&nothing()).runs), ["driven"]);
    assert_eq!(world.left(), [interrupted.0, waiting.0, resumed.0]);
}

#[test]
fn runs_needed_for_a_rollback_are_kept() {
    let mut world = World::new();
    let confirmed = EventKind::ReleaseConfirmed { stage: StageIndex(1) };
    let undone = EventKind::UndoEnded { stage: StageIndex(1), attempt: 1, outcome: Outcome::Succeeded, failure: None };
    for id in ["one", "two", "three", "four", "bad", "undone", "six"] {
        let run = world.create(&record(id, 1));
        let mut kinds = vec![recorded(id, ReleaseOrigin::Deploy)];
        if id != "bad" && id != "six" {
            kinds.push(confirmed.clone());
        }
        if id == "undone" {
            kinds.push(undone.clone());
        }
        kinds.push(end());
        world.append(&run, 90, kinds);
    }
    world.ended("nothing-deployed", 90);
    let report = world.gc(&Retention { releases: 3, ..nothing() });
    assert_eq!(ids(&report.runs), ["one", "bad", "undone", "nothing-deployed"]);
    let report = world.gc(&nothing());
    assert_eq!(ids(&report.runs), ["two", "three"], "what is current and what is known to be good stay in any case");
    let ledger = world.store.releases("production", false, 100).unwrap();
    assert_eq!(ledger.len(), 7, "the ledger stays");
    let row = world.store.environments(false, NOW).unwrap().remove(0);
    assert_eq!((row.current.unwrap().run.0, row.last_known_good.unwrap().run.0), ("six".to_owned(), "four".to_owned()));
}

#[test]
fn neither_fences_nor_numbers_start_again() {
    let mut world = World::new();
    let claim = |store: &mut Store, run: &str| {
        let (run, environment) = (RunId(run.to_owned()), "production".to_owned());
        RunCoordinator::acquire_environment(
            store,
            &EnvironmentRequest { run, environment, override_freeze: false, take_over: false, at: NOW },
        )
        .unwrap()
    };
    world.ended("a", 90);
    world.create(&record("older", 1));
    world.ended("b", 90);
    for (run, expected) in [("a", 1), ("b", 2)] {
        let granted = EnvironmentAnswer::Granted {
            fence: expected,
            current: None,
            standing: None,
            last_known_good: None,
            restored: None,
        };
        assert_eq!(claim(&mut world.store, run), granted);
    }
    // The run ended, but its process died before it released the environment.
    assert_eq!(ids(&world.gc(&nothing()).runs), ["a", "b"]);
    world.store.create_run(&record("c", 1)).unwrap();
    assert_eq!(claim(&mut world.store, "older"), EnvironmentAnswer::Superseded { by: RunId("b".to_owned()) });
    assert!(matches!(claim(&mut world.store, "c"), EnvironmentAnswer::Granted { fence: 3, .. }));
}

#[test]
fn dry_run_removes_nothing() {
    let mut world = World::new();
    let run = world.ended("a", 90);
    world.ended("b", 1);
    let orphan = world.store.directory().join("runs/orphan");
    make_old(&orphan, 2);
    let would = world.gc(&Retention { runs: 0, dry_run: true, ..Retention::default() });
    assert_eq!(world.left(), ["a", "b"]);
    assert!(orphan.exists() && world.store.run_directory(&run).exists());
    let did = world.gc(&Retention { runs: 0, ..Retention::default() });
    assert_eq!((&would.runs, &would.orphans), (&did.runs, &did.orphans));
    assert_eq!(did.orphans, ["orphan"]);
    assert!(would.file_bytes > 1_000 && did.file_bytes >= would.file_bytes, "{would:?}");
    assert_eq!(world.left(), ["b"]);
}

/// Creates a folder that hasn't changed for the given number of days.
fn make_old(folder: &Path, days: u64) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("lease"), "1\n").unwrap();
    let time = UNIX_EPOCH + Duration::from_millis(NOW.0 - days * DAY);
    File::open(folder).unwrap().set_modified(time).unwrap();
}

#[test]
fn orphaned_folders_are_removed_after_a_day() {
    let mut world = World::new();
    let kept = world.ended("kept", 0);
    let runs = world.store.directory().join("runs");
    for (name, days) in [("old", 2), ("young", 0), ("driven", 2), ("with.dots", 9), ("kept", 9)] {
        make_old(&runs.join(name), days);
    }
    fs::write(runs.join("a-file"), "").unwrap();
    let outside = world.directory.path().join("outside");
    make_old(&outside, 9);
    std::os::unix::fs::symlink(&outside, runs.join("link")).unwrap();
    // A link in a removed folder isn't followed.
    std::os::unix::fs::symlink(&outside, runs.join("old/link")).unwrap();
    make_old(&runs.join("old"), 2);
    let lease = File::open(runs.join("driven/lease")).unwrap();
    lease.lock().unwrap();
    let report = world.gc(&Retention::default());
    assert_eq!(report.orphans, ["old", "with.dots"]);
    assert_eq!(world.folders(), ["a-file", "driven", "kept", "link", "young"]);
    assert!(outside.join("lease").exists());
    assert!(world.store.run(&kept).unwrap().is_some());
    // The clock was set back, so nothing is old.
    drop(lease);
    let report = world.store.gc(&nothing(), Timestamp(5)).unwrap();
    assert_eq!((report, world.left()), (GcReport::default(), vec!["kept".to_owned()]));
}

#[test]
fn free_space_is_released() {
    let mut world = World::new();
    for number in 0..120 {
        let run = world.create(&record(&format!("run{number}"), 1));
        let outputs = BTreeMap::from([("text".to_owned(), json!("x".repeat(20_000)))]);
        let (stage, outcome) = (StageIndex(0), Outcome::Succeeded);
        world.append(
            &run,
            90,
            vec![EventKind::AttemptEnded { stage, attempt: 1, outcome, failure: None, outputs, made: None }],
        );
        world.append(&run, 90, vec![end()]);
    }
    let path = world.store.directory().join("stagewright.db");
    let report = world.gc(&Retention { runs: 10, ..Retention::default() });
    assert_eq!(report.runs.len(), 110, "in more than one transaction");
    assert!(report.database_bytes > 2_000_000, "{report:?}");
    assert_eq!(fs::metadata(path.with_extension("db-wal")).unwrap().len(), 0);
    assert!(fs::metadata(&path).unwrap().len() < 400_000);
    assert_eq!(world.store.events(&RunId("run119".to_owned())).unwrap().len(), 3);
}

#[test]
fn runs_can_be_driven_during_gc() {
    let mut world = World::new();
    for number in 0..200 {
        world.ended(&format!("run{number}"), 90);
    }
    let driven = world.create(&record("driven", 1));
    let state = world.store.directory().to_owned();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut store = Store::open(&state).unwrap();
            let _lease = store.lock_run(&driven).unwrap();
            for seq in 1..300 {
                let kind = EventKind::AttemptStarted { stage: StageIndex(0), attempt: 1, fence: None };
                store.append(&driven, &[Event { seq, at: NOW, kind }], false).unwrap();
            }
        });
        scope.spawn(|| Store::open(&state).unwrap().gc(&nothing(), NOW).unwrap());
        world.gc(&nothing());
    });
    assert_eq!(world.left(), ["driven"]);
    assert_eq!(world.folders(), ["driven"]);
    assert_eq!(world.store.events(&driven).unwrap().len(), 300);
}
