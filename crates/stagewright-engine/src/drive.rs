//! The loop that carries a scheduler's wishes out.
//!
//! ```text
//!  Control ─┐                        ┌─> RunStore (before anything else)
//!  attempts ┼─> Input ─> Scheduler ──┼─> Observers
//!  timers ──┤                        ├─> StageRunner, timers
//!  Turns ───┘                        └─> Turns
//!  attempts ──── AttemptMessage ────────> LogSink, Observers
//! ```
//!
//! Everything arrives at one task, so the order in which observers see events is the order of the journal. An attempt
//! is stopped by a message, never by dropping its future.
//!
//! Events are committed in groups: those after which nothing may happen that can't happen again are held back until
//! there is nothing else to do, or until an intent has to be durable. Observers see an event once it is committed.

mod unrunnable;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use stagewright_model::{EffectClass, StageIndex};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinError, JoinSet};

use self::unrunnable::{defect, left_behind};
use crate::event::{Capture, Decision, Event, EventKind, Failure, Interrupt, RunId, RunSummary, Timestamp};
use crate::lines::LogChunk;
use crate::port::{
    AttemptMessage, AttemptMessageKind, AttemptOutput, AttemptReport, AttemptRequest, Clock, Delivery, EffectRefused,
    HEARTBEAT, LogSink, Observer, RunCoordinator, RunStore, StageRunner, StoreError,
};
use crate::scheduler::{Action, Input, Response, Scheduler};
use crate::state::IllegalTransition;

/// Messages of attempts that may wait for the loop; an attempt that sends more waits until there is room.
const MESSAGE_BOUND: usize = 64;

/// Events that are committed together at most.
const GROUP: usize = 256;

/// What is left to attempts that were asked to stop; then they are told to. Runners have a shorter grace of their own:
/// this is for one that doesn't keep it.
const GRACEFUL_BOUND: Duration = Duration::from_secs(15);

/// What is left to attempts that were told to stop at once.
const KILL_BOUND: Duration = Duration::from_secs(5);

/// The world, as the loop needs it.
pub struct Ports {
    /// Runs attempts.
    pub runner: Arc<dyn StageRunner>,
    /// Keeps the journal.
    pub store: Box<dyn RunStore>,
    /// Keeps runs from getting into each other's way.
    pub coordinator: Box<dyn RunCoordinator>,
    /// Keeps the logs.
    pub logs: Box<dyn LogSink>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Watch the run, in this order.
    pub observers: Vec<Box<dyn Observer>>,
    /// Wishes of people. When every sender is gone the run suspends once only gates are left.
    pub control: mpsc::Receiver<RunCommand>,
}

