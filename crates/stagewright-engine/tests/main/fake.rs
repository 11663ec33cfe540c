//! A world that does as it is told.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::Value as Json;
use stagewright_engine::{
    Artifact, AttemptEnd, AttemptOutput, AttemptReport, AttemptRequest, Call, Capture, CaptureRequest, Clock, Decision,
    DriveError, EnvironmentAnswer, EnvironmentRequest, Event, EventKind, Failure, FailureKind, Finding, Gate,
    GroupAnswer, GroupRequest, Input, Interrupt, LogSink, Made, Observation, Observer, Outcome, Ports, ReleaseNote,
    RunCommand, RunCoordinator, RunId, RunState, RunStore, RunSummary, RunValues, Scheduler, StageRunner, StoreError,
    StoreErrorKind, Stream, Timestamp, drive,
};
use stagewright_model::{Plan, StageIndex};
use tokio::sync::{mpsc, watch};

/// What an attempt does, after it has taken its time.
#[derive(Clone)]
pub(crate) enum Act {
    Succeed,
    Output(&'static str, Json),
    Fail,
    Deny,
    Skip(&'static str),
    Rehearse(&'static str),
    Ask(Gate),
    Panic,
    /// Goes on until it is asked to stop.
    Hang,
    /// Goes on until it is told to stop at once.
    IgnoreGraceful,
    /// Never stops.
    IgnoreEverything,
    Say(&'static [&'static str]),
    /// Announces an effect, has it if it may, and goes on with the other act.
    Reach(Box<Act>),
    /// Deploys what has this digest.
    Deploy(&'static str),
    TimeOut,
    /// Leaves something behind that wants to have an effect after so long, and goes on with the other act.
    Linger(Duration, Box<Act>),
    Observe(Observation),
    /// Publishes files of these names, and goes on with the other act.
    Publish(&'static [&'static str], Box<Act>),
}

pub(crate) fn reach(then: Act) -> Act {
    Act::Reach(Box::new(then))
}

pub(crate) fn found(finding: Finding) -> Act {
    Act::Observe(Observation::Found(finding))
}

/// A script for each stage, an act for each attempt; the last act repeats, and a stage without script succeeds. The
/// other calls of a stage's plugin have scripts of their own, `observe STAGE` and `undo STAGE`.
#[derive(Clone, Default)]
pub(crate) struct Script {
    acts: HashMap<String, VecDeque<Act>>,
}

impl Script {
    pub(crate) fn of(acts: impl IntoIterator<Item = (&'static str, Vec<Act>)>) -> Script {
        Script { acts: acts.into_iter().map(|(stage, acts)| (stage.to_owned(), acts.into())).collect() }
    }

    pub(crate) fn add(&mut self, stage: &str, acts: Vec<Act>) {
        self.acts.insert(stage.to_owned(), acts.into());
    }

    fn next(&mut self, stage: &str) -> Act {
        match self.acts.get_mut(stage) {
            None if stage.starts_with("observe ") => found(Finding::NotStarted),
            None => Act::Succeed,
            Some(acts) if acts.len() > 1 => acts.pop_front().expect("more than one"),
            Some(acts) => acts.front().cloned().unwrap_or(Act::Succeed),
        }
    }
}

/// What the runner saw.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) requests: Vec<AttemptRequest>,
    pub(crate) running: usize,
    pub(crate) most_running: usize,
    /// `STAGE#ATTEMPT` of each effect that was allowed, as [`label`] says it.
    pub(crate) effects: Vec<String>,
    /// Those that were not.
    pub(crate) refused: Vec<String>,
}

/// `STAGE#ATTEMPT`, after the call when it isn't the usual one.
pub(crate) fn label(request: &AttemptRequest) -> String {
    let call = match request.call {
        Call::Run => "",
        Call::Observe => "observe ",
        Call::Undo => "undo ",
    };
    format!("{call}{}#{}", request.stage_id, request.attempt)
}

struct FakeRunner {
    store: FakeStore,
    script: Mutex<Script>,
    seen: Arc<Mutex<Seen>>,
}

/// How long every attempt takes.
pub(crate) const WORK: Duration = Duration::from_secs(1);

impl StageRunner for FakeRunner {
    fn run(
        &self,
        request: AttemptRequest,
        output: AttemptOutput,
        mut interrupt: watch::Receiver<Option<Interrupt>>,
    ) -> BoxFuture<'static, AttemptReport> {
        let act = match request.resumption {
            Some(_) => Act::Output("decision", request.resumption.clone().expect("a resumption")),
            None => {
                let label = label(&request);
                let key = label.rsplit_once('#').expect("a label").0;
                self.script.lock().expect("a script").next(key)
            }
        };
        let seen = Arc::clone(&self.seen);
        let store = self.store.clone();
        async move {
            let here = Here { request: request.clone(), seen: Arc::clone(&seen), store };
            {
                let mut seen = seen.lock().expect("what was seen");
                seen.requests.push(request);
                seen.running += 1;
                seen.most_running = seen.most_running.max(seen.running);
            }
            let is_read = !here.request.basis.readers.is_empty();
            let (names, act) = match act {
                Act::Publish(names, then) => (names, *then),
                act => (&[][..], act),
            };
            let mut report = perform(act, &here, &output, &mut interrupt).await;
            report.artifacts = names.iter().map(|name| artifact(name)).collect();
            if is_read && report.end == AttemptEnd::Succeeded {
                report.made = Some(Made { digest: format!("sha256:of {}", here.request.stage_id), opening: None });
            }
            seen.lock().expect("what was seen").running -= 1;
            report
        }
        .boxed()
    }

    /// Names the places in place of their content, and takes its time.
    fn capture(&self, request: CaptureRequest) -> BoxFuture<'static, Result<Option<Capture>, Failure>> {
        let act = self.script.lock().expect("a script").next(&format!("capture {}", request.stage_id));
        let mut paths = request.paths;
        paths.sort();
        let digest = format!("sha256:{}", paths.iter().map(AsRef::<str>::as_ref).collect::<Vec<_>>().join(" "));
        async move {
            tokio::time::sleep(WORK).await;
            match act {
                Act::Fail => match unsuccessful(Outcome::Errored, FailureKind::FilesChanged, "the disk is full") {
                    AttemptEnd::Unsuccessful(_, failure) => Err(failure),
                    _ => unreachable!("it is unsuccessful"),
                },
                _ => Ok(Some(Capture { digest, files: 1, bytes: 1, opening: request.opening })),
            }
        }
        .boxed()
    }
}

