//! The plugin host: the engine's `StageRunner`, and the answers to what a plugin is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use futures_util::future::BoxFuture;
use serde_json::Value as Json;
use stagewright_engine::{
    AttemptEnd, AttemptOutput, AttemptReport, AttemptRequest, Call, Failure, FailureKind, Finding, Interrupt,
    Observation, Outcome, Problem, StageRunner,
};
use stagewright_model::{Permissions, PluginRef, Reaches, Trust};
use stagewright_process::sandbox::Need;
use tokio::sync::watch;
use tokio::time::Instant;
use wasmtime::component::ResourceTable;

use crate::attempt::{Attempt, HANDLES};
use crate::capability::artifacts::Artifacts;
use crate::capability::context::Context;
use crate::capability::effects::Effects;
use crate::capability::environment::Environment;
use crate::capability::gate::Gates;
use crate::capability::http::{Http, Quota};
use crate::capability::outputs::Outputs;
use crate::capability::process::{Processes, program_environment, without_proxy_credentials};
use crate::capability::registry::Images;
use crate::capability::secrets::Secrets;
use crate::capability::service::{Services, Started};
use crate::capability::workspace::Workspace;
use crate::confine::{Blueprint, StageOwner, tools};
use crate::denial::Denials;
use crate::error::{CapabilityError, ErrorCode};
use crate::inspected::Inspected;
use crate::limits::{DEFAULT_BOUNDS, DEFAULT_LOG, DEFAULT_MEMORY, DEFAULT_REQUESTS, HandedOver, MemoryLimiter};
use crate::log::AttemptLog;
use crate::mask::Masker;
use crate::native::Natives;
use crate::net::OwnOrigins;
use crate::net::client::{SharedClient, client};
use crate::net::dial::Dialer;
use crate::net::egress::EgressGuard;
use crate::net::{SystemLookup, Upstream};
use crate::outcome::{outcome_from_bad_plugin, outcome_from_error, outcome_from_guest, outcome_from_stop};
use crate::plugin::{Description, PluginError};
use crate::policy::Policy;
use crate::rehearsal::{Rehearsal, Rehearsed};
use crate::report;
use crate::reserved::{Reservations, Reserved};
use crate::resolve::Resolver;
use crate::stop::AttemptTimer;
use crate::template::spare_templates;
use crate::wasm::{Plugin, Wasm};

mod config;

pub use config::{HostConfig, HostError};

/// Runs stages. Cheap to clone.
#[derive(Clone)]
pub struct PluginHost(Arc<Inner>);

struct Inner {
    config: HostConfig,
    root: Arc<Dir>,
    /// Made when the first component is loaded.
    wasm: OnceLock<Result<Arc<Wasm>, PluginError>>,
    inspected: Inspected,
    natives: Arc<Natives>,
    resolver: Resolver,
    client: SharedClient,
    dialer: Arc<Dialer>,
    /// The secrets that are known to this process.
    masker: Masker,
}

impl PluginHost {
    /// Opens the workspace. What takes longer, as wasmtime's engine, is made when it is needed.
    pub fn new(config: HostConfig) -> Result<PluginHost, HostError> {
        let workspace = config.workspace.display().to_string();
        let root = Dir::open_ambient_dir(&config.workspace, ambient_authority()).map_err(|error| HostError {
            message: format!("the workspace `{workspace}` can't be opened"),
            help: Some("run within a folder that exists and may be read".to_owned()),
            source: error.into(),
        })?;
        let client = client(&Upstream::of(&config.environment), Arc::new(SystemLookup)).map_err(|error| HostError {
            message: "the proxies of the environment can't be used".to_owned(),
            help: Some("check HTTPS_PROXY, HTTP_PROXY and ALL_PROXY".to_owned()),
            source: error.into(),
        })?;
        let dialer = Arc::new(Dialer::new(&Upstream::of(&config.environment), Arc::new(SystemLookup)));
        let resolver = Resolver {
            builtin: config.builtin.clone(),
            workspace: config.workspace.clone(),
            pulled: config.plugin_cache.join("pulled"),
            registry: config.registry.clone(),
            pulls: config.pulls,
            known: std::sync::Mutex::default(),
            verified: std::sync::Mutex::default(),
        };
        let (root, wasm, natives) = (Arc::new(root), OnceLock::new(), Arc::default());
        Ok(PluginHost(Arc::new(Inner {
            inspected: Inspected::new(&config.plugin_cache.join("inspected")),
            config,
            root,
            wasm,
            natives,
            resolver,
            client,
            dialer,
            masker: Masker::default(),
        })))
    }

