//! Opening new, older, damaged and read-only stores.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rusqlite::Connection;
use stagewright_engine::{
    EnvironmentAnswer, EnvironmentRequest, EventKind, LogSink, RunCoordinator, RunId, RunStore, Stream, Timestamp,
};
use stagewright_model::StageIndex;
use stagewright_store::{RunFilter, RunPhase, Store};
use tempfile::TempDir;

use super::{event, events, record, report, run_id, started, store};

#[test]
fn many_processes_may_open_a_new_store_at_once() {
    let directory = TempDir::new().unwrap();
    let state = directory.path().join("state");
    std::thread::scope(|scope| {
        for number in 0..8 {
            let state = &state;
            scope.spawn(move || {
                let mut store = Store::open(state).unwrap();
                store.create_run(&record(&format!("run{number}"), number)).unwrap();
            });
        }
    });
    assert_eq!(Store::open(&state).unwrap().list(&RunFilter::default()).unwrap().len(), 8);
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let (directory, store) = store();
    drop(store);
    let path = directory.path().join("state/stagewright.db");
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let before = fs::read(&path).unwrap();
    let error = Store::open(&directory.path().join("state")).unwrap_err();
    assert!(report(&error).contains("schema version 99") && report(&error).contains("at most 6"), "{}", report(&error));
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn the_database_of_another_program_is_refused_and_left_alone() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("stagewright.db");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    let before = fs::read(&path).unwrap();
    let error = Store::open(directory.path()).unwrap_err();
    assert!(report(&error).contains("another program"), "{}", report(&error));
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn damaged_database_is_reported_and_unchanged() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("stagewright.db");
    fs::write(&path, "not a database, but long enough to be looked at as one".repeat(100)).unwrap();
    let before = fs::read(&path).unwrap();
    let error = Store::open(directory.path()).unwrap_err();
    assert!(report(&error).contains("is damaged") && report(&error).contains("stagewright.db"), "{}", report(&error));
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn damaged_page_is_an_error_and_never_a_shorter_journal() {
    let (directory, mut store) = store();
    store.append(&run_id(), &events(5_000), true).unwrap();
    drop(store);
    let path = directory.path().join("state/stagewright.db");
    let mut bytes = fs::read(&path).unwrap();
    let pages = bytes.len() / 4096;
    assert!(pages > 100, "most pages are the journal's");
    let middle = pages / 2 * 4096;
    bytes[middle..middle + 4096].fill(0xA5);
    fs::write(&path, bytes).unwrap();
    let error = Store::open(&directory.path().join("state")).unwrap().events(&run_id()).unwrap_err();
    assert!(report(&error).contains("01run") && report(&error).contains("is damaged"), "{}", report(&error));
}

#[test]
fn folder_that_cannot_be_created_is_reported_with_its_path() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Store::open(&file.join("state")).unwrap_err();
    assert!(
        report(&error).contains("file/state") && report(&error).contains("another state folder"),
        "{}",
        report(&error)
    );
}

#[test]
fn the_folder_is_private_and_ignored_by_git() {
    let (directory, store) = store();
    let state = directory.path().join("state");
    assert_eq!(fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::read_to_string(state.join(".gitignore")).unwrap(), "*\n");
    assert!(store.run_directory(&run_id()).is_dir());
}

/// A database of the first version, with a run that has ended, one that waits, and an older one with a later id.
fn version_1(state: &Path) {
    fs::create_dir_all(state.join("runs")).unwrap();
    let connection = Connection::open(state.join("stagewright.db")).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection.execute_batch(include_str!("../../src/schema/0001.sql")).unwrap();
    connection.pragma_update(None, "application_id", 0x5367_5772).unwrap();
    connection.pragma_update(None, "user_version", 1).unwrap();
    for (id, started, conclusion, suspended) in
        [("01run", 1_000, Some("failed"), 0), ("02run", 2_000, None, 1), ("03old", 500, Some("succeeded"), 0)]
    {
        connection
            .execute(
                "INSERT INTO runs (id, pipeline, file, pipeline_text, started, rehearsal, inputs, source, ended,
                     conclusion, suspended)
                 VALUES (?1, 'release', 'stagewright.toml', 'schema = 1', ?2, 0, '{}', '{}', ?2, ?3, ?4)",
                (id, started, conclusion, suspended),
            )
            .unwrap();
    }
    for event in events(3) {
        let kind = serde_json::to_string(&event.kind).unwrap();
        let row = ("01run", event.seq.cast_signed(), event.at.0.cast_signed(), kind);
        connection.execute("INSERT INTO events (run, seq, at, kind) VALUES (?1, ?2, ?3, ?4)", row).unwrap();
    }
}

fn versions(state: &Path) -> i64 {
    let connection = Connection::open(state.join("stagewright.db")).unwrap();
    connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
}

fn ids(store: &Store) -> Vec<String> {
    store.list(&RunFilter::default()).unwrap().into_iter().map(|row| row.id.0).collect()
}