/// A wish of a person.
#[derive(Clone, Debug, PartialEq)]
pub enum RunCommand {
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
/// When this returns, no attempt is running any more but one that ignored a kill and was left behind.
pub async fn drive(scheduler: Scheduler, ports: Ports, first: Input) -> Result<RunSummary, DriveError> {
    let (delivery_sender, deliveries) = mpsc::channel(MESSAGE_BOUND);
    let mut driver = Driver {
        scheduler,
        runner: ports.runner,
        store: ports.store,
        coordinator: ports.coordinator,
        uncommitted: Vec::new(),
        beat: None,
        asking: FuturesUnordered::new(),
        logs: ports.logs,
        clock: ports.clock,
        observers: ports.observers,
        attempts: JoinSet::new(),
        interrupts: BTreeMap::new(),
        launches: 0,
        timers: FuturesUnordered::new(),
        overdue: FuturesUnordered::new(),
        captures: FuturesUnordered::new(),
        deliveries,
        delivery_sender,
        may_wait: true,
        summary: None,
    };
    let result = driver.drive(ports.control, first).await;
    if result.is_err() {
        driver.kill_all().await;
        driver.release_unused();
    }
    result
}

struct Driver {
    scheduler: Scheduler,
    runner: Arc<dyn StageRunner>,
    store: Box<dyn RunStore>,
    coordinator: Box<dyn RunCoordinator>,
    /// Events that observers haven't seen yet.
    uncommitted: Vec<Event>,
    /// When the run has to say that it is alive; while it holds an environment.
    beat: Option<BoxFuture<'static, ()>>,
    /// When to ask for the concurrency group again.
    asking: FuturesUnordered<BoxFuture<'static, ()>>,
    logs: Box<dyn LogSink>,
    clock: Arc<dyn Clock>,
    observers: Vec<Box<dyn Observer>>,
    attempts: JoinSet<AttemptReport>,
    interrupts: BTreeMap<StageIndex, Running>,
    /// Calls of plugins so far.
    launches: u64,
    timers: FuturesUnordered<BoxFuture<'static, (StageIndex, u32)>>,
    /// When attempts that were asked or told to stop have had their time for it: stage, launch, and how they were.
    overdue: FuturesUnordered<BoxFuture<'static, (StageIndex, u64, Interrupt)>>,
    /// Captures under way.
    captures: FuturesUnordered<BoxFuture<'static, Captured>>,
    deliveries: mpsc::Receiver<Delivery>,
    delivery_sender: mpsc::Sender<Delivery>,
    may_wait: bool,
    summary: Option<RunSummary>,
}

/// What became of the capture for a stage's gate.
type Captured = (StageIndex, Result<Option<Capture>, Failure>);

struct Running {
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
                wish = control.recv(), if self.may_wait || !control.is_closed() || !control.is_empty() => match wish {
                    Some(RunCommand::Decide { stage, decision }) => self.handle(Input::Decided { stage, decision })?,
                    Some(RunCommand::Cancel { how, reason }) => self.handle(Input::Cancel { how, reason })?,
                    Some(RunCommand::Suspend) | None => self.may_wait = false,
                },
                Some(delivery) = self.deliveries.recv() => self.on_message(delivery)?,
                Some(ended) = self.attempts.join_next_with_id(), if !self.attempts.is_empty() => {
                    self.attempt_ended(ended)?;
                }
                // Before the timers, which a clock that jumps may all set off at once.
                () = async {}, if self.uncommitted.len() >= GROUP => self.commit(false)?,
                Some((stage, launch, how)) = self.overdue.next(), if !self.overdue.is_empty() => {
                    self.on_stop_deadline(stage, launch, how)?;
                }
                Some((stage, attempt)) = self.timers.next(), if !self.timers.is_empty() => {
                    self.handle(Input::Woken { stage, attempt })?;
                }
                Some((stage, captured)) = self.captures.next(), if !self.captures.is_empty() => {
                    self.handle(Input::Captured { stage, captured })?;
                }
                Some(()) = self.asking.next(), if !self.asking.is_empty() => self.handle(Input::AskAgain)?,
                Some(()) = next_beat(&mut self.beat), if self.beat.is_some() => self.heartbeat()?,
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
        if self.scheduler.holds_turns() {
            let clock = &self.clock;
            self.beat.get_or_insert_with(|| clock.sleep(HEARTBEAT));
        } else {
            self.beat = None;
        }
        Ok(())
    }