    /// Runs stages whose download caches are their owner's alone.
    pub fn owned_by(&self, owner: StageOwner) -> OwnedHost {
        OwnedHost { inner: Arc::clone(&self.0), owner: Arc::new(owner) }
    }

    /// What a plugin is. Runs the component's `describe`, with every import trapping; for a native library, its
    /// `describe` with the engine's full powers, after its digest was checked.
    pub async fn describe(&self, uses: &PluginRef, trust: &Trust) -> Result<Description, PluginError> {
        match trust {
            Trust::Component => {
                let (file, digest) = self.0.locate(uses).await?;
                if let Some(known) = self.0.inspected.description(&digest) {
                    return Ok(known);
                }
                let plugin = self.0.load(uses, &file, digest).await?;
                let manifest = self.0.wasm()?.describe(&uses.to_string(), &plugin).await?;
                let (digest, interfaces) = (plugin.digest.clone(), plugin.interfaces.clone());
                let reconciles = plugin.reconcile.is_some();
                let contract = plugin.contract.clone();
                let described = Description { manifest, digest, interfaces, contract, native: false, reconciles };
                self.0.inspected.keep_description(&described);
                Ok(described)
            }
            Trust::Native { digest } => {
                let library = self.0.resolver.library(uses)?;
                let manifest = self.0.natives.describe(&uses.to_string(), library, digest).await?;
                let (digest, interfaces) = (digest.clone(), Default::default());
                Ok(Description { manifest, digest, interfaces, contract: None, native: true, reconciles: false })
            }
        }
    }

    /// What programs that are granted take of the machine beyond the system's own files and the stage's grants: their
    /// toolchains. `variables`: the stage's own.
    pub fn tools(&self, permissions: &Permissions, variables: &BTreeMap<String, String>) -> Vec<Need> {
        let environment = program_environment(&self.0.config.environment, &permissions.env, variables);
        tools(&permissions.process, &environment, &self.0.config.environment, &self.0.config.workspace)
    }

    /// What the plugin finds wrong with a `with` table.
    ///
    /// Strings that hold `${{ }}` have no value yet. The plugin sees them as they stand, and what it says of a place
    /// that holds one, or of a table or list around one, is left out: it will be said again when the stage runs.
    /// A native library isn't asked.
    pub async fn validate(&self, uses: &PluginRef, trust: &Trust, config: &Json) -> Result<Vec<Problem>, PluginError> {
        if matches!(trust, Trust::Native { .. }) {
            return Ok(Vec::new());
        }
        let (file, digest) = self.0.locate(uses).await?;
        let found = match self.0.inspected.findings(&digest, config) {
            Some(known) => known,
            None => {
                let plugin = self.0.load(uses, &file, digest).await?;
                let found = self.0.wasm()?.validate(&uses.to_string(), &plugin, config.clone()).await?;
                self.0.inspected.keep_findings(&plugin.digest, config, &found);
                found
            }
        };
        Ok(spare_templates(found, config))
    }

    /// What no grant of this host opens.
    pub fn reserved(&self) -> &Reserved {
        &self.0.config.reserved
    }

    /// Writes down what components answered to [`PluginHost::describe`] and [`PluginHost::validate`]: the same component
    /// is not asked the same again by a later host with the same cache.
    pub fn keep_answers(&self) {
        self.0.inspected.save();
    }
}

impl StageRunner for PluginHost {
    fn run(
        &self,
        request: AttemptRequest,
        output: AttemptOutput,
        interrupt: watch::Receiver<Option<Interrupt>>,
    ) -> BoxFuture<'static, AttemptReport> {
        self.owned_by(StageOwner::default()).run(request, output, interrupt)
    }
}

/// A plugin host that runs the stages of one pipeline file, in one trust tier. Cheap to clone.
#[derive(Clone)]
pub struct OwnedHost {
    inner: Arc<Inner>,
    owner: Arc<StageOwner>,
}

impl StageRunner for OwnedHost {
    fn run(
        &self,
        request: AttemptRequest,
        output: AttemptOutput,
        interrupt: watch::Receiver<Option<Interrupt>>,
    ) -> BoxFuture<'static, AttemptReport> {
        let OwnedHost { inner, owner } = self.clone();
        Box::pin(async move { inner.run(request, &owner, output, interrupt).await })
    }
}

