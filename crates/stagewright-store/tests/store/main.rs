//! The public API of the store: what it stores, what it refuses, and its state after a crash.

#![expect(clippy::disallowed_methods, reason = "tests read what they made themselves")]
#![expect(clippy::unwrap_used, reason = "a helper of tests fails the test that called it")]

mod environments;
mod gc;
mod groups;
mod ledger;
mod log;
mod open;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::json;
use stagewright_engine::{
    Decision, EffectClass, Event, EventKind, Gate, GitState, Outcome, RunId, RunSource, RunStore, Signal, StageSummary,
    StoreError, Stream, Timestamp,
};
use stagewright_model::{StageIndex, StageKind};
use stagewright_store::{RunFilter, RunPhase, RunRecord, Store};
use tempfile::TempDir;

fn run_id() -> RunId {
    RunId("01run".to_owned())
}

fn record(id: &str, started: u64) -> RunRecord {
    RunRecord {
        id: RunId(id.to_owned()),
        pipeline: "release".to_owned(),
        file: "stagewright.toml".to_owned(),
        pipeline_text: "schema = 1\n".to_owned(),
        started: Timestamp(started),
        rehearsal: false,
        inputs: BTreeMap::from([("version".to_owned(), json!("1.2"))]),
        source: source(),
    }
}

fn source() -> RunSource {
    RunSource { git: GitState { commit: "abc".to_owned(), ..GitState::default() }, ..RunSource::default() }
}

fn store() -> (TempDir, Store) {
    let directory = TempDir::new().unwrap();
    let mut store = Store::open(&directory.path().join("state")).unwrap();
    store.create_run(&record("01run", 1_000)).unwrap();
    (directory, store)
}

fn event(seq: u64, kind: EventKind) -> Event {
    Event { seq, at: Timestamp(1_000 + seq), kind }
}

fn started() -> EventKind {
    let stage = |id: &str| StageSummary {
        id: id.to_owned(),
        name: id.to_owned(),
        kind: StageKind::Main,
        uses: "noop".to_owned(),
        needs: Vec::new(),
        environment: None,
        plugin: None,
        effect: EffectClass::Pure,
        rehearsal: None,
    };
    EventKind::RunStarted {
        run: run_id(),
        pipeline: "release".to_owned(),
        file: "stagewright.toml".to_owned(),
        rehearsal: false,
        inputs: BTreeMap::new(),
        source: Box::default(),
        stages: vec![stage("test").into(), stage("approve").into()],
    }
}

fn attempt(stage: u32) -> EventKind {
    EventKind::AttemptStarted { stage: StageIndex(stage), attempt: 1, fence: None }
}

fn gate_opened() -> EventKind {
    let gate = Gate {
        token: "g1".to_owned(),
        message: "Deploy?".to_owned(),
        approvers: Vec::new(),
        approvals: 1,
        fields: Vec::new(),
        expires: None,
        ..Gate::default()
    };
    EventKind::GateOpened { stage: StageIndex(1), attempt: 1, gate }
}

/// Stores an answer for the second stage without checking it.
fn put(store: &mut Store, run: &RunId, decision: &Decision) -> Result<(), StoreError> {
    store.put_decision(run, StageIndex(1), decision, |_, _| Ok::<_, std::convert::Infallible>(()))?.unwrap();
    Ok(())
}

fn decision(by: &str) -> Decision {
    Decision { token: "g1".to_owned(), approved: true, by: by.to_owned(), ..Decision::default() }
}

fn ended(stage: u32, outcome: Outcome) -> EventKind {
    EventKind::StageEnded { stage: StageIndex(stage), outcome, conclusion: outcome, reason: None }
}

/// `count` events: the start, then attempts.
fn events(count: u64) -> Vec<Event> {
    (0..count).map(|seq| event(seq, if seq == 0 { started() } else { attempt(0) })).collect()
}

fn report(error: &StoreError) -> String {
    let cause = error.source.as_ref().map(|cause| format!("; {cause}")).unwrap_or_default();
    format!("{error}{cause}; {}", error.help.as_deref().unwrap_or("no help"))
}