#[test]
fn a_database_of_version_1_is_brought_up_to_date() {
    let directory = TempDir::new().unwrap();
    version_1(directory.path());
    let mut store = Store::open(directory.path()).unwrap();
    assert_eq!(versions(directory.path()), 6);
    assert_eq!(ids(&store), ["02run", "01run", "03old"], "they are in the order of their start");
    assert_eq!(store.list(&RunFilter::default()).unwrap()[0].state, RunPhase::Waiting);
    assert_eq!(store.events(&run_id()).unwrap(), events(3));
    assert_eq!(store.run(&run_id()).unwrap().unwrap().pipeline_text, "schema = 1");
    let again = EventKind::RunResumed {
        reason: "asked for".to_owned(),
        again: Vec::new(),
        changed: Vec::new(),
        pipeline: None,
    };
    store.append(&run_id(), &[event(3, again)], true).unwrap();
    // New runs come after the existing ones, also when they acquire environments.
    store.create_run(&record("00new", 1)).unwrap();
    assert_eq!(ids(&store)[0], "00new");
    let claim = |store: &mut Store, run: &str| {
        let (run, environment) = (RunId(run.to_owned()), "production".to_owned());
        RunCoordinator::acquire_environment(
            store,
            &EnvironmentRequest { run, environment, override_freeze: false, take_over: false, at: Timestamp(1) },
        )
        .unwrap()
    };
    assert!(matches!(claim(&mut store, "02run"), EnvironmentAnswer::Granted { fence: 1, .. }));
    assert_eq!(claim(&mut store, "01run"), EnvironmentAnswer::Superseded { by: RunId("02run".to_owned()) });
    assert!(matches!(claim(&mut store, "00new"), EnvironmentAnswer::Granted { fence: 2, .. }));
}

#[test]
fn old_database_is_migrated_by_any_reader() {
    let directory = TempDir::new().unwrap();
    version_1(directory.path());
    assert_eq!(ids(&Store::open_read_only(directory.path()).unwrap()), ["02run", "01run", "03old"]);
    assert_eq!(versions(directory.path()), 6);
}

#[test]
fn truncated_database_is_reported_and_never_shorter() {
    let (directory, mut store) = store();
    store.append(&run_id(), &events(2_000), true).unwrap();
    drop(store);
    let state = directory.path().join("state");
    let path = state.join("stagewright.db");
    let whole = fs::read(&path).unwrap();
    assert!(!state.join("stagewright.db-wal").exists(), "the last to close writes everything back");
    let cuts = [0, 1, 16, 99, 100, 512, 4_095, 4_096, 4_097, whole.len() / 2, whole.len() - 4_096, whole.len() - 1];
    for cut in cuts {
        for open in [Store::open, Store::open_read_only] {
            fs::write(&path, &whole[..cut]).unwrap();
            let Err(error) = open(&state) else { panic!("cut at {cut}: opened") };
            assert!(report(&error).contains("is damaged: restore a copy"), "cut at {cut}: {}", report(&error));
            assert!(report(&error).contains("state/stagewright.db"), "cut at {cut}: {}", report(&error));
            assert_eq!(fs::read(&path).unwrap().len(), cut, "it is left as it was found");
        }
    }
}

#[test]
fn a_damaged_last_page_is_an_error_when_it_is_read() {
    let (directory, mut store) = store();
    store.append(&run_id(), &events(2_000), true).unwrap();
    drop(store);
    let path = directory.path().join("state/stagewright.db");
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 4_096;
    bytes[last..].fill(0);
    fs::write(&path, &bytes).unwrap();
    let mut store = Store::open(&directory.path().join("state")).unwrap();
    let error = store.events(&run_id()).unwrap_err();
    assert!(report(&error).contains("is damaged"), "{}", report(&error));
    assert!(store.append(&run_id(), &[event(2_000, started())], true).is_err(), "nor does it grow");
}

#[test]
fn log_of_a_missing_database_is_not_discarded() {
    let (directory, mut store) = store();
    store.append(&run_id(), &events(5), true).unwrap();
    let state = directory.path().join("state");
    let copy = directory.path().join("copy");
    fs::create_dir(&copy).unwrap();
    let log = copy.join("stagewright.db-wal");
    fs::copy(state.join("stagewright.db-wal"), &log).unwrap();
    let length = fs::metadata(&log).unwrap().len();
    for open in [Store::open, Store::open_read_only] {
        let error = open(&copy).unwrap_err();
        assert!(report(&error).contains("does not exist, but its log"), "{}", report(&error));
        assert_eq!(fs::metadata(&log).unwrap().len(), length);
    }
}

#[test]
fn new_database_replaces_one_that_was_moved_away() {
    let (directory, store) = store();
    drop(store);
    let state = directory.path().join("state");
    fs::rename(state.join("stagewright.db"), directory.path().join("elsewhere")).unwrap();
    assert_eq!(ids(&Store::open(&state).unwrap()), [""; 0]);
}

#[test]
fn reading_a_missing_store_does_not_create_it() {
    let directory = TempDir::new().unwrap();
    let state = directory.path().join("state");
    let mut store = Store::open_read_only(&state).unwrap();
    assert_eq!(ids(&store), [""; 0]);
    assert!(report(&store.find("latest").unwrap_err()).contains("no run"));
    assert_eq!(store.take_cancels(&run_id()).unwrap(), [""; 0]);
    assert!(store.request_cancel(&run_id(), "why").is_err(), "no process would ever read it there");
    assert!(!state.exists());
}

