//! Drives a run in the foreground: shows it, asks the person at the terminal about gates, turns signals into
//! cancellation, and writes the JUnit report.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;
use stagewright_engine::{Event, LogChunk, Observer};
use stagewright_report::{RunView, junit};
use stagewright_session::{DriveOptions, GateHandling, Run, Session};

use crate::answers::AtTerminal;
use crate::command::history::exit_of;
use crate::drive_args::{DriveArgs, OutputFormat};
use crate::error::CommandError;
use crate::exit::Exit;
use crate::global::Global;
use crate::screen::Screen;
use crate::{console, screen, signals};

/// Drives the run until it ends or is suspended.
pub(crate) async fn drive(
    global: &Global,
    session: &Session,
    args: &DriveArgs,
    run: Run,
) -> Result<Exit, CommandError> {
    let junit = args.junit.as_deref().map(|file| (file, Arc::new(Mutex::new(RunView::default()))));
    let (screen, mut shown) = screen::open(global, args.format);
    if !run.past().is_empty() {
        shown.catch_up(run.past());
    }
    let mut observers: Vec<Box<dyn Observer>> = vec![shown];
    if let Some((_, view)) = &junit {
        let mut collected = Collected(Arc::clone(view));
        run.past().iter().for_each(|event| collected.on_event(event));
        observers.push(Box::new(collected));
    }
    let gates = gates(session, args, &screen);
    let watching = tokio::spawn(signals::watch(run.control()));
    // A signal that cancels the run doesn't abandon its results, so this one is only awaited once they are waited for.
    let abandon_results = async { signals::any().await }.boxed();
    let result = run.drive(DriveOptions { observers, gates, abandon_results }).await;
    watching.abort();
    let summary = result?;
    if let Some((path, view)) = junit {
        let view = view.lock().unwrap_or_else(PoisonError::into_inner);
        write_junit(&session.repository().root, path, &view)?;
    }
    exit_when_shown(exit_of(summary.conclusion), screen.written())
}

fn gates(session: &Session, args: &DriveArgs, screen: &Arc<Screen>) -> GateHandling {
    if args.wait {
        return GateHandling::Wait;
    }
    if args.format == OutputFormat::Text && console::can_ask() {
        return GateHandling::Ask(Arc::new(AtTerminal { screen: Arc::clone(screen), by: session.user_name() }));
    }
    GateHandling::Suspend
}

/// The exit code, taking write errors into account: a run whose output could not be written completely isn't a success,
/// but if the run itself failed, its own exit code is more useful.
fn exit_when_shown(exit: Exit, written: io::Result<()>) -> Result<Exit, CommandError> {
    match written {
        // A reader such as `head` that closes the pipe early isn't an error: the run continued without it.
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

/// Folds the run's events for the report that is written at its end.
struct Collected(Arc<Mutex<RunView>>);

impl Observer for Collected {
    fn on_event(&mut self, event: &Event) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).apply(event);
    }

    fn on_lines(&mut self, chunk: &LogChunk<'_>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).apply_lines(chunk);
    }
}

fn write_junit(root: &Path, path: &Path, view: &RunView) -> Result<(), CommandError> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        CommandError::internal(format!("can't write the JUnit report {}", path.display())).caused_by(error)
    };
    let report = junit(view).map_err(|error| failed(error.into()))?;
    // A stage may have put a symbolic link or a pipe at this path. `replace` follows neither: it writes a new file beside
    // it and renames that.
    stagewright_files::replace(root, path, report.as_bytes()).map_err(|error| failed(error.into()))
}
