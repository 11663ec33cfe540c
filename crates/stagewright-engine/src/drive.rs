//! The loop that carries out a scheduler's actions.
//!
//! ```text
//!  RunCommand ────┐                        ┌─> RunStore (first)
//!  attempts ──────┼─> Input ─> Scheduler ──┼─> Observers
//!  timers ────────┤                        ├─> StageRunner, timers
//!  RunCoordinator ┘                        └─> RunCoordinator
//!  attempts ──── AttemptMessage ────────> LogSink, Observers
//! ```
//!
//! One task handles everything, so observers see events in the order of the journal. An attempt is stopped by a
//! message, never by dropping its future.
//!
//! Events are committed in groups. An event that no irreversible effect depends on is held back until the loop is idle
//! or until an intent must be durable, which commits all events before it as well. Observers see an event once it is
//! committed.

mod message;
mod unrunnable;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use stagewright_model::{EffectClass, StageIndex};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinError, JoinSet};

use self::unrunnable::{abandoned, panicked};
use crate::event::{Capture, Decision, Event, EventKind, Failure, Interrupt, RunId, RunSummary, Signal, Timestamp};
use crate::port::{
    AttemptOutput, AttemptReport, AttemptRequest, Clock, Delivery, HEARTBEAT, LogSink, Observer, RunCoordinator,
    RunStore, StageRunner, StoreError,
};
use crate::scheduler::{Action, Input, Response, Scheduler};
use crate::state::IllegalTransition;

/// How many messages of attempts may be queued for the loop; an attempt that sends more waits until there is room.
const MESSAGE_BOUND: usize = 64;

/// The most events that are committed together.
const COMMIT_GROUP: usize = 256;

/// How long after [`Interrupt::Graceful`] an attempt gets [`Interrupt::Kill`]. Runners apply a shorter grace period
/// themselves; this bound catches one that doesn't.
const GRACEFUL_BOUND: Duration = Duration::from_secs(15);

/// How long after [`Interrupt::Kill`] an attempt is abandoned.
const KILL_BOUND: Duration = Duration::from_secs(5);

/// The implementations of the ports that a run uses.
pub struct Ports {
    /// Runs attempts.
    pub runner: Arc<dyn StageRunner>,
    /// Stores the journal.
    pub store: Box<dyn RunStore>,
    /// Keeps runs from using an environment or a concurrency group at the same time.
    pub coordinator: Box<dyn RunCoordinator>,
    /// Stores the logs.
    pub logs: Box<dyn LogSink>,
    /// The source of time.
    pub clock: Arc<dyn Clock>,
    /// Called for each event, in this order.
    pub observers: Vec<Box<dyn Observer>>,
    /// Commands to the run. Once every sender has been dropped, the run suspends as soon as only gates are left.
    pub control: mpsc::Receiver<RunCommand>,
}

/// A command to a run that is being driven.
#[derive(Clone, Debug, PartialEq)]
pub enum RunCommand {
    /// Answer a gate.
    Decide {
        /// The stage that has the gate.
        stage: StageIndex,
        /// The answer.
        decision: Decision,
    },
    /// End a wait, or keep the signal for a wait that hasn't begun.
    Signal(Signal),
    /// End the run early.
    Cancel {
        /// How fast.
        how: Interrupt,
        /// Who or what cancelled it.
        reason: String,
    },
    /// Stop waiting for people: suspend as soon as only gates are left.
    Suspend,
}