impl Inner {
    fn wasm(&self) -> Result<&Arc<Wasm>, PluginError> {
        let HostConfig { plugin_cache, compiling, attempts, .. } = &self.config;
        let made = self.wasm.get_or_init(|| {
            Wasm::new(&plugin_cache.join("compiled"), Arc::clone(compiling), *attempts)
                .map(Arc::new)
                .map_err(|error| PluginError::new("wasmtime can't be set up on this machine").caused_by(error.chain()))
        });
        made.as_ref().map_err(Clone::clone)
    }

    /// A component's file, and the digest of its content.
    async fn locate(&self, uses: &PluginRef) -> Result<(PathBuf, String), PluginError> {
        let file = self.resolver.component(uses).await?;
        let digest = self.resolver.digest(&file).map_err(|error| {
            PluginError::new(format!("plugin `{uses}`: `{}` can't be read: {error}", file.display()))
        })?;
        Ok((file, digest))
    }

    async fn load(&self, uses: &PluginRef, file: &Path, digest: String) -> Result<Arc<Plugin>, PluginError> {
        self.wasm()?.load(&uses.to_string(), file, digest).await
    }

    async fn run(
        &self,
        request: AttemptRequest,
        owner: &Arc<StageOwner>,
        output: AttemptOutput,
        interrupt: watch::Receiver<Option<Interrupt>>,
    ) -> AttemptReport {
        let mut timer = AttemptTimer::new(interrupt, request.timeout, self.config.grace);
        let limit = request.log_limit.unwrap_or(DEFAULT_LOG);
        for value in self.config.secrets.known() {
            self.masker.add_foreign(&value);
        }
        let masker = self.masker.fork();
        let lines = bound(request.limits.log_lines, DEFAULT_BOUNDS.limits.log_lines);
        let log = AttemptLog::new(output, masker.clone(), timer.aborter.clone(), limit).bounded(lines);
        let report = match request.trust.clone() {
            Trust::Component => self.run_component(request, owner, &mut timer, log).await,
            Trust::Native { digest } => self.run_native(request, &digest, &mut timer, log).await,
        };
        report::masked(report, &masker)
    }

    async fn run_native(
        &self,
        request: AttemptRequest,
        digest: &str,
        timer: &mut AttemptTimer,
        log: AttemptLog,
    ) -> AttemptReport {
        if let Some(error) = exchanged(&request, digest) {
            return without_outputs(outcome_from_bad_plugin(error));
        }
        if let Some(end) = without_reconcile(&request) {
            return without_outputs(end);
        }
        let library = match self.resolver.library(&request.uses) {
            Ok(library) => library,
            Err(error) => return without_outputs(outcome_from_bad_plugin(error)),
        };
        // Nothing that it is told keeps it from acting for real.
        if request.rehearsal.as_ref().is_some_and(|terms| !terms.acts) {
            let end = match request.call {
                Call::Run | Call::Undo => AttemptEnd::Rehearsed(format!(
                    "would call the native plugin `{}`, which has all powers of the engine",
                    request.uses
                )),
                Call::Observe => AttemptEnd::Observed(Observation::Found(Finding::NotStarted)),
            };
            return without_outputs(end);
        }
        // Its powers are those of the engine: whatever it does, it may have done.
        let effects = Effects::new(log.output().clone(), log.masker().clone(), request.call);
        if let Err(error) = effects.announce(&format!("run the native plugin {}", request.uses)).await {
            let end = effects.too_late().map_or_else(
                || outcome_from_error(error, timer.cancel.is_set(), None),
                |failure| AttemptEnd::Unsuccessful(Outcome::Errored, failure),
            );
            return without_outputs(end);
        }
        self.natives.run(request, library, digest, timer, log).await
    }