    /// Gives the input that the action asks for, if it is there at once.
    fn carry_out(&mut self, action: Action) -> Result<Option<Input>, DriveError> {
        match action {
            Action::Tell(kind) => {
                self.commit(false)?;
                self.observe_unrecorded(self.clock.now(), kind);
            }
            Action::Launch(request) => self.launch(*request),
            Action::Capture { stage, request } => {
                let capture = self.runner.capture(*request);
                self.captures.push(Box::pin(async move { (stage, capture.await) }));
            }
            Action::Interrupt { stage, how } => self.interrupt(stage, how),
            Action::Wake { stage, attempt, after } => self.timers.push(self.later(after, stage, attempt)),
            Action::AskAgain(after) => self.asking.push(self.clock.sleep(after)),
            Action::Finish(summary) => self.summary = Some(summary),
            Action::AcquireEnvironment { stage, claim } => {
                return Ok(Some(Input::EnvironmentAnswer {
                    stage,
                    claimed: self.coordinator.acquire_environment(&claim)?,
                }));
            }
            Action::EnterGroup(join) => return Ok(Some(Input::GroupAnswer(self.coordinator.enter_group(&join)?))),
            // What the run has done there must be in the journal before another may come.
            Action::Unclaim(environment) => {
                self.commit(true)?;
                self.coordinator.release_environment(&self.run(), &environment)?;
            }
            Action::Leave(group) => {
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
        self.beat = Some(self.clock.sleep(HEARTBEAT));
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
        self.overdue.push(Box::pin(async move {
            sleep.await;
            (stage, launch, how)
        }));
    }

    /// The time that an attempt had to stop is over.
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
            // A runner that breaks its promise must not keep the run from ending.
            Interrupt::Kill => {
                running.task.abort();
                self.end(stage, running.attempt, left_behind())
            }
        }
    }

