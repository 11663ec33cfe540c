//! The loop that carries a scheduler's wishes out.
//!
//! ```text
//!  Control ─┐                        ┌─> RunStore (before anything else)
//!  attempts ┼─> Input ─> Scheduler ──┼─> Observers
//!  timers ──┘                        └─> StageRunner, timers
//!  attempts ──── Live ──────────────────> LogSink, Observers
//! ```
//!
//! Everything arrives at one task, so the order in which observers see events is the order of the journal. An attempt
//! is stopped by a message, never by dropping its future.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use stagewright_model::StageIndex;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinError, JoinSet};

use crate::event::{Decision, Event, EventKind, Failure, FailureKind, Interrupt, Outcome, RunSummary, Timestamp};
use crate::port::{
    AttemptEnd, AttemptOutput, AttemptReport, AttemptRequest, Clock, Live, LiveKind, LogSink, Observer, RunStore,
    StageRunner, StoreError,
};
use crate::scheduler::{Action, Input, Response, Scheduler};
use crate::state::IllegalTransition;

/// Pieces of live output that may wait for the loop; what an attempt says beyond that makes it wait.
const LIVE_BOUND: usize = 256;

/// What is left to attempts that were told to stop at once.
const KILL_BOUND: Duration = Duration::from_secs(5);

/// The world, as the loop needs it.
pub struct Ports {
    /// Runs attempts.
    pub runner: Arc<dyn StageRunner>,
    /// Keeps the journal.
    pub store: Box<dyn RunStore>,
    /// Keeps the logs.
    pub logs: Box<dyn LogSink>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Watch the run, in this order.
    pub observers: Vec<Box<dyn Observer>>,
    /// Wishes of people. When every sender is gone the run suspends once only gates are left.
    pub control: mpsc::Receiver<Control>,
}

/// A wish of a person.
#[derive(Clone, Debug, PartialEq)]
pub enum Control {
    /// An answer to a gate.
    Decide {
        /// The stage.
        stage: StageIndex,
        /// The answer.
        decision: Decision,
    },
    /// End early.
    Cancel {
        /// How fast.
        how: Interrupt,
        /// By whom or what.
        reason: String,
    },
    /// From now on don't wait for people: suspend once only gates are left.
    Suspend,
}