    async fn run_component(
        &self,
        request: AttemptRequest,
        owner: &Arc<StageOwner>,
        timer: &mut AttemptTimer,
        log: AttemptLog,
    ) -> AttemptReport {
        let loading = async {
            let (file, digest) = self.locate(&request.uses).await?;
            Ok((self.wasm()?, self.load(&request.uses, &file, digest).await?))
        };
        let (wasm, plugin) = match timer.run(loading, || {}).await {
            Ok(Ok(plugin)) => plugin,
            Ok(Err(error)) => return without_outputs(outcome_from_bad_plugin(error)),
            Err(stopped) => return without_outputs(outcome_from_stop(&stopped)),
        };
        if let Some(error) = exchanged(&request, &plugin.digest) {
            return without_outputs(outcome_from_bad_plugin(error));
        }
        if plugin.reconcile.is_none()
            && let Some(end) = without_reconcile(&request)
        {
            return without_outputs(end);
        }
        let call = request.call;
        let files = request.folder.as_ref().unwrap_or(&self.config.workspace);
        let reserved = self.config.reserved.of_attempt(&request.permissions, files).await;
        let attempt = reserved.and_then(|reserved| self.attempt(Arc::new(request), owner, timer, log, &reserved));
        let attempt = match attempt {
            Ok(attempt) => attempt,
            Err(error) => return without_outputs(outcome_from_error(error, false, None)),
        };
        let groups = attempt.processes.groups();
        let mut store = wasm.store(attempt, |attempt| &mut attempt.limiter);
        let work = async { plugin.call(call, &mut store).await };
        let ended = timer.run(work, || groups.interrupt()).await;
        let attempt = store.data_mut();
        attempt.processes.finish().await;
        attempt.services.finish().await;
        // The last words of a child may be what was too much.
        let ended = match timer.aborter.reason() {
            Some(reason) => Err(reason),
            None => ended,
        };
        let end = outcome_from_guest(ended, attempt);
        attempt.denials.tell(&attempt.log).await;
        AttemptReport {
            end,
            outputs: attempt.outputs.take(),
            artifacts: attempt.artifacts.published(),
            release: attempt.environment.take(),
            made: None,
        }
    }

    /// The folder of the files that the attempt works on.
    fn files(&self, request: &AttemptRequest) -> Result<(PathBuf, Arc<Dir>), CapabilityError> {
        let Some(folder) = &request.folder else { return Ok((self.config.workspace.clone(), self.root.clone())) };
        let root = Dir::open_ambient_dir(folder, ambient_authority()).map_err(|error| {
            let message = format!("the files of the stage can't be opened: {}: {error}", folder.display());
            CapabilityError::new(ErrorCode::Internal, message)
        })?;
        Ok((folder.clone(), Arc::new(root)))
    }