#[test]
fn events_are_read_in_the_order_of_appending() {
    let (directory, mut store) = store();
    let all = events(600);
    store.append(&run_id(), &all[..1], true).unwrap();
    for chunk in all[1..].chunks(7) {
        store.append(&run_id(), chunk, false).unwrap();
    }
    assert_eq!(store.events(&run_id()).unwrap(), all);
    assert_eq!(store.events_from(&run_id(), 598).unwrap(), all[598..]);
    drop(store);
    let again = Store::open(&directory.path().join("state")).unwrap();
    assert_eq!(again.events(&run_id()).unwrap(), all);
    assert_eq!(again.run(&run_id()).unwrap(), Some(record("01run", 1_000)));
}

#[test]
fn log_lines_are_not_journalled() {
    let (_directory, mut store) = store();
    let line = EventKind::Log { stage: StageIndex(0), attempt: 1, stream: Stream::Stdout, line: "x".to_owned() };
    store.append(&run_id(), &[event(0, started()), event(0, line), event(1, attempt(0))], true).unwrap();
    assert_eq!(store.events(&run_id()).unwrap(), events(2));
}

#[test]
fn gaps_and_repetitions_refuse_the_whole_batch() {
    let (_directory, mut store) = store();
    store.append(&run_id(), &events(2), true).unwrap();
    for wrong in
        [vec![event(3, attempt(0))], vec![event(1, attempt(0))], vec![event(2, attempt(0)), event(4, attempt(0))]]
    {
        let error = store.append(&run_id(), &wrong, true).unwrap_err();
        assert!(report(&error).contains("the journal's next event is"), "{}", report(&error));
        assert_eq!(store.events(&run_id()).unwrap(), events(2));
    }
    store.append(&run_id(), &[event(2, attempt(0))], false).unwrap();
}

#[test]
fn a_run_must_be_created_once_and_under_a_name_that_can_be_a_folder() {
    let (_directory, mut store) = store();
    let error = store.append(&RunId("other".to_owned()), &events(1), true).unwrap_err();
    assert!(report(&error).contains("has no run other"), "{}", report(&error));
    assert!(store.create_run(&record("01run", 5)).is_err());
    for id in ["", "../up", "a/b", "a b"] {
        assert!(report(&store.create_run(&record(id, 5)).unwrap_err()).contains("invalid run id"), "{id:?}");
    }
}

#[test]
fn two_handles_see_each_other_and_cannot_both_write_the_same_event() {
    let (directory, mut first) = store();
    let mut second = Store::open(&directory.path().join("state")).unwrap();
    first.append(&run_id(), &events(2), false).unwrap();
    assert_eq!(second.events(&run_id()).unwrap(), events(2));
    second.append(&run_id(), &[event(2, attempt(0))], true).unwrap();
    let error = first.append(&run_id(), &[event(2, attempt(1))], true).unwrap_err();
    assert!(report(&error).contains("the journal's next event is 3"), "{}", report(&error));
    first.append(&run_id(), &[event(3, attempt(1))], true).unwrap();
    assert_eq!(second.events(&run_id()).unwrap().len(), 4);
}

/// Copies the database as a power cut would leave it: the write-ahead log ends after `length` bytes.
fn copy_cut(state: &Path, to: &Path, length: u64) {
    fs::create_dir_all(to).unwrap();
    fs::copy(state.join("stagewright.db"), to.join("stagewright.db")).unwrap();
    let log = fs::read(state.join("stagewright.db-wal")).unwrap();
    fs::write(to.join("stagewright.db-wal"), &log[..usize::try_from(length).unwrap()]).unwrap();
}

#[test]
fn a_crash_at_any_byte_leaves_a_beginning_of_the_journal_made_of_whole_appends() {
    let (directory, mut store) = store();
    let state = directory.path().join("state");
    let length = || fs::metadata(state.join("stagewright.db-wal")).unwrap().len();
    let all = events(13);
    let mut appended = vec![(length(), 0)];
    for (number, chunk) in all.chunks(3).enumerate() {
        store.append(&run_id(), chunk, number % 2 == 0).unwrap();
        appended.push((length(), (number + 1) * 3));
    }
    for (number, cut) in (appended[0].0..=length()).step_by(997).chain([length()]).enumerate() {
        let copy = directory.path().join(format!("copy{number}"));
        copy_cut(&state, &copy, cut);
        let expected = appended.iter().rfind(|(length, _)| *length <= cut).unwrap().1.min(all.len());
        let recovered = Store::open(&copy).unwrap();
        assert_eq!(recovered.events(&run_id()).unwrap(), all[..expected], "cut at {cut}");
    }
}

