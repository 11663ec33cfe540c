//! The other ports: a store, a coordinator, logs, a clock and an observer, all in memory.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use stagewright_engine::{
    AttemptRequest, Call, Clock, EnvironmentAnswer, EnvironmentRequest, Event, EventKind, GroupAnswer, GroupRequest,
    LogSink, Observer, RunCoordinator, RunId, RunStore, StoreError, StoreErrorKind, Stream, Timestamp,
};
use stagewright_model::StageIndex;

/// Keeps the events in memory, and fails from a given event on.
#[derive(Clone, Default)]
pub(crate) struct FakeStore {
    pub(crate) events: Arc<Mutex<Vec<Event>>>,
    pub(crate) durable: Arc<Mutex<Vec<(u64, bool)>>>,
    pub(crate) full_from: Option<u64>,
}

impl FakeStore {
    /// Whether the intent of the attempt's effect is durable.
    pub(super) fn has_intent(&self, request: &AttemptRequest) -> bool {
        let durable = self.durable.lock().expect("a lock");
        let last = durable.iter().rev().find(|(_, durable)| *durable).map(|(seq, _)| *seq);
        let wanted = (request.stage, request.attempt);
        self.events.lock().expect("a lock").iter().any(|event| {
            let is_it = match (&event.kind, request.call) {
                (EventKind::EffectIntended { stage, attempt, .. }, Call::Run)
                | (EventKind::UndoStarted { stage, attempt, .. }, Call::Undo) => (*stage, *attempt) == wanted,
                _ => false,
            };
            is_it && Some(event.seq) <= last
        })
    }
}

impl RunStore for FakeStore {
    fn append(&mut self, _run: &RunId, events: &[Event], durable: bool) -> Result<(), StoreError> {
        if self.full_from.is_some_and(|full| events.iter().any(|event| event.seq >= full)) {
            return Err(StoreError {
                kind: StoreErrorKind::Storage,
                message: "the disk is full".to_owned(),
                help: None,
                source: None,
            });
        }
        self.durable.lock().expect("a lock").extend(events.iter().map(|event| (event.seq, durable)));
        self.events.lock().expect("a lock").extend_from_slice(events);
        Ok(())
    }
}

/// Grants every environment and group immediately, each time with the next fence.
#[derive(Clone, Default)]
pub(crate) struct FakeCoordinator {
    pub(crate) said: Arc<Mutex<Vec<String>>>,
    /// Answers to return first, in order.
    pub(crate) claims: Arc<Mutex<VecDeque<EnvironmentAnswer>>>,
    pub(crate) joins: Arc<Mutex<VecDeque<GroupAnswer>>>,
    /// The newest fence of each environment.
    fences: Arc<Mutex<HashMap<String, u64>>>,
    /// The fences of the releases that are current in each environment, one for each time that it is asked.
    pub(crate) current: Arc<Mutex<VecDeque<u64>>>,
    /// Whether another run acquires the environment right after it was granted.
    pub(crate) overtaken: bool,
}

impl FakeCoordinator {
    fn say(&self, what: String) {
        self.said.lock().expect("a lock").push(what);
    }
}

/// The answer for an environment without releases.
pub(crate) fn granted(fence: u64) -> EnvironmentAnswer {
    EnvironmentAnswer::Granted { fence, current: None, standing: None, last_known_good: None, restored: None }
}

impl RunCoordinator for FakeCoordinator {
    fn acquire_environment(&mut self, claim: &EnvironmentRequest) -> Result<EnvironmentAnswer, StoreError> {
        self.say(format!("claim {}{}", claim.environment, if claim.override_freeze { "!" } else { "" }));
        let mut fences = self.fences.lock().expect("a lock");
        let newest = fences.entry(claim.environment.clone()).or_default();
        let scripted = self.claims.lock().expect("a lock").pop_front();
        let claimed = scripted.unwrap_or(granted(*newest + 1));
        if let EnvironmentAnswer::Granted { fence, .. } = claimed {
            *newest = fence;
        }
        Ok(claimed)
    }

    fn holds(&mut self, _run: &RunId, environment: &str, fence: u64) -> Result<bool, StoreError> {
        let newest = self.fences.lock().expect("a lock").get(environment).copied();
        Ok(newest == Some(fence) && !self.overtaken)
    }

    fn current_releases(
        &mut self,
        _run: &RunId,
        environments: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, u64>, StoreError> {
        let current = self.current.lock().expect("a lock").pop_front();
        Ok(environments.iter().filter_map(|name| Some((name.clone(), current?))).collect())
    }

    fn release_environment(&mut self, _run: &RunId, environment: &str) -> Result<(), StoreError> {
        self.say(format!("release_environment {environment}"));
        Ok(())
    }

    fn heartbeat(&mut self, _run: &RunId, _now: Timestamp) -> Result<(), StoreError> {
        self.say("beat".to_owned());
        Ok(())
    }

    fn enter_group(&mut self, join: &GroupRequest) -> Result<GroupAnswer, StoreError> {
        self.say(format!("join {}", join.group));
        Ok(self.joins.lock().expect("a lock").pop_front().unwrap_or(GroupAnswer::Granted { replaced: Vec::new() }))
    }

    fn leave_group(&mut self, _run: &RunId, group: &str) -> Result<(), StoreError> {
        self.say(format!("leave {group}"));
        Ok(())
    }
}

pub(super) type Lines = Arc<Mutex<Vec<(StageIndex, String)>>>;

#[derive(Clone, Default)]
pub(super) struct FakeLogs(pub(super) Lines);

impl LogSink for FakeLogs {
    fn append(
        &mut self,
        _at: Timestamp,
        _after: u64,
        stage: StageIndex,
        _attempt: u32,
        _stream: Stream,
        lines: &stagewright_engine::Lines,
    ) -> Result<(), StoreError> {
        self.0.lock().expect("a lock").extend(lines.iter().map(|line| (stage, line.to_owned())));
        Ok(())
    }

    fn seal(&mut self, stage: StageIndex, _attempt: u32) -> Result<(), StoreError> {
        self.0.lock().expect("a lock").push((stage, "<sealed>".to_owned()));
        Ok(())
    }
}

/// Tokio's paused clock, which jumps to the next timer when all tasks are idle. Its wall clock starts at `from`, and is set
/// forward by `jump` at a time.
pub(super) struct FakeClock {
    pub(super) start: tokio::time::Instant,
    pub(super) from: Duration,
    pub(super) jump: Option<(Duration, Duration)>,
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        let elapsed = self.start.elapsed();
        let jumped = self.jump.filter(|(at, _)| elapsed >= *at).map_or(Duration::ZERO, |(_, by)| by);
        Timestamp(u64::try_from((self.from + elapsed + jumped).as_millis()).expect("a short test"))
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(duration).boxed()
    }
}

/// Keeps the observed events, and checks that each was recorded first.
pub(super) struct FakeObserver {
    pub(super) observed: Arc<Mutex<Vec<Event>>>,
    pub(super) recorded: Arc<Mutex<Vec<Event>>>,
}

impl Observer for FakeObserver {
    fn on_event(&mut self, event: &Event) {
        if event.kind.is_recorded() {
            let recorded = self.recorded.lock().expect("a lock");
            assert!(recorded.iter().any(|one| one == event), "observed before it was recorded: {event:?}");
        }
        self.observed.lock().expect("a lock").push(event.clone());
    }
}