/// Where an act is performed.
struct Here {
    request: AttemptRequest,
    seen: Arc<Mutex<Seen>>,
    store: FakeStore,
}

impl Here {
    /// Whether an effect was allowed.
    async fn reach(&self, output: &AttemptOutput) -> bool {
        let label = label(&self.request);
        let allowed = output.effect(format!("reach out for {label}")).await.is_ok();
        let mut seen = self.seen.lock().expect("what was seen");
        if allowed {
            assert!(self.store.has_intent(&self.request), "{label} was allowed without a durable intent");
            seen.effects.push(label);
        } else {
            seen.refused.push(label);
        }
        allowed
    }
}

async fn perform(
    act: Act,
    here: &Here,
    output: &AttemptOutput,
    interrupt: &mut watch::Receiver<Option<Interrupt>>,
) -> AttemptReport {
    let mut outputs = BTreeMap::new();
    let mut act = act;
    if let Act::Linger(after, then) = act {
        let (label, seen, output) = (label(&here.request), Arc::clone(&here.seen), output.clone());
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            let allowed = output.effect("linger".to_owned()).await.is_ok();
            let mut seen = seen.lock().expect("what was seen");
            if allowed { seen.effects.push(label) } else { seen.refused.push(label) }
        });
        act = *then;
    }
    while let Act::Reach(then) = act {
        if !here.reach(output).await {
            return report(unsuccessful(Outcome::Failed, FailureKind::Superseded, "refused"), outputs);
        }
        act = *then;
    }
    if let Act::Deploy(artifact) = act {
        if !here.reach(output).await {
            return report(unsuccessful(Outcome::Failed, FailureKind::Superseded, "refused"), outputs);
        }
        tokio::time::sleep(WORK).await;
        let release = ReleaseNote { artifact: artifact.to_owned(), url: None };
        return AttemptReport { release: Some(release), ..report(AttemptEnd::Succeeded, outputs) };
    }
    let wanted = match act {
        Act::Hang => Some(Interrupt::Graceful),
        Act::IgnoreGraceful => Some(Interrupt::Kill),
        Act::IgnoreEverything => std::future::pending().await,
        _ => {
            tokio::time::sleep(WORK).await;
            None
        }
    };
    if let Some(wanted) = wanted {
        let _ = interrupt.wait_for(|how| *how >= Some(wanted)).await;
        return report(unsuccessful(Outcome::Cancelled, FailureKind::Cancelled, "stopped"), outputs);
    }
    let end = match act {
        Act::Succeed => AttemptEnd::Succeeded,
        Act::Output(name, value) => {
            outputs.insert(name.to_owned(), value);
            AttemptEnd::Succeeded
        }
        Act::Fail => unsuccessful(Outcome::Failed, FailureKind::Reported, "it failed"),
        Act::Deny => unsuccessful(Outcome::Failed, FailureKind::Denied, "not granted"),
        Act::Skip(reason) => AttemptEnd::Skipped(reason.to_owned()),
        Act::Rehearse(what) => AttemptEnd::Rehearsed(what.to_owned()),
        Act::Ask(gate) => AttemptEnd::Suspended(gate),
        Act::Panic => panic!("as the script says"),
        Act::Say(lines) => {
            for line in lines {
                output.lines(Stream::Stdout, (*line).into()).await;
            }
            AttemptEnd::Succeeded
        }
        Act::TimeOut => unsuccessful(Outcome::TimedOut, FailureKind::Timeout, "it took too long"),
        Act::Observe(observation) => AttemptEnd::Observed(observation),
        Act::Hang
        | Act::IgnoreGraceful
        | Act::IgnoreEverything
        | Act::Reach(_)
        | Act::Deploy(_)
        | Act::Linger(..)
        | Act::Publish(..) => {
            unreachable!("handled above")
        }
    };
    report(end, outputs)
}