    fn attempt(
        &self,
        request: Arc<AttemptRequest>,
        owner: &Arc<StageOwner>,
        timer: &AttemptTimer,
        log: AttemptLog,
        reserved: &Arc<Reservations>,
    ) -> Result<Attempt, CapabilityError> {
        let config = &self.config;
        let policy_of = |granted: &Permissions| {
            let policy = Policy::new(&request.table, granted, &config.package_hosts, Arc::clone(reserved));
            Arc::new(policy.reading_only(request.declared.as_deref()))
        };
        let environment = request.environment.as_ref().map(|environment| environment.name.as_str());
        // What the stage may ask for, and what its programs get of that.
        let (policy, of_programs) = match &request.rehearsal {
            None => {
                let policy = policy_of(&request.permissions);
                (policy.clone(), policy)
            }
            Some(terms) => {
                (policy_of(&terms.asked(&request.permissions)), policy_of(&terms.of_programs(&request.permissions)))
            }
        };
        let rehearsal = match &request.rehearsal {
            None => Rehearsal::none(),
            Some(terms) => Rehearsal::new(Rehearsed {
                run: &request.run,
                terms,
                table: &request.table,
                environment,
                own: &request.permissions,
                package_hosts: &config.package_hosts,
                services: config.services.clone(),
                aborter: timer.aborter.clone(),
                log: log.clone(),
            }),
        };
        let mut variables = program_environment(&config.environment, of_programs.inherited_variables(), &request.env);
        if config.sandbox.is_some() {
            without_proxy_credentials(&mut variables);
        }
        let reaches_out = match &request.rehearsal {
            None => !Reaches::of_programs(environment, &request.permissions).all.is_empty(),
            Some(terms) => !Reaches::of_programs(environment, &terms.asked(&request.permissions)).all.is_empty(),
        };
        let memory = request.memory.unwrap_or(DEFAULT_MEMORY);
        let limits = request.limits;
        let requests = limits.requests.unwrap_or(DEFAULT_REQUESTS) as usize;
        let (folder, root) = self.files(&request)?;
        let workspace = Workspace::new(root, policy.clone(), memory)
            .bounded(bound(limits.workspace, DEFAULT_BOUNDS.limits.workspace));
        let own = OwnOrigins::default();
        let effects = Effects::new(log.output().clone(), log.masker().clone(), request.call);
        let denials = Denials::default();
        let blueprint = config.sandbox.as_ref().map(|sandbox| Blueprint {
            config: sandbox.clone(),
            machine: Arc::new(config.environment.clone()),
            policy: of_programs.clone(),
            workspace: workspace.clone(),
            root: config.workspace.clone(),
            files: folder.clone(),
            reserved: config.reserved.clone(),
            owner: Arc::clone(owner),
            table: request.table.clone(),
            limits: request.limits,
            report: denials.reporter(&log),
            egress: of_programs.has_network().then(|| {
                let report = denials.reporter(&log);
                Arc::new(EgressGuard::new(of_programs.clone(), own.clone(), self.dialer.clone(), report, requests))
            }),
            aborter: timer.aborter.clone(),
            rehearsal: rehearsal.clone(),
            own: own.clone(),
        });
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES);
        Ok(Attempt {
            table,
            limiter: MemoryLimiter::new(memory),
            handed_over: HandedOver::new(memory),
            started: Instant::now(),
            cancel: timer.cancel.clone(),
            verbose: config.verbose,
            outputs: Outputs::default(),
            secrets: Secrets::new(config.secrets.clone(), policy.clone(), log.masker().clone(), rehearsal.clone()),
            processes: Processes::new(
                policy.clone(),
                workspace.clone(),
                // In a sandbox the files are where the workspace is, whatever folder they come from.
                if config.sandbox.is_some() { config.workspace.clone() } else { folder.clone() },
                log.clone(),
                variables,
                effects.clone(),
                reaches_out,
                rehearsal.clone(),
                blueprint,
            ),
            http: Http {
                client: self.client.clone(),
                policy: policy.clone(),
                workspace: workspace.clone(),
                log: log.clone(),
                own: own.clone(),
                rehearsal: rehearsal.clone(),
                effects: effects.clone(),
                quota: Quota::new(requests, memory, policy.clone()),
            },
            artifacts: Arc::new(
                Artifacts::new(config.artifacts.clone(), request.run.0.clone(), request.stage_id.clone())
                    .bounded(bound(limits.artifacts, DEFAULT_BOUNDS.limits.artifacts)),
            ),
            images: Images {
                registry: config.registry.clone(),
                policy: policy.clone(),
                workspace: workspace.clone(),
                root: folder,
                rehearsal: rehearsal.clone(),
                effects: effects.clone(),
            },
            services: Services {
                files: request.folder.clone(),
                manager: config.services.clone(),
                policy,
                own,
                log: log.clone(),
                environment: request.environment.as_ref().map(|environment| environment.name.clone()),
                fence: request.environment.as_ref().and_then(|environment| environment.fence),
                rehearsal,
                effects: effects.clone(),
                started: Started::default(),
            },
            environment: Environment::new(request.clone()),
            gates: Gates::default(),
            effects,
            denials,
            context: Context::new(request, timer.cancel.clone(), timer.deadline.map(|(deadline, _)| deadline)),
            workspace,
            log,
        })
    }
}

/// A limit of the stage's, or else the usual one, or else none.
fn bound(own: Option<u64>, usual: Option<u64>) -> u64 {
    own.or(usual).unwrap_or(u64::MAX)
}

/// Why a plugin with this digest isn't the one that was asked for; none when it is.
fn exchanged(request: &AttemptRequest, found: &str) -> Option<PluginError> {
    let AttemptRequest { run, uses, .. } = request;
    let wanted = request.plugin.as_ref().filter(|wanted| *wanted != found)?;
    let message = format!("the file of plugin `{uses}` changed since the run started: it was {wanted}, and is {found}");
    let help = format!("put the file back, or accept the change: `stagewright resume {run} --accept-changes`");
    Some(PluginError::new(message).with_help(help))
}

/// How a call of `reconcile` ends that the plugin doesn't export.
fn without_reconcile(request: &AttemptRequest) -> Option<AttemptEnd> {
    let uses = &request.uses;
    match request.call {
        Call::Run => None,
        Call::Observe => {
            let why = format!("the plugin `{uses}` can't say: it exports no `reconcile`");
            Some(AttemptEnd::Observed(Observation::Unknown(why)))
        }
        Call::Undo => {
            let failure = Failure {
                kind: FailureKind::Reported,
                message: format!("the plugin `{uses}` can't take back what it does: it exports no `reconcile`"),
                causes: Vec::new(),
                help: None,
                retryable: false,
            };
            Some(AttemptEnd::Unsuccessful(Outcome::Errored, failure))
        }
    }
}

fn without_outputs(end: AttemptEnd) -> AttemptReport {
    AttemptReport { end, outputs: BTreeMap::new(), artifacts: Vec::new(), release: None, made: None }
}