#[test]
fn runs_are_listed_newest_first_with_their_phase() {
    let (_directory, mut store) = store();
    let mut second = record("02run", 2_000);
    second.pipeline = "nightly".to_owned();
    store.create_run(&second).unwrap();
    store.append(&run_id(), &[event(0, started()), event(1, attempt(0)), event(2, attempt(1))], true).unwrap();
    let row =
        |store: &Store| store.list(&RunFilter::default()).unwrap().into_iter().find(|row| row.id == run_id()).unwrap();
    assert_eq!(row(&store).state, RunPhase::Interrupted);
    assert_eq!(row(&store).source, source());

    let lease = store.lock_run(&run_id()).unwrap();
    assert_eq!(row(&store).state, RunPhase::Running);
    store.append(&run_id(), &[event(3, ended(0, Outcome::Failed)), event(4, gate_opened())], true).unwrap();
    assert_eq!((row(&store).waiting, row(&store).failed_stage), (vec!["approve".to_owned()], Some("test".to_owned())));
    let suspended = EventKind::RunSuspended { waiting: vec![StageIndex(1)] };
    store.append(&run_id(), &[event(5, suspended)], true).unwrap();
    drop(lease);
    assert_eq!(row(&store).state, RunPhase::Waiting);

    let resumed = EventKind::RunResumed {
        reason: "asked for".to_owned(),
        again: vec![StageIndex(0)],
        changed: Vec::new(),
        pipeline: Some("another text".to_owned()),
    };
    store.append(&run_id(), &[event(6, resumed), event(7, ended(1, Outcome::Rejected))], true).unwrap();
    assert_eq!(store.run(&run_id()).unwrap().unwrap().pipeline_text, "another text");
    assert_eq!((row(&store).waiting, row(&store).failed_stage), (vec![], Some("approve".to_owned())));
    store.append(&run_id(), &[event(8, EventKind::RunEnded { conclusion: Outcome::Rejected })], true).unwrap();
    assert_eq!((row(&store).state, row(&store).duration()), (RunPhase::Ended(Outcome::Rejected), 8));

    let ids = |filter: &RunFilter| store.list(filter).unwrap().into_iter().map(|row| row.id.0).collect::<Vec<_>>();
    assert_eq!(ids(&RunFilter::default()), ["02run", "01run"]);
    assert_eq!(ids(&RunFilter { limit: Some(1), ..RunFilter::default() }), ["02run"]);
    assert_eq!(ids(&RunFilter { pipeline: Some("release".to_owned()), limit: None }), ["01run"]);
}

#[test]
fn run_is_found_by_a_prefix_of_its_id() {
    let (_directory, mut store) = store();
    for (id, started) in [("01runner", 500), ("02run", 2_000), ("02ran", 1_500), ("latest-but-one", 1)] {
        store.create_run(&record(id, started)).unwrap();
    }
    let found = |what: &str| store.find(what).map(|run| run.0).map_err(|error| report(&error));
    assert_eq!(found("latest").unwrap(), "latest-but-one", "the last that was made, whatever the clock said");
    assert_eq!(found("01run").unwrap(), "01run", "a whole id wins over a longer one");
    assert_eq!(found("01runn").unwrap(), "01runner");
    assert!(found("02").unwrap_err().contains("02ran, 02run"), "{:?}", found("02"));
    assert!(found("x").unwrap_err().contains("no run \"x\""), "{:?}", found("x"));
    assert!(found("%").is_err() && found("").is_err());
}