/// Why a run stopped before it ended. The journal holds everything that happened until then.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// The journal or the coordinator failed.
    #[error("the run was stopped because it could not be recorded")]
    Store(#[from] StoreError),
    /// The engine has a defect.
    #[error("the run was stopped by a defect in the engine")]
    Illegal(#[from] IllegalTransition),
}

/// Drives a run from `first` ([`Input::Start`] or [`Input::Resume`]) until it ends or suspends.
///
/// When this returns, no attempt is running any more, except one that ignored a kill and was abandoned.
pub async fn drive(scheduler: Scheduler, ports: Ports, first: Input) -> Result<RunSummary, DriveError> {
    let (delivery_sender, deliveries) = mpsc::channel(MESSAGE_BOUND);
    let mut driver = Driver {
        scheduler,
        runner: ports.runner,
        store: ports.store,
        coordinator: ports.coordinator,
        uncommitted: Vec::new(),
        next_heartbeat: None,
        group_timers: FuturesUnordered::new(),
        logs: ports.logs,
        clock: ports.clock,
        observers: ports.observers,
        attempts: JoinSet::new(),
        interrupts: BTreeMap::new(),
        launches: 0,
        timers: FuturesUnordered::new(),
        stop_deadlines: FuturesUnordered::new(),
        captures: FuturesUnordered::new(),
        deliveries,
        delivery_sender,
        may_wait: true,
        summary: None,
    };
    let result = driver.drive(ports.control, first).await;
    if result.is_err() {
        driver.kill_all().await;
        driver.release_all();
    }
    result
}

struct Driver {
    scheduler: Scheduler,
    runner: Arc<dyn StageRunner>,
    store: Box<dyn RunStore>,
    coordinator: Box<dyn RunCoordinator>,
    /// Events that are neither in the journal nor seen by observers yet.
    uncommitted: Vec<Event>,
    /// When the next heartbeat is due; some while the run holds an environment or a group.
    next_heartbeat: Option<BoxFuture<'static, ()>>,
    /// When to request the concurrency group again.
    group_timers: FuturesUnordered<BoxFuture<'static, ()>>,
    logs: Box<dyn LogSink>,
    clock: Arc<dyn Clock>,
    observers: Vec<Box<dyn Observer>>,
    attempts: JoinSet<AttemptReport>,
    interrupts: BTreeMap<StageIndex, RunningAttempt>,
    /// The number of plugin calls so far.
    launches: u64,
    timers: FuturesUnordered<BoxFuture<'static, (StageIndex, u32)>>,
    /// The deadlines of attempts that were interrupted: stage, launch, and how it was interrupted.
    stop_deadlines: FuturesUnordered<BoxFuture<'static, (StageIndex, u64, Interrupt)>>,
    /// Captures in progress.
    captures: FuturesUnordered<BoxFuture<'static, Captured>>,
    deliveries: mpsc::Receiver<Delivery>,
    delivery_sender: mpsc::Sender<Delivery>,
    may_wait: bool,
    summary: Option<RunSummary>,
}

/// The result of the capture for a stage's gate.
type Captured = (StageIndex, Result<Option<Capture>, Failure>);

struct RunningAttempt {
    attempt: u32,
    launch: u64,
    task: AbortHandle,
    interrupt: watch::Sender<Option<Interrupt>>,
}

impl Driver {
    async fn drive(&mut self, mut control: mpsc::Receiver<RunCommand>, first: Input) -> Result<RunSummary, DriveError> {
        self.handle(first)?;
        loop {
            if !self.may_wait && self.scheduler.is_idle() {
                self.handle(Input::Suspend)?;
            }
            if let Some(summary) = self.summary.take() {
                self.commit(true)?;
                return Ok(summary);
            }
            tokio::select! {
                biased;
                command = control.recv(), if self.may_wait || !control.is_closed() || !control.is_empty() => match command {
                    Some(RunCommand::Decide { stage, decision }) => self.handle(Input::Decided { stage, decision })?,
                    Some(RunCommand::Signal(signal)) => self.handle(Input::Signalled(signal))?,
                    Some(RunCommand::Cancel { how, reason }) => self.handle(Input::Cancel { how, reason })?,
                    Some(RunCommand::Suspend) | None => self.may_wait = false,
                },
                Some(delivery) = self.deliveries.recv() => self.on_message(delivery)?,
                Some(ended) = self.attempts.join_next_with_id(), if !self.attempts.is_empty() => {
                    self.attempt_ended(ended)?;
                }
                // Before the timers: if the clock jumps, all of them may be due at once, and the events that they cause
                // must not delay the commit further.
                () = async {}, if self.uncommitted.len() >= COMMIT_GROUP => self.commit(false)?,
                Some((stage, launch, how)) = self.stop_deadlines.next(), if !self.stop_deadlines.is_empty() => {
                    self.on_stop_deadline(stage, launch, how)?;
                }
                Some((stage, attempt)) = self.timers.next(), if !self.timers.is_empty() => {
                    self.handle(Input::Woken { stage, attempt })?;
                }
                Some((stage, captured)) = self.captures.next(), if !self.captures.is_empty() => {
                    self.handle(Input::Captured { stage, captured })?;
                }
                Some(()) = self.group_timers.next(), if !self.group_timers.is_empty() => self.handle(Input::RetryGroup)?,
                Some(()) = heartbeat_due(&mut self.next_heartbeat), if self.next_heartbeat.is_some() => self.heartbeat()?,
                () = tokio::task::yield_now(), if !self.uncommitted.is_empty() => self.commit(false)?,
            }
        }
    }

    fn handle(&mut self, input: Input) -> Result<(), DriveError> {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let Response { events, actions } = self.scheduler.on_input(self.clock.now(), input)?;
            self.record(events)?;
            for action in actions {
                inputs.extend(self.carry_out(action)?);
            }
        }
        if self.scheduler.needs_heartbeat() {
            let clock = &self.clock;
            self.next_heartbeat.get_or_insert_with(|| clock.sleep(HEARTBEAT));
        } else {
            self.next_heartbeat = None;
        }
        Ok(())
    }

    /// Returns the input that answers the action, if it is available immediately.
    fn carry_out(&mut self, action: Action) -> Result<Option<Input>, DriveError> {
        match action {
            Action::Notify(kind) => {
                self.commit(false)?;
                self.observe_unrecorded(self.clock.now(), *kind);
            }
            Action::Launch(request) => self.launch(*request),
            Action::Capture { stage, request } => {
                let capture = self.runner.capture(*request);
                self.captures.push(Box::pin(async move { (stage, capture.await) }));
            }
            Action::ReadReleases { stage, environments } => {
                let releases = self.coordinator.current_releases(&self.run(), &environments)?;
                return Ok(Some(Input::Releases { stage, releases }));
            }
            Action::Interrupt { stage, how } => self.interrupt(stage, how),
            Action::Wake { stage, attempt, after } => self.timers.push(self.wake_after(after, stage, attempt)),
            Action::RetryGroup(after) => self.group_timers.push(self.clock.sleep(after)),
            Action::Finish(summary) => self.summary = Some(summary),
            Action::AcquireEnvironment { stage, request } => {
                return Ok(Some(Input::EnvironmentAnswer {
                    stage,
                    answer: self.coordinator.acquire_environment(&request)?,
                }));
            }
            Action::EnterGroup(request) => {
                return Ok(Some(Input::GroupAnswer(self.coordinator.enter_group(&request)?)));
            }
            // Another process can acquire the environment as soon as it is released, and then relies on the ledger for
            // what is deployed there. Everything that this run did must be durable before that: if the machine crashed
            // in between, the journal would otherwise deny a deploy that a newer run has already built on.
            Action::ReleaseEnvironment(environment) => {
                self.commit(true)?;
                self.coordinator.release_environment(&self.run(), &environment)?;
            }
            Action::LeaveGroup(group) => {
                self.commit(true)?;
                self.coordinator.leave_group(&self.run(), &group)?;
            }
        }
        Ok(None)
    }

    fn run(&self) -> RunId {
        self.scheduler.state().run.clone().unwrap_or_else(|| RunId(String::new()))
    }

    fn heartbeat(&mut self) -> Result<(), DriveError> {
        self.next_heartbeat = Some(self.clock.sleep(HEARTBEAT));
        Ok(self.coordinator.heartbeat(&self.run(), self.clock.now())?)
    }

    fn interrupt(&self, stage: StageIndex, how: Interrupt) {
        let Some(running) = self.interrupts.get(&stage) else { return };
        running.interrupt.send_replace(Some(how));
        let bound = match how {
            Interrupt::Graceful => GRACEFUL_BOUND,
            Interrupt::Kill => KILL_BOUND,
        };
        let (sleep, launch) = (self.clock.sleep(bound), running.launch);
        self.stop_deadlines.push(Box::pin(async move {
            sleep.await;
            (stage, launch, how)
        }));
    }

    /// Kills an attempt that didn't stop gracefully, or abandons one that ignored the kill.
    fn on_stop_deadline(&mut self, stage: StageIndex, launch: u64, how: Interrupt) -> Result<(), DriveError> {
        let Some(running) = self.interrupts.get(&stage).filter(|running| running.launch == launch) else {
            return Ok(());
        };
        match how {
            Interrupt::Graceful if *running.interrupt.borrow() == Some(Interrupt::Graceful) => {
                self.interrupt(stage, Interrupt::Kill);
                Ok(())
            }
            Interrupt::Graceful => Ok(()),
            // The runner violates its contract. That must not keep the run from ending.
            Interrupt::Kill => {
                running.task.abort();
                self.end(stage, running.attempt, abandoned())
            }
        }
    }

    fn wake_after(&self, after: Duration, stage: StageIndex, attempt: u32) -> BoxFuture<'static, (StageIndex, u32)> {
        let sleep = self.clock.sleep(after);
        Box::pin(async move {
            sleep.await;
            (stage, attempt)
        })
    }

    /// Queues events for the journal, and commits them at once if what follows requires one of them to be durable.
    fn record(&mut self, events: Vec<Event>) -> Result<(), DriveError> {
        let durable = events.iter().any(|event| self.must_be_durable(&event.kind));
        self.uncommitted.extend(events);
        if durable {
            self.commit(true)?;
        }
        Ok(())
    }

    fn must_be_durable(&self, kind: &EventKind) -> bool {
        match kind {
            // A stage without effects beyond this machine can simply run again, so losing its start or end in a crash
            // is harmless. The start of an external one must be on record before it can act, and so must its end before
            // anything follows from it: otherwise a crash would leave an attempt unresolved that has in fact ended.
            EventKind::AttemptStarted { stage, .. } | EventKind::AttemptEnded { stage, .. } => self.is_external(*stage),
            EventKind::RunEnded { .. }
            | EventKind::RunSuspended { .. }
            | EventKind::GateDecided { .. }
            | EventKind::GateSignalled { .. }
            | EventKind::RolloutProgressed { .. } => true,
            kind => kind.is_intent(),
        }
    }

    fn is_external(&self, stage: StageIndex) -> bool {
        self.scheduler.effect_of(stage) == EffectClass::External
    }

    fn commit(&mut self, durable: bool) -> Result<(), StoreError> {
        let events = std::mem::take(&mut self.uncommitted);
        if events.is_empty() {
            return Ok(());
        }
        self.store.append(&self.run(), &events, durable)?;
        for event in &events {
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
        self.launches += 1;
        let launch = self.launches;
        let output = AttemptOutput::new(stage, attempt, self.delivery_sender.clone()).with_launch(launch);
        let future = self.runner.run(request, output, receiver);
        let task = self.attempts.spawn(future);
        self.interrupts.insert(stage, RunningAttempt { attempt, launch, task, interrupt });
    }

    fn attempt_ended(&mut self, ended: Result<(tokio::task::Id, AttemptReport), JoinError>) -> Result<(), DriveError> {
        let (task, result) = match ended {
            Ok((task, report)) => (task, Ok(report)),
            Err(error) => (error.id(), Err(error)),
        };
        // An abandoned attempt has already been recorded as ended, and is no longer in the map.
        let running = self.interrupts.iter().find(|(_, running)| running.task.id() == task);
        let Some((&stage, running)) = running else { return Ok(()) };
        let attempt = running.attempt;
        self.end(stage, attempt, result.unwrap_or_else(panicked))
    }

    fn end(&mut self, stage: StageIndex, attempt: u32, report: AttemptReport) -> Result<(), DriveError> {
        // The attempt has ended, so everything that it sent is in the channel. Handle it before the end is recorded:
        // afterwards its messages would be dropped as those of an abandoned attempt.
        while let Ok(delivery) = self.deliveries.try_recv() {
            self.on_message(delivery)?;
        }
        self.interrupts.remove(&stage);
        self.logs.seal(stage, attempt)?;
        self.handle(Input::Ended { stage, attempt, report })
    }

    fn observe_unrecorded(&mut self, at: Timestamp, kind: EventKind) {
        let seq = self.last_seq();
        self.observe(&Event { seq, at, kind });
    }

    fn last_seq(&self) -> u64 {
        self.scheduler.state().next_seq.saturating_sub(1)
    }

    /// Kills all attempts and waits until they have stopped, for [`KILL_BOUND`] at most.
    async fn kill_all(&mut self) {
        for running in self.interrupts.values() {
            running.interrupt.send_replace(Some(Interrupt::Kill));
        }
        let deadline = self.clock.sleep(KILL_BOUND);
        tokio::pin!(deadline);
        loop {
            tokio::select! {
                biased;
                ended = self.attempts.join_next() => if ended.is_none() { return },
                Some(_) = self.deliveries.recv() => {}
                () = &mut deadline => break,
            }
        }
        self.attempts.shutdown().await;
    }

    /// Releases everything that the run holds when a failure stopped it. Its process may live on, and as long as it
    /// does, other runs would wait for it. Errors are only logged: the store has probably failed already.
    fn release_all(&mut self) {
        let run = self.run();
        let written = self.commit(true);
        let (environments, group) = self.scheduler.held_resources();
        let released = environments.map(|name| self.coordinator.release_environment(&run, name)).collect::<Vec<_>>();
        let left = group.map(|group| self.coordinator.leave_group(&run, group));
        for error in released.into_iter().chain(left).chain([written]).filter_map(Result::err) {
            tracing::warn!(%run, %error, "could not release what a stopped run held");
        }
    }
}

/// Resolves when the heartbeat is due. A function, because a `select!` branch can't borrow from an `Option`.
async fn heartbeat_due(next_heartbeat: &mut Option<BoxFuture<'static, ()>>) -> Option<()> {
    match next_heartbeat {
        Some(due) => {
            due.await;
            Some(())
        }
        None => None,
    }
}
