//! Runs a pipeline without the command line, as a server or another front end would, and prints its progress.
//!
//! ```text
//! cargo run -p stagewright-session --example run_pipeline -- FOLDER PLUGINS [PIPELINE]
//! ```
//!
//! FOLDER is a repository with a `stagewright.toml`, or any folder in it; PLUGINS is the folder of the built-in
//! plugins.
#![expect(clippy::print_stdout, clippy::print_stderr, clippy::disallowed_methods, reason = "it is a front end")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use stagewright_engine::{Event, EventKind, LogChunk, Observer, Outcome};
use stagewright_model::Diagnostic;
use stagewright_session::{
    BuiltinPlugins, DriveOptions, GateHandling, Notice, Notices, RunRequest, Session, SessionConfig, SessionError,
    StartOutcome, helper_main,
};

fn main() -> ExitCode {
    // The engine starts this program again to create sandboxes and to supervise services.
    if let Some(code) = helper_main(std::env::args_os()) {
        return code;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (folder, plugins, pipeline) = match arguments.as_slice() {
        [folder, plugins] => (folder, plugins, None),
        [folder, plugins, pipeline] => (folder, plugins, Some(pipeline.as_str())),
        _ => {
            eprintln!("usage: run_pipeline FOLDER PLUGINS [PIPELINE]");
            return ExitCode::from(2);
        }
    };
    let Ok(runtime) = tokio::runtime::Runtime::new() else { return ExitCode::FAILURE };
    let config = config(Path::new(folder), Path::new(plugins), std::env::vars().collect());
    let lines = OutputLines::default();
    let result = runtime.block_on(run(config, pipeline, &lines));
    lines.take().iter().for_each(|line| println!("{}", line.escape_debug()));
    match result {
        Ok(conclusion) => ExitCode::from(u8::from(conclusion != Some(Outcome::Succeeded))),
        Err(error) => {
            eprintln!("error: {}", error.message.escape_debug());
            error.hints.iter().for_each(|hint| eprintln!("  help: {}", hint.escape_debug()));
            ExitCode::FAILURE
        }
    }
}

/// Everything that the session uses of this process.
pub(crate) fn config(folder: &Path, plugins: &Path, environment: Vec<(String, String)>) -> SessionConfig {
    SessionConfig {
        current: std::env::current_dir().unwrap_or_default(),
        directory: folder.to_owned(),
        state: None,
        policy: None,
        plugins: BuiltinPlugins { folders: vec![plugins.to_owned()], ..BuiltinPlugins::default() },
        program: PathBuf::from("/proc/self/exe"),
        temporary: std::env::temp_dir(),
        environment: environment.into_iter().collect(),
    }
}

/// Starts a pipeline, and drives it until it ends or suspends. Returns its conclusion; none if it waits for a person.
///
/// # Errors
/// If it can't be started, or its events can't be recorded.
pub(crate) async fn run(
    config: SessionConfig,
    pipeline: Option<&str>,
    lines: &OutputLines,
) -> Result<Option<Outcome>, SessionError> {
    let session = Session::open(config, Arc::new(lines.clone()))?;
    let pipeline = session.load(session.pipeline(pipeline)?)?;
    let StartOutcome::Run(run) = session.start(pipeline, &RunRequest::default()).await? else {
        return Ok(Some(Outcome::Skipped));
    };
    let options = DriveOptions {
        observers: vec![Box::new(Stages { names: Vec::new(), lines: lines.clone() })],
        gates: GateHandling::Suspend,
        abandon_results: Box::pin(std::future::pending()),
    };
    Ok(run.drive(options).await?.conclusion)
}

/// The output: a line for each stage that ended, notice and diagnostic.
#[derive(Clone, Default)]
pub(crate) struct OutputLines(Arc<Mutex<Vec<String>>>);

impl OutputLines {
    fn push(&self, line: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Notices for OutputLines {
    fn diagnostics(&self, found: &[&Diagnostic]) {
        for diagnostic in found {
            let (line, column) = diagnostic.position();
            self.push(format!("{}:{line}:{column}: {}", diagnostic.file(), diagnostic.message()));
        }
    }

    fn notice(&self, notice: &Notice) {
        self.push(notice.to_string());
    }
}

/// Observes the events of a run.
struct Stages {
    names: Vec<String>,
    lines: OutputLines,
}

impl Observer for Stages {
    fn on_event(&mut self, event: &Event) {
        match &event.kind {
            EventKind::RunStarted { stages, .. } => {
                self.names = stages.iter().map(|stage| stage.id.clone()).collect();
            }
            EventKind::StageEnded { stage, outcome, .. } => {
                self.lines.push(format!("{}: {}", self.names[stage.get()], outcome.as_str()));
            }
            _ => {}
        }
    }

    fn on_lines(&mut self, _: &LogChunk<'_>) {}
}
