//! A plugin host in a folder of its own, and attempts that it runs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use stagewright_engine::{
    AttemptEnd, AttemptMessageKind, AttemptOutput, AttemptReport, AttemptRequest, Call, Delivery, EffectRefused,
    Failure, Interrupt, Metric, Outcome, Problem, Rollout, RunId, StageRunner as _, TestCase,
};
use stagewright_model::{Permissions, PluginRef, StageIndex, Trust};
use stagewright_plugin_host::registry::{DockerConfig, Registry, RegistryConfig};
use stagewright_plugin_host::service::{ServiceConfig, ServiceManager};
use stagewright_plugin_host::{
    BuiltinPlugins, ChangeSource, ChangesUnknown, Claim, CompileObserver, GoodRelease, History, HostConfig, PluginHost,
    PluginRuntime, Pulls, Purpose, ReleaseLedger, ReleasesUnknown, Reserved, RuntimeConfig, Secret, SecretError,
    SecretSource,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

pub(crate) struct Harness {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) host: PluginHost,
}

struct NoSecrets;

impl SecretSource for NoSecrets {
    fn secret(&self, _name: &str) -> Result<Option<Secret>, SecretError> {
        Ok(None)
    }

    fn stand_in(&self, _name: &str) -> Option<Secret> {
        None
    }
}

impl Harness {
    pub(crate) fn new() -> Harness {
        let folder = tempfile::tempdir().unwrap();
        let host = host(&folder, Arc::new(NoSecrets));
        Harness { folder, host }
    }

    pub(crate) fn with_secrets(secrets: impl SecretSource + 'static) -> Harness {
        let folder = tempfile::tempdir().unwrap();
        let host = host(&folder, Arc::new(secrets));
        Harness { folder, host }
    }

    /// A new host on the same folder, as after a restart of the engine.
    pub(crate) fn restarted(&self) -> PluginHost {
        host(&self.folder, Arc::new(NoSecrets))
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    /// Installs a component as the built-in plugin `test`.
    pub(crate) fn install(&self, component: &[u8]) {
        std::fs::write(self.path("builtin/test.wasm"), component).unwrap();
    }

    pub(crate) fn start(&self, request: AttemptRequest) -> Running {
        start(&self.host, request)
    }

    /// Runs an attempt on a component to its end.
    pub(crate) async fn run(&self, component: &[u8], change: impl FnOnce(&mut AttemptRequest)) -> Ended {
        self.install(component);
        let mut request = request();
        change(&mut request);
        self.start(request).end().await
    }
}

fn host(folder: &tempfile::TempDir, secrets: Arc<dyn SecretSource>) -> PluginHost {
    run_host(&runtime(folder.path(), 8, Arc::new(())), folder.path(), secrets)
}

/// A machine whose built-in plugins and plugin cache are in `folder`.
pub(crate) fn runtime(folder: &Path, attempts: usize, compile_observer: Arc<dyn CompileObserver>) -> PluginRuntime {
    std::fs::create_dir_all(folder.join("builtin")).unwrap();
    PluginRuntime::new(RuntimeConfig {
        // Created by the runtime, with the mode that it requires.
        plugin_cache: folder.join("cache"),
        builtin: BuiltinPlugins { folders: vec![folder.join("builtin")], ..BuiltinPlugins::default() },
        environment: BTreeMap::new(),
        attempts,
        compile_observer,
    })
    .unwrap()
}

/// A run without secrets, whose workspace and backends are in `folder`.
pub(crate) fn run_without_secrets(runtime: &PluginRuntime, folder: &Path) -> PluginHost {
    run_host(runtime, folder, Arc::new(NoSecrets))
}

/// A run whose workspace and backends are in `folder`.
pub(crate) fn run_host(runtime: &PluginRuntime, folder: &Path, secrets: Arc<dyn SecretSource>) -> PluginHost {
    let path = |name: &str| {
        let path = folder.join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    };
    let registry = Arc::new(Registry::new(RegistryConfig {
        embedded_root: path("registry"),
        rehearsal_root: path("rehearsal"),
        credentials: Arc::new(DockerConfig::new(folder.join("none.json"))),
    }));
    let services = ServiceManager::new(ServiceConfig {
        root: path("environments"),
        rehearsal_root: path("rehearsal-environments"),
        exe: "/nonexistent/stagewright".into(),
        workspace: path("workspace"),
        registry: registry.clone(),
    });
    let config = HostConfig {
        workspace: path("workspace"),
        reserved: Reserved::new(
            &path("workspace"),
            vec![Claim { purpose: Purpose::State, path: path("workspace").join(".stagewright") }],
            None,
        ),
        artifacts: path("artifacts"),
        environment: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]),
        package_hosts: Default::default(),
        pulls: Pulls::default(),
        secrets,
        credentials: Arc::new(()),
        changes: Arc::new(NoRepository),
        releases: Arc::new(NoReleases),
        registry,
        services: Arc::new(services),
        learning: None,
        sandbox: None,
        grace: Duration::from_secs(1),
        verbose: false,
    };
    PluginHost::new(runtime, config).unwrap()
}

