//! What several unit tests need.

use std::path::Path;
use std::sync::{Arc, Mutex};

use stagewright_engine::{AttemptOutput, AttemptRequest, Call, EffectRefused, Live, LiveKind, RunId};
use stagewright_model::{Permissions, PluginRef, RehearsalTerms, StageIndex, Trust};
use tokio::sync::mpsc;

use crate::capability::effects::Effects;
use crate::limits::DEFAULT_LOG;
use crate::log::AttemptLog;
use crate::mask::Masker;
use crate::registry::{DockerConfig, Registry, RegistryConfig};
use crate::rehearsal::{Rehearsal, Rehearsed};
use crate::service::{ServiceConfig, ServiceManager};
use crate::stop::AttemptAborter;

/// An attempt of a stage that is granted nothing.
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
        needs: Default::default(),
        timeout: None,
        memory: None,
        log_limit: None,
        limits: Default::default(),
        declared: None,
        cache: None,
        resumption: None,
        rehearsal: None,
        basis: Default::default(),
        folder: None,
    }
}

/// A rehearsal of run `run-1`, of a stage that is granted `own`, and what ends its attempts. Its services are below
/// `rehearsals` of the folder.
pub(crate) fn rehearsal(
    folder: &Path,
    own: &Permissions,
    terms: &RehearsalTerms,
    log: &TestLog,
) -> (Rehearsal, AttemptAborter) {
    let aborter = AttemptAborter::default();
    let rehearsal = Rehearsal::new(Rehearsed {
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

/// A log, and what came out of it.
pub(crate) struct TestLog {
    pub(crate) log: AttemptLog,
    live: mpsc::Receiver<Live>,
}

impl TestLog {
    pub(crate) fn new() -> TestLog {
        let (sender, live) = mpsc::channel(10_000);
        let output = AttemptOutput::new(StageIndex(0), 1, sender);
        TestLog { log: AttemptLog::new(output, Masker::default(), AttemptAborter::default(), DEFAULT_LOG), live }
    }

    /// An engine that allows everything.
    pub(crate) fn effects(&self) -> Effects {
        self.judged_effects(Call::Run, Ok(())).0
    }

    /// An engine that says the same to every effect, and what it was told.
    pub(crate) fn judged_effects(
        &self,
        call: Call,
        verdict: Result<(), EffectRefused>,
    ) -> (Effects, Arc<Mutex<Vec<String>>>) {
        let (sender, mut live) = mpsc::channel(16);
        let told = Arc::new(Mutex::new(Vec::new()));
        let seen = told.clone();
        tokio::spawn(async move {
            while let Some(Live { kind, .. }) = live.recv().await {
                if let LiveKind::Effect { what, answer } = kind {
                    seen.lock().unwrap().push(what);
                    let _ = answer.send(verdict.clone());
                }
            }
        });
        let output = AttemptOutput::new(StageIndex(0), 1, sender);
        (Effects::new(output, self.log.masker().clone(), call), told)
    }

    /// The lines so far.
    pub(crate) fn lines(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        while let Ok(live) = self.live.try_recv() {
            if let LiveKind::Lines(_, lines) = live.kind {
                all.extend(lines.iter().map(str::to_owned));
            }
        }
        all
    }
}
