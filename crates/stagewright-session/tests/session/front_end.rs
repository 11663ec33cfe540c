//! A front end without a screen, which collects notices and diagnostics.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stagewright_engine::{Event, Observer, RunSummary};
use stagewright_model::Diagnostic;
use stagewright_session::{
    BuiltinPlugins, DriveOptions, GateHandling, Notice, Notices, PluginRuntime, Run, RunRequest, Session,
    SessionConfig, SessionError, StartOutcome,
};
use tempfile::TempDir;

/// The timeout of a run, far longer than any run in these tests takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// The folder of the profile in the target folder, whose `deps` contains the test binary.
fn target() -> PathBuf {
    let this = std::env::current_exe().expect("a test binary");
    this.parent().and_then(Path::parent).expect("…/debug/deps/session").to_owned()
}

/// The built-in plugins; `cargo xtask test` builds them first.
pub(crate) fn plugins() -> PathBuf {
    let folder = target().parent().expect("the target folder").join("stagewright/plugins");
    assert!(folder.join("noop.wasm").is_file(), "{} isn't built: run `cargo xtask test`", folder.display());
    folder
}

/// A temporary repository, with the collected notices and diagnostics.
pub(crate) struct FrontEnd {
    folder: TempDir,
    variables: Vec<(String, String)>,
    collected: Arc<Collected>,
}

#[derive(Default)]
struct Collected {
    notices: Mutex<Vec<Notice>>,
    diagnostics: Mutex<Vec<String>>,
}

impl Notices for Collected {
    fn diagnostics(&self, found: &[&Diagnostic]) {
        self.diagnostics.lock().unwrap().extend(found.iter().map(|one| one.message().to_string()));
    }

    fn notice(&self, notice: &Notice) {
        self.notices.lock().unwrap().push(notice.clone());
    }
}

impl FrontEnd {
    pub(crate) fn with_pipeline(text: &str) -> FrontEnd {
        let folder = tempfile::tempdir().unwrap();
        // Compiled plugins are shared by all tests.
        let cache = target().join("test-cache");
        let variables = [
            ("PATH", std::env::var("PATH").unwrap_or_default()),
            ("HOME", folder.path().join("home").display().to_string()),
            ("XDG_CACHE_HOME", cache.display().to_string()),
            ("USER", "tester".to_owned()),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value)).to_vec();
        let front_end = FrontEnd { folder, variables, collected: Arc::default() };
        std::fs::create_dir_all(front_end.root().join("sub")).unwrap();
        front_end.write("stagewright.toml", text);
        front_end
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("repo")
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.root().join(name), text).unwrap();
    }

    pub(crate) fn variables(&self) -> Vec<(String, String)> {
        self.variables.clone()
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    pub(crate) fn session(&self) -> Session {
        Session::open(self.config(), self.collected.clone()).unwrap()
    }

    pub(crate) fn session_on(&self, runtime: &PluginRuntime) -> Result<Session, SessionError> {
        Session::open_with_runtime(self.config(), self.collected.clone(), runtime.clone())
    }

    fn config(&self) -> SessionConfig {
        SessionConfig {
            current: self.root().join("sub"),
            directory: PathBuf::from(".."),
            state: None,
            policy: None,
            plugins: BuiltinPlugins { folders: vec![plugins()], ..BuiltinPlugins::default() },
            program: PathBuf::from("/proc/self/exe"),
            temporary: self.folder.path().to_owned(),
            environment: self.variables.iter().cloned().collect(),
        }
    }

    pub(crate) async fn start(&self, session: &Session, request: &RunRequest) -> Run {
        let pipeline = session.load(session.pipeline(None).unwrap()).unwrap();
        match session.start(pipeline, request).await.unwrap() {
            StartOutcome::Run(run) => *run,
            StartOutcome::NotStarted { reason } => panic!("{reason}"),
        }
    }

    pub(crate) fn notices(&self) -> Vec<Notice> {
        self.collected.notices.lock().unwrap().clone()
    }

    pub(crate) fn collected(&self) -> Vec<String> {
        self.collected.diagnostics.lock().unwrap().clone()
    }
}

type Events = Arc<Mutex<Vec<Event>>>;

struct Recorder(Events);

impl Observer for Recorder {
    fn on_event(&mut self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

pub(crate) fn drive_options(gates: GateHandling, events: &Events) -> DriveOptions {
    DriveOptions {
        observers: vec![Box::new(Recorder(events.clone()))],
        gates,
        abandon_results: Box::pin(std::future::pending()),
    }
}

/// Drives a run until it ends or suspends, and returns its summary and events.
pub(crate) async fn drive(run: Run, gates: GateHandling) -> (RunSummary, Vec<Event>) {
    let events = Events::default();
    let driven = tokio::time::timeout(PATIENCE, run.drive(drive_options(gates, &events)));
    let summary = driven.await.expect("the run ends or suspends").unwrap();
    let events = events.lock().unwrap().clone();
    (summary, events)
}