/// A request for an attempt on the built-in plugin `test`, without grants.
pub(crate) fn request() -> AttemptRequest {
    AttemptRequest {
        run: RunId("run-1".into()),
        pipeline: "pipeline".into(),
        stage: StageIndex(0),
        stage_id: "stage".into(),
        table: "stages.stage".to_owned(),
        attempt: 1,
        call: Call::Run,
        uses: PluginRef::Builtin("test".into()),
        trust: Trust::Component,
        plugin: None,
        config: serde_json::json!({}),
        env: BTreeMap::new(),
        permissions: Permissions::default(),
        environment: None,
        needs: Vec::new(),
        before: Default::default(),
        source: None,
        timeout: None,
        memory: None,
        log_limit: None,
        limits: Default::default(),
        declared: None,
        cache: None,
        failed_tests: None,
        resumption: None,
        rollout: None,
        rehearsal: None,
        basis: Default::default(),
        folder: None,
    }
}

pub(crate) fn start(host: &PluginHost, request: AttemptRequest) -> Running {
    let (interrupt, receiver) = watch::channel(None);
    let (sender, deliveries) = mpsc::channel(64);
    let output = AttemptOutput::new(request.stage, request.attempt, sender);
    let attempt = tokio::spawn(host.run(request, output, receiver));
    Running { interrupt, deliveries, attempt, lines: Vec::new(), verdict: Ok(()) }
}

/// A running attempt.
pub(crate) struct Running {
    interrupt: watch::Sender<Option<Interrupt>>,
    deliveries: mpsc::Receiver<Delivery>,
    attempt: JoinHandle<AttemptReport>,
    lines: Vec<String>,
    /// The engine's response to every effect.
    verdict: Result<(), EffectRefused>,
}

impl Running {
    /// Lets the engine refuse every effect.
    pub(crate) fn refused(self, refused: EffectRefused) -> Running {
        Running { verdict: Err(refused), ..self }
    }

    pub(crate) fn interrupt(&self, how: Interrupt) {
        self.interrupt.send_replace(Some(how));
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.attempt.is_finished()
    }

    /// The next line of the log.
    pub(crate) async fn line(&mut self) -> String {
        while self.lines.is_empty() {
            let Delivery { message, reply } = self.deliveries.recv().await.expect("the attempt is running");
            match message.kind {
                AttemptMessageKind::Lines(_, lines) => self.lines.extend(lines.iter().map(str::to_owned)),
                AttemptMessageKind::EffectRequested { .. } => drop(reply.unwrap().send(Ok(()))),
                _ => {}
            }
        }
        self.lines.remove(0)
    }

    pub(crate) async fn end(mut self) -> Ended {
        let mut ended = Ended { lines: self.lines, ..Ended::default() };
        while let Some(Delivery { message, reply }) = self.deliveries.recv().await {
            match message.kind {
                AttemptMessageKind::Lines(_, lines) => ended.lines.extend(lines.iter().map(str::to_owned)),
                AttemptMessageKind::Problem(problem) => ended.problems.push(problem),
                AttemptMessageKind::Tests(cases) => ended.tests.extend(cases),
                AttemptMessageKind::Metrics(metrics) => ended.metrics.extend(metrics),
                AttemptMessageKind::Progress { .. }
                | AttemptMessageKind::Summary(_)
                | AttemptMessageKind::CacheLookedUp { .. } => {}
                AttemptMessageKind::EffectRequested { what } => {
                    ended.effects.push(what);
                    let _ = reply.unwrap().send(self.verdict.clone());
                }
                AttemptMessageKind::RolloutRecorded(rollout) => {
                    ended.rollouts.push(*rollout);
                    let _ = reply.unwrap().send(self.verdict.clone());
                }
            }
        }
        ended.report = Some(self.attempt.await.unwrap());
        ended
    }
}

/// An attempt that has ended.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    report: Option<AttemptReport>,
    pub(crate) lines: Vec<String>,
    pub(crate) rollouts: Vec<Rollout>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) tests: Vec<TestCase>,
    pub(crate) metrics: Vec<Metric>,
    /// The effects that were announced.
    pub(crate) effects: Vec<String>,
}

impl Ended {
    pub(crate) fn report(&self) -> &AttemptReport {
        self.report.as_ref().unwrap()
    }

    pub(crate) fn failure(&self) -> (Outcome, &Failure) {
        match &self.report().end {
            AttemptEnd::Unsuccessful(outcome, failure) => (*outcome, failure),
            other => panic!("{other:?}"),
        }
    }
}

/// A workspace that isn't a repository.
struct NoRepository;

impl ChangeSource for NoRepository {
    fn changed_files(&self, _commit: &str) -> Result<BTreeSet<String>, ChangesUnknown> {
        Err(ChangesUnknown::default())
    }

    fn commits(&self, _head: &str, _since: Option<&str>, _most: usize) -> Result<History, ChangesUnknown> {
        Err(ChangesUnknown::default())
    }

    fn repository(&self) -> Result<Option<String>, ChangesUnknown> {
        Ok(None)
    }
}

/// A ledger without releases.
struct NoReleases;

impl ReleaseLedger for NoReleases {
    fn good_release(&self, _environment: &str, _asking: &RunId) -> Result<Option<GoodRelease>, ReleasesUnknown> {
        Ok(None)
    }
}