pub(crate) fn artifact(name: &str) -> Artifact {
    let (digest, media_type) = (format!("sha256:of {name}"), "text/plain".to_owned());
    Artifact { name: name.to_owned(), digest, media_type, size: 5 }
}

pub(crate) fn report(end: AttemptEnd, outputs: BTreeMap<String, Json>) -> AttemptReport {
    AttemptReport { end, outputs, artifacts: Vec::new(), release: None, made: None }
}

pub(crate) fn unsuccessful(outcome: Outcome, kind: FailureKind, message: &str) -> AttemptEnd {
    let failure = Failure { kind, message: message.to_owned(), causes: Vec::new(), help: None, retryable: true };
    AttemptEnd::Unsuccessful(outcome, failure)
}

/// Keeps what it is given, and refuses from a certain event on.
#[derive(Clone, Default)]
pub(crate) struct FakeStore {
    pub(crate) events: Arc<Mutex<Vec<Event>>>,
    pub(crate) durable: Arc<Mutex<Vec<(u64, bool)>>>,
    pub(crate) full_from: Option<u64>,
}

impl FakeStore {
    /// Whether it is on disk that the attempt was about to have an effect.
    fn has_intent(&self, request: &AttemptRequest) -> bool {
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

/// Gives every environment and every group at once, each time with the next token.
#[derive(Clone, Default)]
pub(crate) struct FakeCoordinator {
    pub(crate) said: Arc<Mutex<Vec<String>>>,
    /// What is answered first, in order.
    pub(crate) claims: Arc<Mutex<VecDeque<EnvironmentAnswer>>>,
    pub(crate) joins: Arc<Mutex<VecDeque<GroupAnswer>>>,
    /// The newest token of each environment.
    fences: Arc<Mutex<HashMap<String, u64>>>,
    /// Whether somebody else takes the environment as soon as it is given away.
    pub(crate) overtaken: bool,
}

impl FakeCoordinator {
    fn say(&self, what: String) {
        self.said.lock().expect("a lock").push(what);
    }
}

/// An environment where nothing runs yet.
pub(crate) fn granted(fence: u64) -> EnvironmentAnswer {
    EnvironmentAnswer::Granted { fence, current: None, last_known_good: None }
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

type Lines = Arc<Mutex<Vec<(StageIndex, String)>>>;

#[derive(Clone, Default)]
struct FakeLogs(Lines);

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

/// Tokio's paused clock: it jumps to the next timer as soon as nothing else is left to do.
struct FakeClock(tokio::time::Instant);

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        Timestamp(u64::try_from(self.0.elapsed().as_millis()).expect("a short test"))
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(duration).boxed()
    }
}

struct Watched(Arc<Mutex<Vec<Event>>>, Arc<Mutex<Vec<Event>>>);

impl Observer for Watched {
    fn on_event(&mut self, event: &Event) {
        if event.kind.is_recorded() {
            let recorded = self.1.lock().expect("a lock");
            assert!(recorded.iter().any(|one| one == event), "observed before it was recorded: {event:?}");
        }
        self.0.lock().expect("a lock").push(event.clone());
    }
}

/// A run in the making.
pub(crate) struct World {
    pub(crate) plan: Arc<Plan>,
    pub(crate) values: RunValues,
    pub(crate) jobs: usize,
    pub(crate) script: Script,
    pub(crate) store: FakeStore,
    pub(crate) coordinator: FakeCoordinator,
    /// Stages that a resume runs again.
    pub(crate) from: Vec<StageIndex>,
    pub(crate) past: Vec<Event>,
    /// Wishes, each at its time.
    pub(crate) wishes: Vec<(Duration, RunCommand)>,
}

/// What came of it.
pub(crate) struct Ran {
    pub(crate) result: Result<RunSummary, DriveError>,
    pub(crate) recorded: Vec<Event>,
    pub(crate) observed: Vec<Event>,
    pub(crate) lines: Vec<(StageIndex, String)>,
    pub(crate) seen: Arc<Mutex<Seen>>,
    pub(crate) plan: Arc<Plan>,
    pub(crate) coordinator: FakeCoordinator,
    pub(crate) took: Duration,
}

impl World {
    pub(crate) fn new(plan: Arc<Plan>, script: Script) -> World {
        World {
            plan,
            values: RunValues::default(),
            jobs: 4,
            script,
            store: FakeStore::default(),
            coordinator: FakeCoordinator::default(),
            from: Vec::new(),
            past: Vec::new(),
            wishes: Vec::new(),
        }
    }

