//! Helpers for unit tests.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stagewright_engine::{
    AttemptMessageKind, AttemptOutput, AttemptRequest, Call, Delivery, EffectRefused, Need, Outcome, Problem, RunId,
};
use stagewright_model::{Permissions, PluginRef, RehearsalTerms, StageIndex, Trust};
use tokio::sync::{mpsc, watch};

use crate::attempt::{AttemptContext, AttemptHost};
use crate::capability::effects::Effects;
use crate::capability::secrets::{Secret, SecretError, SecretSource};
use crate::changes::{ChangeSource, ChangesUnknown, History};
use crate::confine::StageOwner;
use crate::host::{HostConfig, RunScope};
use crate::limits::DEFAULT_LOG;
use crate::log::AttemptLog;
use crate::mask::Masker;
use crate::net::outbound::Outbound;
use crate::registry::{DockerConfig, Registry, RegistryConfig};
use crate::rehearsal::{Rehearsal, RehearsalParts};
use crate::releases::{GoodRelease, ReleaseLedger, ReleasesUnknown};
use crate::reserved::Reserved;
use crate::service::{ServiceConfig, ServiceManager};
use crate::stop::{AttemptAborter, AttemptTimer};

/// A request for an attempt of a stage without grants.
pub(crate) fn request() -> AttemptRequest {
    AttemptRequest {
        run: RunId("run-1".into()),
        pipeline: "test".into(),
        stage: StageIndex(0),
        stage_id: "stage".into(),
        table: "stages.stage".to_owned(),
        attempt: 1,
        call: Call::Run,
        uses: PluginRef::Builtin("none".into()),
        trust: Trust::Component,
        plugin: None,
        config: serde_json::json!({}),
        env: Default::default(),
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

/// A need that succeeded, with these outputs.
pub(crate) fn need(stage: &str, outputs: &[(&str, &str)]) -> Need {
    let outputs = outputs.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
    let (outcome, conclusion) = (Outcome::Succeeded, Outcome::Succeeded);
    Need { stage: stage.to_owned(), id: stage.to_owned(), outcome, conclusion, outputs }
}

/// A rehearsal of a stage with the grants `own` in run `run-1`, and the aborter of its attempt. Its services are in
/// `rehearsals` in the folder.
pub(crate) fn rehearsal(
    folder: &Path,
    own: &Permissions,
    terms: &RehearsalTerms,
    log: &TestLog,
) -> (Rehearsal, AttemptAborter) {
    let aborter = AttemptAborter::default();
    let rehearsal = Rehearsal::new(RehearsalParts {
        run: &RunId("run-1".into()),
        terms,
        table: "stages.stage",
        environment: None,
        own,
        package_hosts: &Default::default(),
        services: Backends::new(folder).services,
        aborter: aborter.clone(),
        log: log.log.clone(),
    });
    (rehearsal, aborter)
}

/// An attempt of a real run, from which capabilities can be built.
pub(crate) struct TestAttempt {
    scope: RunScope,
    outbound: Outbound,
    owner: Arc<StageOwner>,
    request: AttemptRequest,
    pub(crate) log: TestLog,
}

impl TestAttempt {
    /// An attempt of the stage `test` with `permissions` in the workspace `folder`. The run has no secrets and no sandbox.
    pub(crate) fn new(
        folder: &Path,
        permissions: Permissions,
        change: impl FnOnce(&mut HostConfig, &mut AttemptRequest),
    ) -> TestAttempt {
        let Backends { registry, services } = Backends::new(folder);
        let mut config = HostConfig {
            workspace: folder.to_owned(),
            reserved: Reserved::new(folder, Vec::new(), None),
            artifacts: folder.join("artifacts"),
            environment: Default::default(),
            package_hosts: Arc::default(),
            pulls: Default::default(),
            secrets: Arc::new(EmptySource),
            credentials: Arc::new(()),
            changes: Arc::new(NoRepository),
            releases: Arc::new(NoReleases),
            registry,
            services,
            sandbox: None,
            learning: None,
            grace: Duration::from_secs(1),
            verbose: false,
        };
        let mut request = AttemptRequest { table: "stages.test".to_owned(), permissions, ..request() };
        change(&mut config, &mut request);
        TestAttempt {
            scope: RunScope::open(config).unwrap(),
            outbound: Outbound::new(&Default::default()).unwrap(),
            owner: Arc::default(),
            request,
            log: TestLog::new(),
        }
    }

    /// The context of the attempt, with an engine that allows every effect.
    pub(crate) fn context(&self) -> AttemptContext<'_> {
        let host = AttemptHost { scope: &self.scope, outbound: &self.outbound, owner: &self.owner };
        let (_, interrupt) = watch::channel(None);
        let timer = AttemptTimer::new(interrupt, self.scope.config.grace);
        let (request, log) = (Arc::new(self.request.clone()), self.log.log.clone());
        let context = AttemptContext::new(host, request, &timer, log, &Arc::default()).unwrap();
        AttemptContext { effects: self.log.effects(), ..context }
    }
}

struct EmptySource;

impl SecretSource for EmptySource {
    fn secret(&self, _name: &str) -> Result<Option<Secret>, SecretError> {
        Ok(None)
    }

    fn stand_in(&self, _name: &str) -> Option<Secret> {
        None
    }
}

/// Backends that keep everything below a folder.
pub(crate) struct Backends {
    pub(crate) registry: Arc<Registry>,
    pub(crate) services: Arc<ServiceManager>,
}

impl Backends {
    pub(crate) fn new(folder: &Path) -> Backends {
        let registry = Arc::new(Registry::new(RegistryConfig {
            embedded_root: folder.join("registry"),
            rehearsal_root: folder.join("rehearsal"),
            credentials: Arc::new(DockerConfig::new(folder.join("no-config.json"))),
        }));
        let services = Arc::new(ServiceManager::new(ServiceConfig {
            root: folder.join("environments"),
            rehearsal_root: folder.join("rehearsals"),
            exe: folder.join("no-such-program"),
            workspace: folder.to_owned(),
            registry: registry.clone(),
        }));
        Backends { registry, services }
    }
}

/// A log and its output.
pub(crate) struct TestLog {
    pub(crate) log: AttemptLog,
    deliveries: mpsc::Receiver<Delivery>,
}

impl TestLog {
    pub(crate) fn new() -> TestLog {
        let (sender, deliveries) = mpsc::channel(10_000);
        let output = AttemptOutput::new(StageIndex(0), 1, sender);
        TestLog { log: AttemptLog::new(output, Masker::default(), AttemptAborter::default(), DEFAULT_LOG), deliveries }
    }

    /// Effects that an engine always allows.
    pub(crate) fn effects(&self) -> Effects {
        self.effects_with_verdict(Call::Run, Ok(())).0
    }

    /// Effects to which an engine always responds with `verdict`, and the announcements that it received.
    pub(crate) fn effects_with_verdict(
        &self,
        call: Call,
        verdict: Result<(), EffectRefused>,
    ) -> (Effects, Arc<Mutex<Vec<String>>>) {
        let (sender, mut deliveries) = mpsc::channel(16);
        let announced = Arc::new(Mutex::new(Vec::new()));
        let seen = announced.clone();
        tokio::spawn(async move {
            while let Some(Delivery { message, reply }) = deliveries.recv().await {
                if let AttemptMessageKind::EffectRequested { what } = message.kind {
                    seen.lock().unwrap().push(what);
                    let _ = reply.unwrap().send(verdict.clone());
                }
            }
        });
        let output = AttemptOutput::new(StageIndex(0), 1, sender);
        (Effects::new(output, self.log.masker().clone(), call), announced)
    }

    /// Everything that was sent since the last call.
    pub(crate) fn messages(&mut self) -> Vec<AttemptMessageKind> {
        std::iter::from_fn(|| self.deliveries.try_recv().ok()).map(|delivery| delivery.message.kind).collect()
    }

    /// The findings since the last call.
    pub(crate) fn problems(&mut self) -> Vec<Problem> {
        let problem = |message| match message {
            AttemptMessageKind::Problem(problem) => Some(problem),
            _ => None,
        };
        self.messages().into_iter().filter_map(problem).collect()
    }

    /// The lines since the last call.
    pub(crate) fn lines(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        while let Ok(delivery) = self.deliveries.try_recv() {
            if let AttemptMessageKind::Lines(_, lines) = delivery.message.kind {
                all.extend(lines.iter().map(str::to_owned));
            }
        }
        all
    }
}

/// A workspace that isn't a repository.
pub(crate) struct NoRepository;

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
pub(crate) struct NoReleases;

impl ReleaseLedger for NoReleases {
    fn good_release(&self, _environment: &str, _asking: &RunId) -> Result<Option<GoodRelease>, ReleasesUnknown> {
        Ok(None)
    }
}