    fn later(&self, after: Duration, stage: StageIndex, attempt: u32) -> BoxFuture<'static, (StageIndex, u32)> {
        let sleep = self.clock.sleep(after);
        Box::pin(async move {
            sleep.await;
            (stage, attempt)
        })
    }

    /// Takes events for the journal. They are committed at once when what follows may not happen without them.
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
            // What can simply run again need not be known to have started.
            EventKind::AttemptStarted { stage, .. } => self.reaches_out(*stage),
            // Not to have to ask what became of it.
            EventKind::AttemptEnded { stage, .. } => self.reaches_out(*stage),
            EventKind::RunEnded { .. } | EventKind::RunSuspended { .. } | EventKind::GateDecided { .. } => true,
            kind => kind.is_intent(),
        }
    }

    fn reaches_out(&self, stage: StageIndex) -> bool {
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
        let output = AttemptOutput::new(stage, attempt, self.delivery_sender.clone()).of_launch(launch);
        let future = self.runner.run(request, output, receiver);
        let task = self.attempts.spawn(future);
        self.interrupts.insert(stage, Running { attempt, launch, task, interrupt });
    }

    fn attempt_ended(&mut self, ended: Result<(tokio::task::Id, AttemptReport), JoinError>) -> Result<(), DriveError> {
        let (task, result) = match ended {
            Ok((task, report)) => (task, Ok(report)),
            Err(error) => (error.id(), Err(error)),
        };
        // One that was left behind has ended long ago, as far as the run is concerned.
        let running = self.interrupts.iter().find(|(_, running)| running.task.id() == task);
        let Some((&stage, running)) = running else { return Ok(()) };
        let attempt = running.attempt;
        self.end(stage, attempt, result.unwrap_or_else(defect))
    }

    fn end(&mut self, stage: StageIndex, attempt: u32, report: AttemptReport) -> Result<(), DriveError> {
        // All that the attempt sent is in the channel by now.
        while let Ok(delivery) = self.deliveries.try_recv() {
            self.on_message(delivery)?;
        }
        self.interrupts.remove(&stage);
        self.logs.seal(stage, attempt)?;
        self.handle(Input::Ended { stage, attempt, report })
    }

    fn on_message(&mut self, delivery: Delivery) -> Result<(), DriveError> {
        let Delivery { message: AttemptMessage { stage, attempt, launch, kind }, reply } = delivery;
        // Messages of an attempt that was left behind are dropped. One that has ended may have no further effect, but what
        // it logged before its end is kept.
        let running = self.interrupts.get(&stage).filter(|running| running.launch == launch);
        let acts = matches!(kind, AttemptMessageKind::EffectRequested { .. });
        if running.is_none_or(|running| acts && running.task.is_finished()) {
            return Ok(());
        }
        let at = self.clock.now();
        match kind {
            AttemptMessageKind::Lines(stream, lines) => {
                let seq = self.last_seq();
                self.logs.append(at, seq, stage, attempt, stream, &lines)?;
                self.commit(false)?;
                let chunk = LogChunk { seq, at, stage, attempt, stream, lines: &lines };
                for observer in &mut self.observers {
                    observer.on_lines(&chunk);
                }
            }
            AttemptMessageKind::Progress { message, current, total } => {
                self.commit(false)?;
                self.observe_unrecorded(at, EventKind::Progress { stage, message, current, total });
            }
            AttemptMessageKind::Summary(markdown) => self.say(EventKind::Summary { stage, markdown })?,
            AttemptMessageKind::CacheLookedUp { key, hit_from } => {
                self.say(EventKind::CacheLookedUp { stage, attempt, key, hit_from })?;
            }
            AttemptMessageKind::Problem(problem) => self.say(EventKind::Problem { stage, problem })?,
            AttemptMessageKind::EffectRequested { what } => {
                let allowed = self.allow_effect(stage, attempt, what)?;
                if let Some(reply) = reply {
                    // An attempt that went away doesn't need the answer.
                    let _ = reply.send(allowed);
                }
            }
        }
        Ok(())
    }

    /// Lets an attempt have an effect: when it still holds its environment, and once the journal says so.
    fn allow_effect(
        &mut self,
        stage: StageIndex,
        attempt: u32,
        what: String,
    ) -> Result<Result<(), EffectRefused>, DriveError> {
        let mut allowed = self.holds_environment(stage)?;
        if allowed.is_ok()
            && let Some(intent) = self.scheduler.intend(self.clock.now(), stage, attempt, what)?
        {
            self.record(vec![intent])?;
            // The disk may have taken its time.
            allowed = self.holds_environment(stage)?;
        }
        Ok(allowed)
    }

    fn holds_environment(&mut self, stage: StageIndex) -> Result<Result<(), EffectRefused>, StoreError> {
        let acts_under = self.scheduler.acts_under(stage).map(|(name, fence)| (name.to_owned(), fence));
        let Some((environment, fence)) = acts_under else { return Ok(Ok(())) };
        let holds = self.coordinator.holds(&self.run(), &environment, fence)?;
        Ok(if holds { Ok(()) } else { Err(EffectRefused::Superseded(environment)) })
    }

    fn say(&mut self, kind: EventKind) -> Result<(), DriveError> {
        let event = self.scheduler.remark(self.clock.now(), kind)?;
        self.record(vec![event])
    }

    fn observe_unrecorded(&mut self, at: Timestamp, kind: EventKind) {
        let seq = self.last_seq();
        self.observe(&Event { seq, at, kind });
    }

    fn last_seq(&self) -> u64 {
        self.scheduler.state().next_seq.saturating_sub(1)
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
                biased;
                ended = self.attempts.join_next() => if ended.is_none() { return },
                Some(_) = self.deliveries.recv() => {}
                () = &mut deadline => break,
            }
        }
        self.attempts.shutdown().await;
    }

    /// Lets others have what the run held when it was stopped, as far as that is still possible: its process may live on.
    fn release_unused(&mut self) {
        let run = self.run();
        let written = self.commit(true);
        let (environments, group) = self.scheduler.turns_held();
        let unclaimed = environments.map(|name| self.coordinator.release_environment(&run, name)).collect::<Vec<_>>();
        let left = group.map(|group| self.coordinator.leave_group(&run, group));
        for error in unclaimed.into_iter().chain(left).chain([written]).filter_map(Result::err) {
            tracing::warn!(%run, %error, "a run that was stopped could not tidy up");
        }
    }
}

/// For `select!`, which can't borrow what may not be there.
async fn next_beat(beat: &mut Option<BoxFuture<'static, ()>>) -> Option<()> {
    match beat {
        Some(beat) => {
            beat.await;
            Some(())
        }
        None => None,
    }
}