/// Why a run stopped without having come to its end. The journal holds all that happened.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// What can't be recorded must not be done.
    #[error("the run was stopped because it could not be recorded")]
    Store(#[from] StoreError),
    /// A defect of the engine.
    #[error("the run was stopped by a defect in the engine")]
    Illegal(#[from] IllegalTransition),
}

/// Drives a run from `first` ([`Input::Start`] or [`Input::Resume`]) until it ends or suspends.
///
/// When this returns, no attempt is running any more.
pub async fn drive(scheduler: Scheduler, ports: Ports, first: Input) -> Result<RunSummary, DriveError> {
    let (live_sender, live) = mpsc::channel(LIVE_BOUND);
    let mut driver = Driver {
        scheduler,
        runner: ports.runner,
        store: ports.store,
        logs: ports.logs,
        clock: ports.clock,
        observers: ports.observers,
        attempts: JoinSet::new(),
        interrupts: BTreeMap::new(),
        timers: FuturesUnordered::new(),
        kills: FuturesUnordered::new(),
        live,
        live_sender,
        may_wait: true,
        summary: None,
    };
    let result = driver.run(ports.control, first).await;
    if result.is_err() {
        driver.kill_all().await;
    }
    result
}

struct Driver {
    scheduler: Scheduler,
    runner: Arc<dyn StageRunner>,
    store: Box<dyn RunStore>,
    logs: Box<dyn LogSink>,
    clock: Arc<dyn Clock>,
    observers: Vec<Box<dyn Observer>>,
    attempts: JoinSet<(StageIndex, u32, AttemptReport)>,
    interrupts: BTreeMap<StageIndex, Running>,
    timers: FuturesUnordered<BoxFuture<'static, (StageIndex, u32)>>,
    /// Attempts that were told to stop at once, each with the time it has for it.
    kills: FuturesUnordered<BoxFuture<'static, (StageIndex, u32)>>,
    live: mpsc::Receiver<Live>,
    live_sender: mpsc::Sender<Live>,
    may_wait: bool,
    summary: Option<RunSummary>,
}

struct Running {
    attempt: u32,
    task: AbortHandle,
    interrupt: watch::Sender<Option<Interrupt>>,
}

impl Driver {
    async fn run(&mut self, mut control: mpsc::Receiver<Control>, first: Input) -> Result<RunSummary, DriveError> {
        self.handle(first)?;
        loop {
            if !self.may_wait && self.scheduler.is_idle() {
                self.handle(Input::Suspend)?;
            }
            if let Some(summary) = self.summary.take() {
                return Ok(summary);
            }
            tokio::select! {
                biased;
                wish = control.recv(), if self.may_wait || !control.is_closed() => match wish {
                    Some(Control::Decide { stage, decision }) => self.handle(Input::Decided { stage, decision })?,
                    Some(Control::Cancel { how, reason }) => self.handle(Input::Cancel { how, reason })?,
                    Some(Control::Suspend) | None => self.may_wait = false,
                },
                Some(live) = self.live.recv() => self.show(live)?,
                Some(ended) = self.attempts.join_next_with_id(), if !self.attempts.is_empty() => {
                    self.attempt_ended(ended)?;
                }
                Some((stage, attempt)) = self.kills.next(), if !self.kills.is_empty() => {
                    // A runner that breaks its promise must not keep the run from ending.
                    let running = self.interrupts.get(&stage).filter(|running| running.attempt == attempt);
                    running.inspect(|running| running.task.abort());
                }
                Some((stage, attempt)) = self.timers.next(), if !self.timers.is_empty() => {
                    self.handle(Input::Woken { stage, attempt })?;
                }
            }
        }
    }

    fn handle(&mut self, input: Input) -> Result<(), DriveError> {
        let Response { events, actions } = self.scheduler.on_input(self.clock.now(), input)?;
        self.record(&events)?;
        for action in actions {
            match action {
                Action::Launch(request) => self.launch(*request),
                Action::Interrupt { stage, how } => self.interrupt(stage, how),
                Action::Wake { stage, attempt, after } => self.timers.push(self.later(after, stage, attempt)),
                Action::Finish(summary) => self.summary = Some(summary),
            }
        }
        Ok(())
    }

    fn interrupt(&self, stage: StageIndex, how: Interrupt) {
        let Some(running) = self.interrupts.get(&stage) else { return };
        running.interrupt.send_replace(Some(how));
        if how == Interrupt::Kill {
            self.kills.push(self.later(KILL_BOUND, stage, running.attempt));
        }
    }

    fn later(&self, after: Duration, stage: StageIndex, attempt: u32) -> BoxFuture<'static, (StageIndex, u32)> {
        let sleep = self.clock.sleep(after);
        Box::pin(async move {
            sleep.await;
            (stage, attempt)
        })
    }

    fn record(&mut self, events: &[Event]) -> Result<(), DriveError> {
        if let (Some(last), Some(run)) = (events.last(), self.scheduler.state().run.as_ref()) {
            let ends = matches!(last.kind, EventKind::RunEnded { .. } | EventKind::RunSuspended { .. });
            let durable = ends || events.iter().any(|event| event.kind.is_intent());
            self.store.append(run, events, durable)?;
        }
        for event in events {
            self.observe(event);
        }
        Ok(())
    }

    fn observe(&mut self, event: &Event) {
        for observer in &mut self.observers {
            observer.on_event(event);
        }
    }

    fn launch(&mut self, request: AttemptRequest) {
        let (stage, attempt) = (request.stage, request.attempt);
        let (interrupt, receiver) = watch::channel(None);
        let output = AttemptOutput::new(stage, attempt, self.live_sender.clone());
        let future = self.runner.run(request, output, receiver);
        let task = self.attempts.spawn(async move { (stage, attempt, future.await) });
        self.interrupts.insert(stage, Running { attempt, task, interrupt });
    }

    fn attempt_ended(
        &mut self,
        ended: Result<(tokio::task::Id, (StageIndex, u32, AttemptReport)), JoinError>,
    ) -> Result<(), DriveError> {
        let (stage, attempt, report) = match ended {
            Ok((_, ended)) => ended,
            Err(error) => {
                let running = self.interrupts.iter().find(|(_, running)| running.task.id() == error.id());
                let Some((&stage, running)) = running else { return Ok(()) };
                (stage, running.attempt, defect(&error))
            }
        };
        // All that the attempt said is in the channel by now.
        while let Ok(live) = self.live.try_recv() {
            self.show(live)?;
        }
        self.interrupts.remove(&stage);
        self.logs.seal(stage, attempt)?;
        self.handle(Input::Ended { stage, attempt, report })
    }

    fn show(&mut self, live: Live) -> Result<(), DriveError> {
        let Live { stage, attempt, kind } = live;
        let at = self.clock.now();
        match kind {
            LiveKind::Lines(stream, lines) => {
                self.logs.append(at, stage, attempt, stream, &lines)?;
                for line in lines {
                    self.observe_unrecorded(at, EventKind::Log { stage, attempt, stream, line });
                }
            }
            LiveKind::Progress { message, current, total } => {
                self.observe_unrecorded(at, EventKind::Progress { stage, message, current, total });
            }
            LiveKind::Summary(markdown) => self.say(EventKind::Summary { stage, markdown })?,
            LiveKind::Problem(problem) => self.say(EventKind::Problem { stage, problem })?,
        }
        Ok(())
    }

    fn say(&mut self, kind: EventKind) -> Result<(), DriveError> {
        let event = self.scheduler.remark(self.clock.now(), kind)?;
        self.record(&[event])
    }

    fn observe_unrecorded(&mut self, at: Timestamp, kind: EventKind) {
        let seq = self.scheduler.state().next_seq.saturating_sub(1);
        self.observe(&Event { seq, at, kind });
    }

    /// Leaves nothing running behind.
    async fn kill_all(&mut self) {
        for running in self.interrupts.values() {
            running.interrupt.send_replace(Some(Interrupt::Kill));
        }
        let deadline = self.clock.sleep(KILL_BOUND);
        tokio::pin!(deadline);
        loop {
            tokio::select! {
                ended = self.attempts.join_next() => if ended.is_none() { return },
                Some(_) = self.live.recv() => {}
                () = &mut deadline => break,
            }
        }
        self.attempts.shutdown().await;
    }
}

fn defect(error: &JoinError) -> AttemptReport {
    let message = if error.is_cancelled() {
        "the stage did not stop when it was told to, and was left behind"
    } else {
        "the stage's runner panicked"
    };
    let failure = Failure {
        kind: FailureKind::Internal,
        message: message.to_owned(),
        causes: vec![error.to_string()],
        help: Some("this is a defect of Stagewright: please report it with the log of the run".to_owned()),
        retryable: false,
    };
    let outcome = if error.is_cancelled() { Outcome::Cancelled } else { Outcome::Errored };
    AttemptReport { end: AttemptEnd::Unsuccessful(outcome, failure), outputs: BTreeMap::new() }
}
