//! Drives a run: composes the ports, and delivers answers, signals and cancel requests from the store.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use stagewright_cache::{Caching, Capturing};
use stagewright_engine::{
    DriveError, Event, Input, Observer, Ports, RunCommand, RunId, RunSummary, Scheduler, StoreError, drive,
};
use stagewright_model::StageIndex;
use stagewright_store::RunLock;
use tokio::sync::mpsc;

use crate::cache;
use crate::clock::SystemClock;
use crate::error::SessionError;
use crate::gates::{GateAnswers, GateHandling, cancel};
use crate::host::Host;
use crate::learn::WorkspaceCopy;
use crate::session::Session;
use crate::store::SharedStore;

/// How many commands may be queued. A rehearsal answers a gate with all required approvals at once, so this bounds the
/// approvals of a gate.
const CONTROL_BOUND: usize = 1024;

/// A run that is recorded and locked, and can be driven.
///
/// Dropping it releases the lock. A new run then stays recorded as never started; a resumed one can be resumed again.
pub struct Run {
    session: Session,
    parts: RunParts,
    control: mpsc::Sender<RunCommand>,
    commands: mpsc::Receiver<RunCommand>,
}

/// The parts of a run.
pub(crate) struct RunParts {
    pub(crate) id: RunId,
    pub(crate) host: Host,
    pub(crate) scheduler: Scheduler,
    pub(crate) runner: Capturing,
    /// The cache behind the runner.
    pub(crate) caching: Caching,
    /// The files of a learning run, which none but its stages work on.
    pub(crate) copy: Option<WorkspaceCopy>,
    pub(crate) store: SharedStore,
    pub(crate) run_lock: RunLock,
    pub(crate) rehearsal: bool,
    /// Whether the services of a rehearsal stay when it ends.
    pub(crate) keep_services: bool,
    pub(crate) first: Input,
    /// The events before it was resumed.
    pub(crate) past: Vec<Event>,
}

/// The front end's options for driving a run.
pub struct DriveOptions {
    /// Called with every event after it was recorded, in this order, but not with [`Run::past`].
    pub observers: Vec<Box<dyn Observer>>,
    /// How gates are answered.
    pub gates: GateHandling,
    /// If it resolves after the run has ended, results that haven't been sent to the shared cache yet aren't sent.
    pub abandon_results: BoxFuture<'static, ()>,
}

impl Run {
    pub(crate) fn new(session: &Session, parts: RunParts) -> Run {
        let (control, commands) = mpsc::channel(CONTROL_BOUND);
        Run { session: session.clone(), parts, control, commands }
    }

    /// The run's id.
    pub fn id(&self) -> &RunId {
        &self.parts.id
    }

    /// The events before it was resumed; empty for a new run.
    pub fn past(&self) -> &[Event] {
        &self.parts.past
    }

    /// Whether it is a rehearsal.
    pub fn is_rehearsal(&self) -> bool {
        self.parts.rehearsal
    }

    /// The sender of commands to the run while it is driven: to cancel it, to answer a gate, or to suspend it.
    pub fn control(&self) -> mpsc::Sender<RunCommand> {
        self.control.clone()
    }

    /// Drives the run until it ends or suspends. Its lock is released then, and its results are in the shared cache.
    ///
    /// The future must be polled to its end: to end a run early, send [`RunCommand::Cancel`].
    ///
    /// # Errors
    /// If an event can't be recorded, which stops the run, or if the services of a rehearsal can't be stopped.
    pub async fn drive(self, options: DriveOptions) -> Result<RunSummary, SessionError> {
        let Run { session, parts, control, commands } = self;
        let DriveOptions { mut observers, gates: handling, abandon_results } = options;
        let taken = deliver_pending(&parts, &control)?;
        if matches!(handling, GateHandling::Suspend) && !parts.rehearsal {
            let _ = control.try_send(RunCommand::Suspend);
        }
        let prompter = match &handling {
            GateHandling::Ask(prompter) => Some(Arc::clone(prompter)),
            GateHandling::Suspend | GateHandling::Wait => None,
        };
        let mut gates = GateAnswers::new(handling, parts.rehearsal, control.clone());
        parts.past.iter().for_each(|event| gates.on_event(event));
        gates.begin(&taken);
        let logs = Box::new(parts.store.lock().logs(&parts.id)?);
        let polling = tokio::spawn(gates.poll(parts.store.clone(), parts.id.clone(), control));
        observers.push(Box::new(gates));
        let ports = Ports {
            runner: match parts.copy {
                Some(_) => parts.host.uncached(),
                None => Arc::new(parts.runner.clone()),
            },
            store: Box::new(parts.store.clone()),
            coordinator: Box::new(parts.store),
            logs,
            clock: Arc::new(SystemClock),
            observers,
            control: commands,
        };
        let result = drive(parts.scheduler, ports, parts.first).await;
        // Without the cached digests, the next run reads the files again.
        if let Err(error) = parts.caching.save().and_then(|()| parts.runner.save()) {
            tracing::warn!(%error, "could not store the digests of files");
        }
        polling.abort();
        prompter.iter().for_each(|prompter| prompter.close());
        drop(parts.run_lock);
        // From here on, other processes can lock the run.
        cache::settle(&parts.caching, &*session.notices, abandon_results).await;
        if parts.rehearsal && !parts.keep_services {
            parts.host.stop_rehearsal(&parts.id).await?;
        }
        result.map_err(|error| stopped(&parts.id, error))
    }
}

/// Delivers the answers, signals and cancel requests that were stored while no process drove the run, before any other command.
/// Returns the stages whose gates were answered.
fn deliver_pending(parts: &RunParts, control: &mpsc::Sender<RunCommand>) -> Result<BTreeSet<StageIndex>, StoreError> {
    let mut store = parts.store.lock();
    // The store returns each message once per handle, and the session keeps its handle. An earlier drive of this run
    // may have received messages and failed before it recorded their events. Without this they would be lost to every
    // later drive by the same session.
    store.redeliver(&parts.id)?;
    for reason in store.take_cancels(&parts.id)? {
        let _ = control.try_send(cancel(reason));
    }
    let mut answered = BTreeSet::new();
    for (stage, decision) in store.take_decisions(&parts.id)? {
        answered.insert(stage);
        let _ = control.try_send(RunCommand::Decide { stage, decision });
    }
    for signal in store.take_signals(&parts.id)? {
        let _ = control.try_send(RunCommand::Signal(signal));
    }
    Ok(answered)
}

fn stopped(run: &RunId, error: DriveError) -> SessionError {
    match error {
        DriveError::Store(error) => {
            let failed = SessionError::from(error);
            SessionError { message: format!("run {run} was stopped: {}", failed.message), ..failed }
                .hint(format!("after fixing this, run: stagewright resume {run}"))
        }
        DriveError::Illegal(error) => {
            SessionError::internal(format!("run {run} was stopped by a defect in Stagewright"))
                .caused_by(error)
                .hint("please report it with the output of `stagewright logs`")
        }
    }
}