#[test]
fn reader_sees_concurrent_writes() {
    let (directory, mut store) = store();
    let state = directory.path().join("state");
    let reader = Store::open_read_only(&state).unwrap();
    store.append(&run_id(), &events(2), false).unwrap();
    assert_eq!(reader.events(&run_id()).unwrap(), events(2));
    drop(store);
    assert_eq!(reader.events(&run_id()).unwrap(), events(2));
    let mut reader = reader;
    let error = reader.append(&run_id(), &[event(2, started())], true).unwrap_err();
    assert!(report(&error).contains("write access"), "{}", report(&error));
}

/// Calls `work` without write access to the store. Root can write everywhere, so it switches to another user meanwhile.
fn unprivileged<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let act = || {
        if rustix::process::geteuid().is_root() {
            let other = rustix::process::Uid::from_raw(65_534);
            // Only of this thread.
            rustix::thread::set_thread_res_uid(other, other, other).unwrap();
        }
        work()
    };
    std::thread::scope(|scope| scope.spawn(act).join().unwrap())
}

fn set_modes(state: &Path, folder: u32, file: u32) {
    let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    mode(state.parent().unwrap(), 0o755);
    for entry in fs::read_dir(state).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file()) {
        mode(&entry.path(), file);
    }
    mode(state, folder);
}

#[test]
fn read_only_store_can_be_read() {
    let (directory, mut store) = store();
    let state = directory.path().join("state");
    store.append(&run_id(), &events(3), true).unwrap();
    let mut logs = store.logs(&run_id()).unwrap();
    logs.append(Timestamp(5), 0, StageIndex(0), 1, Stream::Stdout, &"one".into()).unwrap();
    let read = || {
        unprivileged(|| {
            let mut store = Store::open_read_only(&state).unwrap();
            assert_eq!((ids(&store), store.events(&run_id()).unwrap()), (vec!["01run".to_owned()], events(3)));
            let lines: Vec<_> = store.read_log(&run_id(), StageIndex(0), 1).map(Result::unwrap).collect();
            assert_eq!(lines[0].text, "one");
            let written = store.append(&run_id(), &[event(3, started())], true).map_err(|error| report(&error));
            (written, Store::open(&state).map_err(|error| report(&error)).map(drop))
        })
    };
    // Give access to the logs, since the folder of a run belongs to its owner.
    set_modes(&state.join("runs/01run/logs"), 0o755, 0o644);
    set_modes(&state.join("runs/01run"), 0o755, 0o644);
    set_modes(&state.join("runs"), 0o755, 0o644);
    let refused = |(written, opened): (Result<(), String>, Result<(), String>)| {
        assert!(written.unwrap_err().contains("give this user write access"));
        let opened = opened.unwrap_err();
        assert!(opened.contains("belongs to user 0") && opened.contains("change its owner"), "{opened}");
    };
    // With a writer, whose `-wal` and `-shm` files exist, and without one.
    set_modes(&state, 0o555, 0o444);
    assert!(state.join("stagewright.db-wal").exists());
    refused(read());
    set_modes(&state, 0o755, 0o644);
    drop(store);
    assert!(!state.join("stagewright.db-wal").exists());
    set_modes(&state, 0o555, 0o444);
    refused(read());
    assert!(!state.join("stagewright.db-shm").exists());
    set_modes(&state, 0o755, 0o644);
}

#[test]
fn old_read_only_database_is_reported() {
    let directory = TempDir::new().unwrap();
    let state = directory.path().join("state");
    fs::create_dir(&state).unwrap();
    version_1(&state);
    set_modes(&state, 0o555, 0o444);
    let error = unprivileged(|| report(&Store::open_read_only(&state).unwrap_err()));
    assert!(error.contains("belongs to user 0") && error.contains("change its owner"), "{error}");
    set_modes(&state, 0o755, 0o644);
}

#[test]
fn special_characters_in_paths_are_supported() {
    let directory = TempDir::new().unwrap();
    let state = directory.path().join("a?mode=memory#b%20c ä");
    Store::open(&state).unwrap().create_run(&record("01run", 1)).unwrap();
    set_modes(&state, 0o555, 0o444);
    unprivileged(|| assert_eq!(ids(&Store::open_read_only(&state).unwrap()), ["01run"]));
    set_modes(&state, 0o755, 0o644);
}

#[test]
fn access_of_others_to_a_state_folder_is_removed() {
    let folder = TempDir::new().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let set = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    let state = folder.path().join("state");
    drop(Store::open(&state).unwrap());
    let database = state.join("stagewright.db");
    assert_eq!((mode(&state), mode(&database)), (0o700, 0o600));
    set(&state, 0o755);
    set(&database, 0o644);
    drop(Store::open(&state).unwrap());
    assert_eq!((mode(&state), mode(&database)), (0o700, 0o600));
}
