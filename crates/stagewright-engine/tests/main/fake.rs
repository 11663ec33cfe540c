//! Fake ports of the engine, controlled by tests.

mod ports;
mod runner;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use stagewright_engine::{
    Decision, DriveError, Event, EventKind, Input, Outcome, Ports, RunCommand, RunId, RunState, RunSummary, RunValues,
    Scheduler, drive,
};
use stagewright_model::{Plan, StageIndex};
use tokio::sync::mpsc;

use self::ports::{FakeClock, FakeLogs, FakeObserver};
pub(crate) use self::ports::{FakeCoordinator, FakeStore, granted};
use self::runner::FakeRunner;
pub(crate) use self::runner::{Act, Script, Seen, WORK, artifact, found, label, reach, report};

/// The inputs of a run.
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
    /// Commands and the times at which they are sent.
    pub(crate) commands: Vec<(Duration, RunCommand)>,
    /// The wall-clock time at which the run is driven.
    pub(crate) clock_from: Duration,
    /// When and by how much the wall clock is set forward.
    pub(crate) clock_jump: Option<(Duration, Duration)>,
}

/// The results of a run.
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
            commands: Vec::new(),
            clock_from: Duration::ZERO,
            clock_jump: None,
        }
    }

    pub(crate) fn command(mut self, at: Duration, command: RunCommand) -> World {
        self.commands.push((at, command));
        self
    }

    /// Answers the gate that the stage has open at that time.
    pub(crate) fn answer(self, at: Duration, stage: u32, decision: Decision) -> World {
        let decision = Decision { token: String::new(), ..decision };
        self.command(at, RunCommand::Decide { stage: StageIndex(stage), decision })
    }

    /// Drives the run with the paused clock.
    pub(crate) fn run(self) -> Ran {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        runtime.block_on(self.run_here())
    }

    async fn run_here(self) -> Ran {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let observed = Arc::new(Mutex::new(Vec::new()));
        let lines = FakeLogs::default();
        let (control, commands) = mpsc::channel(16);
        let start = tokio::time::Instant::now();
        let (scheduler, first) = if self.past.is_empty() {
            (Scheduler::new(Arc::clone(&self.plan), self.values, self.jobs), Input::Start(RunId("r1".to_owned())))
        } else {
            let plan = Arc::clone(&self.plan);
            let scheduler = Scheduler::restore(plan, self.values, self.jobs, &self.past).expect("a sound journal");
            (
                scheduler,
                Input::Resume {
                    reason: "asked for".to_owned(),
                    from: self.from.clone(),
                    changed: Vec::new(),
                    pipeline: None,
                },
            )
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
            clock: Arc::new(FakeClock { start, from: self.clock_from, jump: self.clock_jump }),
            observers: vec![Box::new(FakeObserver {
                observed: Arc::clone(&observed),
                recorded: Arc::clone(&self.store.events),
            })],
            control: commands,
        };
        let planned = self.commands;
        let (past, store) = (self.past, self.store.clone());
        let sending = tokio::spawn(async move {
            for (at, mut command) in planned {
                tokio::time::sleep_until(start + at).await;
                if let RunCommand::Decide { stage, decision } = &mut command
                    && decision.token.is_empty()
                {
                    decision.token = open_gate(&past, &store, *stage);
                }
                let _ = control.send(command).await;
            }
        });
        let result = drive(scheduler, ports, first).await;
        let took = start.elapsed();
        sending.abort();
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

    /// The recorded reason of a stage's end.
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

    /// See [`Seen::effects`].
    pub(crate) fn effects(&self) -> Vec<String> {
        self.seen.lock().expect("a lock").effects.clone()
    }

    /// The recorded events, mapped by the function.
    pub(crate) fn events(&self, name: impl Fn(&EventKind) -> Option<String>) -> Vec<String> {
        self.recorded.iter().filter_map(|event| name(&event.kind)).collect()
    }

    /// Folds `past` and the recorded events.
    pub(crate) fn state(&self, past: &[Event]) -> RunState {
        let mut state = RunState::new(self.plan.stages.iter().map(|stage| stage.id.clone()).collect());
        for (seq, event) in (0..).zip(past.iter().chain(&self.recorded)) {
            assert_eq!(event.seq, seq);
            state.apply(&event.kind).expect("one sound journal");
        }
        state
    }
}