    pub(crate) fn wish(mut self, at: Duration, wish: RunCommand) -> World {
        self.wishes.push((at, wish));
        self
    }

    /// An answer to the gate that the stage has open at that time.
    pub(crate) fn answer(self, at: Duration, stage: u32, decision: Decision) -> World {
        let decision = Decision { token: String::new(), ..decision };
        self.wish(at, RunCommand::Decide { stage: StageIndex(stage), decision })
    }

    /// Runs it on the paused clock.
    pub(crate) fn run(self) -> Ran {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        runtime.block_on(self.run_here())
    }

    async fn run_here(self) -> Ran {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let observed = Arc::new(Mutex::new(Vec::new()));
        let lines = FakeLogs::default();
        let (control, wishes) = mpsc::channel(16);
        let start = tokio::time::Instant::now();
        let (scheduler, first) = if self.past.is_empty() {
            (Scheduler::new(Arc::clone(&self.plan), self.values, self.jobs), Input::Start(RunId("r1".to_owned())))
        } else {
            let plan = Arc::clone(&self.plan);
            let scheduler = Scheduler::restore(plan, self.values, self.jobs, &self.past).expect("a sound journal");
            (scheduler, Input::Resume { reason: "asked for".to_owned(), from: self.from.clone(), changed: Vec::new() })
        };
        let ports = Ports {
            runner: Arc::new(FakeRunner {
                store: self.store.clone(),
                script: Mutex::new(self.script),
                seen: Arc::clone(&seen),
            }),
            store: Box::new(self.store.clone()),
            coordinator: Box::new(self.coordinator.clone()),
            logs: Box::new(lines.clone()),
            clock: Arc::new(FakeClock(start)),
            observers: vec![Box::new(Watched(Arc::clone(&observed), Arc::clone(&self.store.events)))],
            control: wishes,
        };
        let planned = self.wishes;
        let (past, store) = (self.past, self.store.clone());
        let wishing = tokio::spawn(async move {
            for (at, mut wish) in planned {
                tokio::time::sleep_until(start + at).await;
                if let RunCommand::Decide { stage, decision } = &mut wish
                    && decision.token.is_empty()
                {
                    decision.token = open_gate(&past, &store, *stage);
                }
                let _ = control.send(wish).await;
            }
        });
        let result = drive(scheduler, ports, first).await;
        let took = start.elapsed();
        wishing.abort();
        let recorded = self.store.events.lock().expect("a lock").clone();
        let observed = observed.lock().expect("a lock").clone();
        let lines = lines.0.lock().expect("a lock").clone();
        Ran { result, recorded, observed, lines, seen, plan: self.plan, coordinator: self.coordinator, took }
    }
}

/// The token of the stage's gate.
fn open_gate(past: &[Event], store: &FakeStore, asked: StageIndex) -> String {
    let recorded = store.events.lock().expect("a lock");
    let gate = past.iter().chain(recorded.iter()).rev().find_map(|event| match &event.kind {
        EventKind::GateOpened { stage, gate, .. } if *stage == asked => Some(gate.token.clone()),
        _ => None,
    });
    gate.unwrap_or_default()
}

impl Ran {
    pub(crate) fn conclusion(&self) -> Option<Outcome> {
        self.result.as_ref().expect("a run that was recorded").conclusion
    }