#[test]
fn decision_is_kept_until_its_event_is_recorded() {
    let (directory, mut driver) = store();
    let state = directory.path().join("state");
    driver.append(&run_id(), &[event(0, started()), event(1, attempt(1)), event(2, gate_opened())], true).unwrap();
    let gates = driver.open_gates(&run_id()).unwrap();
    assert_eq!((gates.len(), gates[0].stage_id.as_str(), gates[0].gate.token.as_str()), (1, "approve", "g1"));

    let mut approver = Store::open(&state).unwrap();
    put(&mut approver, &run_id(), &decision("ann")).unwrap();
    assert!(put(&mut approver, &RunId("none".to_owned()), &decision("ann")).is_err());
    let expected = vec![(StageIndex(1), decision("ann"))];
    assert_eq!(driver.take_decisions(&run_id()).unwrap(), expected);
    assert_eq!(driver.take_decisions(&run_id()).unwrap(), []);

    // The drive ends before it records the answer, and the same handle drives the run again.
    driver.redeliver(&RunId("other".to_owned())).unwrap();
    assert_eq!(driver.take_decisions(&run_id()).unwrap(), []);
    driver.redeliver(&run_id()).unwrap();
    assert_eq!(driver.take_decisions(&run_id()).unwrap(), expected);

    // The process dies before it records the answer: the next one gets it again.
    let mut next = Store::open(&state).unwrap();
    assert_eq!(next.take_decisions(&run_id()).unwrap(), expected);
    let decided = EventKind::GateDecided { stage: StageIndex(1), decision: decision("ann") };
    next.append(&run_id(), &[event(3, decided)], true).unwrap();
    assert_eq!(Store::open(&state).unwrap().take_decisions(&run_id()).unwrap(), []);
}

#[test]
fn signal_is_kept_until_its_event_is_recorded() {
    let (directory, mut driver) = store();
    let state = directory.path().join("state");
    driver.append(&run_id(), &[event(0, started()), event(1, attempt(1))], true).unwrap();
    let mut sender = Store::open(&state).unwrap();
    let signal = |number| Signal {
        number,
        token: "job-7".to_owned(),
        stage: None,
        payload: serde_json::json!({ "exit": 0 }),
        by: "ann".to_owned(),
        at: Timestamp(5),
    };
    let put = |store: &mut Store, run: &RunId| {
        store.put_signal(run, &signal(0), |_, pending| Ok::<_, ()>(pending.len())).map(|checked| checked.unwrap())
    };
    assert_eq!(put(&mut sender, &run_id()).unwrap(), 0);
    assert_eq!(put(&mut sender, &run_id()).unwrap(), 1, "the same signal twice is two signals");
    assert!(put(&mut sender, &RunId("none".to_owned())).is_err());
    let refused: Result<(), &str> = sender.put_signal(&run_id(), &signal(0), |_, _| Err("no")).unwrap();
    assert_eq!(refused, Err("no"));
    assert_eq!(driver.take_signals(&run_id()).unwrap(), [signal(1), signal(2)]);
    assert_eq!(driver.take_signals(&run_id()).unwrap(), []);
    driver.redeliver(&run_id()).unwrap();
    assert_eq!(driver.take_signals(&run_id()).unwrap().len(), 2);

    let kept = EventKind::SignalKept { signal: signal(1) };
    driver.append(&run_id(), &[event(2, kept)], true).unwrap();
    let mut next = Store::open(&state).unwrap();
    assert_eq!(next.take_signals(&run_id()).unwrap(), [signal(2)], "the first one is in the journal");
    let ended = EventKind::RunEnded { conclusion: Outcome::Succeeded };
    next.append(&run_id(), &[event(3, ended)], true).unwrap();
    assert_eq!(Store::open(&state).unwrap().take_signals(&run_id()).unwrap(), []);
}

#[test]
fn only_one_process_drives_a_run() {
    let (directory, store) = store();
    let other = Store::open(&directory.path().join("state")).unwrap();
    let lease = store.lock_run(&run_id()).unwrap();
    let error = other.lock_run(&run_id()).unwrap_err();
    assert!(report(&error).contains(&format!("process {}", std::process::id())), "{}", report(&error));
    drop(lease);
    other.lock_run(&run_id()).unwrap();
}

#[test]
fn answer_is_checked_against_earlier_stored_answers() {
    let (_directory, mut store) = store();
    store.append(&run_id(), &events(3), true).unwrap();
    let seen = |store: &mut Store, by: &str| {
        let checked = store.put_decision(&run_id(), StageIndex(1), &decision(by), |events, left| {
            let left: Vec<String> = left.iter().map(|(_, decision)| decision.by.clone()).collect();
            if left.iter().any(|earlier| earlier == by) { Err((events.len(), left)) } else { Ok(left.len()) }
        });
        checked.unwrap()
    };
    assert_eq!(seen(&mut store, "ann"), Ok(0));
    assert_eq!(seen(&mut store, "bob"), Ok(1));
    assert_eq!(seen(&mut store, "ann"), Err((3, vec!["ann".to_owned(), "bob".to_owned()])));
    assert_eq!(store.take_decisions(&run_id()).unwrap().len(), 2, "what was refused is not left");
}
