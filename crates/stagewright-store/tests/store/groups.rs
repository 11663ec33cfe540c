//! Concurrency groups: which run holds the group, and the cancel requests for replaced runs.

use stagewright_engine::{
    Event, EventKind, GroupAnswer, GroupRequest, Outcome, RunCoordinator, RunId, RunStore, Timestamp,
};
use stagewright_model::{Queue, StageIndex};
use stagewright_store::{RunLock, Store};
use tempfile::TempDir;

use super::{event, record, started};

/// A store with the runs a, b, c and d, created in this order, and the locks of processes that drive them.
struct World {
    _directory: TempDir,
    store: Store,
    leases: Vec<(RunId, RunLock)>,
    queue: Queue,
    cancel: bool,
}

impl World {
    fn new(queue: Queue, cancel: bool) -> World {
        let directory = TempDir::new().unwrap();
        let mut store = Store::open(&directory.path().join("state")).unwrap();
        // The clock goes backwards with each call.
        for (id, started) in [("a", 9_000), ("b", 7_000), ("c", 5_000), ("d", 3_000)] {
            store.create_run(&record(id, started)).unwrap();
        }
        let mut world = World { _directory: directory, store, leases: Vec::new(), queue, cancel };
        for id in ["a", "b", "c", "d"] {
            world.start(id);
        }
        world
    }

    fn start(&mut self, id: &str) {
        let lease = self.store.lock_run(&run(id)).unwrap();
        self.leases.push((run(id), lease));
    }

    fn die(&mut self, id: &str) {
        self.leases.retain(|(of, _)| *of != run(id));
    }

    fn join(&mut self, id: &str) -> GroupAnswer {
        let group = "deploy".to_owned();
        let join =
            GroupRequest { run: run(id), group, cancel_in_progress: self.cancel, queue: self.queue, at: Timestamp(10) };
        self.store.enter_group(&join).unwrap()
    }

    fn leave(&mut self, id: &str) {
        self.store.leave_group(&run(id), "deploy").unwrap();
    }

    fn cancels(&mut self, id: &str) -> usize {
        self.store.take_cancels(&run(id)).unwrap().len()
    }

    fn append(&mut self, id: &str, kinds: Vec<EventKind>) {
        let next = self.store.events(&run(id)).unwrap().len() as u64;
        let events: Vec<Event> = (next..).zip(kinds).map(|(seq, kind)| event(seq, kind)).collect();
        self.store.append(&run(id), &events, true).unwrap();
    }
}

fn run(id: &str) -> RunId {
    RunId(id.to_owned())
}

fn granted() -> GroupAnswer {
    replacing(&[])
}

fn replacing(runs: &[&str]) -> GroupAnswer {
    GroupAnswer::Granted { replaced: runs.iter().map(|id| run(id)).collect() }
}

fn waiting(holder: &str) -> GroupAnswer {
    GroupAnswer::Waiting { holder: run(holder) }
}

fn suspended() -> EventKind {
    EventKind::RunSuspended { waiting: vec![StageIndex(1)] }
}

#[test]
fn runs_get_the_group_in_order_of_creation() {
    let mut world = World::new(Queue::Max, false);
    assert_eq!(world.join("a"), granted());
    assert_eq!(world.join("d"), waiting("a"));
    assert_eq!(world.join("b"), waiting("a"));
    assert_eq!(world.join("c"), waiting("a"));
    assert_eq!(world.join("a"), granted(), "it may ask again");
    for (leaves, next) in [("a", "b"), ("b", "c"), ("c", "d")] {
        world.leave(leaves);
        for id in ["d", "c", "b"].into_iter().filter(|id| *id > next) {
            assert_eq!(world.join(id), waiting(next));
        }
        assert_eq!(world.join(next), granted());
    }
    for id in ["a", "b", "c", "d"] {
        assert_eq!(world.cancels(id), 0, "{id}");
    }
}

#[test]
fn waiting_run_gets_a_free_group_before_a_new_one() {
    let mut world = World::new(Queue::Max, false);
    world.join("b");
    world.join("c");
    world.leave("b");
    assert_eq!(world.join("a"), waiting("c"), "though c doesn't know yet");
    assert_eq!(world.join("c"), granted());
}

#[test]
fn runs_of_dead_processes_lose_their_place() {
    let mut world = World::new(Queue::Max, false);
    for id in ["a", "b", "c"] {
        world.join(id);
    }
    world.die("a");
    world.die("b");
    assert_eq!(world.join("c"), granted());
    // The run is resumed.
    world.start("a");
    assert_eq!(world.join("a"), waiting("c"));
}

#[test]
fn resumed_run_keeps_its_place_from_before_the_crash() {
    let mut world = World::new(Queue::Max, false);
    world.join("a");
    world.join("b");
    world.die("a");
    world.start("a");
    assert_eq!(world.join("b"), waiting("a"));
    assert_eq!(world.join("a"), granted());
}