    /// `STAGE OUTCOME` of every stage, in plan order; `STAGE open` for those that haven't ended.
    pub(crate) fn outcomes(&self) -> Vec<String> {
        let outcome = |at: usize| {
            let ended = self.recorded.iter().rev().find_map(|event| match &event.kind {
                EventKind::StageEnded { stage, outcome, .. } if stage.get() == at => Some(outcome.as_str()),
                _ => None,
            });
            format!("{} {}", self.plan.stages[at].id, ended.unwrap_or("open"))
        };
        (0..self.plan.stages.len()).map(outcome).collect()
    }

    /// Why a stage ended as it did, if it never ran.
    pub(crate) fn reason(&self, id: &str) -> String {
        let found = self.recorded.iter().rev().find_map(|event| match &event.kind {
            EventKind::StageEnded { stage, reason, .. } if self.plan.stage(*stage).id == id => reason.clone(),
            _ => None,
        });
        found.unwrap_or_default()
    }

    /// `STAGE#ATTEMPT` in the order of their starts.
    pub(crate) fn starts(&self) -> Vec<String> {
        let seen = self.seen.lock().expect("a lock");
        seen.requests.iter().map(label).collect()
    }

    /// As [`Seen::effects`].
    pub(crate) fn effects(&self) -> Vec<String> {
        self.seen.lock().expect("a lock").effects.clone()
    }

    /// What the function makes of the recorded events.
    pub(crate) fn events(&self, name: impl Fn(&EventKind) -> Option<String>) -> Vec<String> {
        self.recorded.iter().filter_map(|event| name(&event.kind)).collect()
    }

    /// Folds the journal, of which `past` came before.
    pub(crate) fn state(&self, past: &[Event]) -> RunState {
        let mut state = RunState::new(self.plan.stages.iter().map(|stage| stage.id.clone()).collect());
        for (seq, event) in (0..).zip(past.iter().chain(&self.recorded)) {
            assert_eq!(event.seq, seq);
            state.apply(&event.kind).expect("one sound journal");
        }
        state
    }
}
