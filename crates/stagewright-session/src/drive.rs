//! Carries a run out: puts the ports together, drives the run, and writes what is left behind for others.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use stagewright_cache::{Caching, Capturing};
use stagewright_engine::{
    Control, DriveError, Event, Input, Interrupt, Observer, Piece, Ports, RunId, RunSummary, Scheduler, drive,
};
use stagewright_report::{Reader, RunView, junit};
use stagewright_store::{Lease, Store};
use tokio::sync::mpsc;

use crate::answers::{Answering, Answers, poll};
use crate::args::{DriveArgs, Format, Global};
use crate::clock::SystemClock;
use crate::command::decide::user;
use crate::command::history::exit_of;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::repository::Repository;
use crate::screen::Screen;
use crate::{cache, console, screen, signals};

/// Wishes that may wait for the loop. A rehearsal answers a gate with as many approvals as it takes at once.
const CONTROL_BOUND: usize = 1024;

/// A run that is ready to start or to go on.
pub(crate) struct Run {
    pub(crate) id: RunId,
    pub(crate) scheduler: Scheduler,
    pub(crate) runner: Capturing,
    /// The cache behind the runner.
    pub(crate) caching: Caching,
    pub(crate) store: Store,
    pub(crate) lease: Lease,
    pub(crate) rehearsal: bool,
    pub(crate) first: Input,
    /// What happened before, for those who watch.
    pub(crate) past: Vec<Event>,
}

/// Drives the run until it ends or suspends.
pub(crate) fn conduct(
    global: &Global,
    repository: &Repository,
    args: &DriveArgs,
    run: Run,
) -> Result<Exit, CommandError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CommandError::internal("can't start the runtime").caused_by(error))?;
    let junit = args.junit.as_deref().map(|file| (file, Arc::new(Mutex::new(RunView::default()))));
    let collected = junit.as_ref().map(|(_, view)| Collected(Arc::clone(view)));
    let (screen, shown) = screen::open(global, args.format);
    let result = runtime.block_on(drive_run(repository, args, run, (Arc::clone(&screen), shown), collected));
    // A prompt may still be reading standard input; nothing else is left.
    runtime.shutdown_background();
    let summary = result?;
    if let Some((path, view)) = junit {
        write_junit(&repository.root, path, &view.lock().unwrap_or_else(PoisonError::into_inner))?;
    }
    exit_when_shown(exit_of(summary.conclusion), screen.written())
}

/// A result that could not be written isn't a success. The code of a run that did not succeed says more.
fn exit_when_shown(exit: Exit, written: io::Result<()>) -> Result<Exit, CommandError> {
    match written {
        // Whoever read the output has seen enough; the run went on.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let error = CommandError::from(error);
            if exit == Exit::Success {
                return Err(error);
            }
            console::show(&error.render());
            Ok(exit)
        }
        _ => Ok(exit),
    }
}

async fn drive_run(
    repository: &Repository,
    args: &DriveArgs,
    run: Run,
    (screen, mut shown): (Arc<Screen>, Box<dyn Reader>),
    collected: Option<Collected>,
) -> Result<RunSummary, CommandError> {
    let (control, wishes) = mpsc::channel(CONTROL_BOUND);
    let answering = match (run.rehearsal, args.wait) {
        (true, _) => Answering::Rehearse,
        (false, true) => Answering::Wait,
        (false, false) if args.format == Format::Text && console::can_ask() => Answering::Ask,
        (false, false) => Answering::Suspend,
    };
    let mut inbox = Store::open(&repository.state)?;
    // What was said while no process drove the run counts before anything else is decided.
    for reason in inbox.take_cancels(&run.id)? {
        let _ = control.try_send(Control::Cancel { how: Interrupt::Graceful, reason });
    }
    let mut answered = BTreeSet::new();
    for (stage, decision) in inbox.take_decisions(&run.id)? {
        answered.insert(stage);
        let _ = control.try_send(Control::Decide { stage, decision });
    }
    if answering == Answering::Suspend {
        let _ = control.try_send(Control::Suspend);
    }
    let mut answers = Answers::new(answering, control.clone(), Arc::clone(&screen), user(repository));
    let open = answers.open();
    if !run.past.is_empty() {
        shown.catch_up(&run.past);
    }
    let mut observers: Vec<Box<dyn Observer>> = Vec::new();
    observers.extend(collected.map(|collected| Box::new(collected) as Box<dyn Observer>));
    for event in &run.past {
        observers.iter_mut().for_each(|observer| observer.on_event(event));
        answers.on_event(event);
    }
    answers.begin(&answered);
    observers.insert(0, shown);
    observers.push(Box::new(answers));
    let logs = Box::new(run.store.logs(&run.id)?);
    let polling = tokio::spawn(poll(inbox, run.id.clone(), open, control.clone()));
    let watching = tokio::spawn(signals::watch(control));
    let ports = Ports {
        runner: Arc::new(run.runner.clone()),
        store: Box::new(run.store),
        turns: Box::new(Store::open(&repository.state)?),
        logs,
        clock: Arc::new(SystemClock),
        observers,
        control: wishes,
    };
    let result = drive(run.scheduler, ports, run.first).await;
    // What isn't written down of files is read again.
    if let Err(error) = run.caching.save().and_then(|()| run.runner.save()) {
        tracing::warn!(%error, "what was learned of files is not kept");
    }
    polling.abort();
    watching.abort();
    screen.settle();
    drop(run.lease);
    // The run is over for everybody else.
    cache::settle(&run.caching).await;
    result.map_err(|error| match error {
        DriveError::Store(error) => {
            let failed = CommandError::from(error);
            CommandError { message: format!("run {} was stopped: {}", run.id, failed.message), ..failed }
                .hint(format!("once that is mended: stagewright resume {}", run.id))
        }
        DriveError::Illegal(error) => CommandError::internal(format!("run {} was stopped by a defect", run.id))
            .caused_by(error)
            .hint("please report it with the output of `stagewright logs`"),
    })
}

/// Folds the run for what is written at its end.
struct Collected(Arc<Mutex<RunView>>);

impl Observer for Collected {
    fn on_event(&mut self, event: &Event) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).apply(event);
    }

    fn on_lines(&mut self, piece: &Piece<'_>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).apply_lines(piece);
    }
}

fn write_junit(root: &Path, path: &Path, view: &RunView) -> Result<(), CommandError> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        CommandError::internal(format!("can't write the JUnit report {}", path.display())).caused_by(error)
    };
    let report = junit(view).map_err(|error| failed(error.into()))?;
    // A stage may have laid a link or a pipe there.
    stagewright_files::replace(root, path, report.as_bytes()).map_err(|error| failed(error.into()))
}