#[test]
fn a_newer_waiting_run_replaces_an_older_one() {
    let mut world = World::new(Queue::Single, false);
    assert_eq!(world.join("a"), granted());
    assert_eq!(world.join("b"), waiting("a"));
    assert_eq!(world.cancels("b"), 0);
    assert_eq!(world.join("c"), waiting("a"));
    let reasons = world.store.take_cancels(&run("b")).unwrap();
    assert_eq!(reasons.len(), 1);
    assert!(reasons[0].contains("`deploy`") && reasons[0].contains("run c"), "{reasons:?}");
    // It requests the group again before it has seen the cancel request.
    assert_eq!(world.join("b"), waiting("a"));
    assert_eq!(world.join("d"), waiting("a"));
    world.leave("a");
    assert_eq!(world.join("b"), waiting("d"), "its turn never comes");
    assert_eq!(world.join("d"), replacing(&["b", "c"]), "c answered for b, and d answers for both");
    assert_eq!(world.join("d"), granted(), "each is named once");
    assert_eq!((world.cancels("a"), world.cancels("b"), world.cancels("c"), world.cancels("d")), (0, 0, 1, 0));
}

#[test]
fn older_run_that_enters_again_is_replaced() {
    let mut world = World::new(Queue::Single, true);
    assert_eq!(world.join("c"), granted());
    assert_eq!(world.join("b"), waiting("c"), "it doesn't ask a newer one to end");
    assert_eq!(world.cancels("c"), 0);
    assert_eq!(world.join("d"), waiting("c"));
    assert_eq!((world.cancels("b"), world.cancels("c")), (1, 1));
    assert_eq!(world.join("a"), waiting("c"), "a newer one waits already");
    assert_eq!((world.cancels("a"), world.cancels("d")), (1, 0));
    world.leave("c");
    assert_eq!(world.join("d"), replacing(&["b", "c", "a"]));
}

#[test]
fn the_run_in_progress_is_asked_once_to_end() {
    let mut world = World::new(Queue::Max, true);
    assert_eq!(world.join("a"), granted());
    for _ in 0..3 {
        assert_eq!(world.join("b"), waiting("a"));
        assert_eq!(world.join("c"), waiting("a"));
    }
    assert_eq!(world.cancels("a"), 1);
    world.append("a", vec![started(), EventKind::RunEnded { conclusion: Outcome::Cancelled }]);
    assert_eq!(world.join("b"), waiting("a"), "what it holds ends with its leaving");
    world.leave("a");
    assert_eq!(world.join("c"), waiting("b"));
    assert_eq!(world.join("b"), replacing(&["a"]));
    world.leave("b");
    assert_eq!(world.join("c"), replacing(&["b"]));
}

#[test]
fn suspended_run_keeps_the_group_until_replaced() {
    let mut world = World::new(Queue::Max, false);
    world.join("a");
    world.append("a", vec![started(), suspended()]);
    world.die("a");
    assert_eq!(world.join("b"), waiting("a"));
    assert_eq!(world.join("b"), waiting("a"));
    world.cancel = true;
    assert_eq!(world.join("c"), waiting("a"), "c asks it to end");
    assert_eq!(world.join("c"), waiting("b"), "nothing of it is running that would have to end first");
    // The run is resumed: it gets the cancel request and has lost its place.
    world.start("a");
    assert_eq!(world.cancels("a"), 1);
    world.cancel = false;
    assert_eq!(world.join("a"), waiting("b"));
}

#[test]
fn run_that_left_its_group_keeps_no_place_after_a_crash() {
    let mut world = World::new(Queue::Max, false);
    world.join("a");
    world.append("a", vec![started(), EventKind::GroupLeft { group: "deploy".to_owned() }, suspended()]);
    world.die("a");
    assert_eq!(world.join("b"), granted());
}

#[test]
fn groups_and_rehearsals_are_separate() {
    let mut world = World::new(Queue::Max, false);
    let mut rehearsal = record("r", 1);
    rehearsal.rehearsal = true;
    world.store.create_run(&rehearsal).unwrap();
    assert_eq!(world.join("a"), granted());
    assert_eq!(world.join("r"), granted());
    let (group, queue) = ("build".to_owned(), Queue::Max);
    let other = GroupRequest { run: run("b"), group, cancel_in_progress: false, queue, at: Timestamp(10) };
    assert_eq!(world.store.enter_group(&other).unwrap(), granted());
    world.leave("r");
    assert_eq!(world.join("b"), waiting("a"));
    assert!(world.store.enter_group(&GroupRequest { run: run("x"), ..other }).is_err());
}

#[test]
fn cancel_request_is_kept_until_the_run_has_ended() {
    let mut world = World::new(Queue::Max, false);
    assert!(world.store.request_cancel(&run("a"), "asked by ann").unwrap());
    assert!(world.store.request_cancel(&run("a"), "asked by bob").unwrap());
    assert_eq!(world.store.take_cancels(&run("a")).unwrap(), ["asked by ann", "asked by bob"]);
    assert_eq!(world.cancels("a"), 0, "once per handle");
    let mut next = Store::open(world.store.directory()).unwrap();
    assert_eq!(next.take_cancels(&run("a")).unwrap().len(), 2, "the process that takes over hears of it");
    world.append("a", vec![started(), EventKind::RunEnded { conclusion: Outcome::Cancelled }]);
    assert_eq!(Store::open(world.store.directory()).unwrap().take_cancels(&run("a")).unwrap(), [""; 0]);
    assert!(!world.store.request_cancel(&run("a"), "too late").unwrap());
    assert!(!world.store.request_cancel(&run("x"), "reason").unwrap());
}

#[test]
fn waiting_run_causes_no_writes() {
    let mut world = World::new(Queue::Max, false);
    world.join("a");
    world.join("b");
    let log = world.store.directory().join("stagewright.db-wal");
    let before = std::fs::read(&log).unwrap();
    assert_eq!(world.join("b"), waiting("a"));
    assert_eq!(std::fs::read(&log).unwrap(), before);
}
