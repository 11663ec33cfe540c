//! The plugin host of a repository, composed from a session's configuration.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use stagewright_cache::{Caching, CaptureConfig, Capturing};
use stagewright_engine::{Level, PluginFacts, Problem, RunId, StageRunner};
use stagewright_model::{
    Imports as _, Interface, JsonTemplate, Mistake, MistakePlace, Permissions, Plan, PluginRef, Stage, StageIndex,
    Trust,
};
use stagewright_plugin_host::registry::{DockerConfig, Registry, RegistryConfig};
use stagewright_plugin_host::service::{ServiceConfig, ServiceManager};
use stagewright_plugin_host::{
    Description, HostConfig, Learning, PackageHosts, PluginError, PluginHost, PluginManifest, Requirement,
    SandboxConfig, SecretSource, SignerSource, require_native_support,
};
use stagewright_process::sandbox::{Missing, ToolMount};
use tokio::sync::Mutex;

use crate::blocking::blocking;
use crate::cache::{self, CacheSettings};
use crate::changes::RepositoryChanges;
use crate::credentials::DeclaredCredentials;
use crate::environment_ledger::EnvironmentLedger;
use crate::error::SessionError;
use crate::lock_file;
use crate::mode::RunMode;
use crate::plugin_runtime::host_error;
use crate::repository::Repository;
use crate::reserved::reserved;
use crate::sandbox::sandbox;
use crate::secrets::DeclaredSecrets;
use crate::session::Session;

/// The time between the request to stop a stage and the kill.
const GRACE: Duration = Duration::from_secs(10);

/// A plugin host for one pipeline, with facts about the machine that were determined when it was created.
pub(crate) struct Host {
    plugins: PluginHost,
    services: Arc<ServiceManager>,
    secrets: Arc<DeclaredSecrets>,
    credentials: Arc<DeclaredCredentials>,
    packages: Arc<PackageHosts>,
    /// Why programs can't be sandboxed; none if they can, or if the pipeline starts none.
    unsandboxed: Option<Missing>,
    mode: RunMode,
    /// Descriptions that have been requested, by plugin.
    described: Mutex<HashMap<(PluginRef, Trust), Arc<Description>>>,
}

impl Host {
    /// Opens the host for the given number of concurrent attempts. If the pipeline starts programs, checks whether they
    /// can be sandboxed. `learning`: the files of a learning run.
    pub(crate) async fn open(
        session: &Session,
        plan: &Plan,
        attempts: usize,
        mode: RunMode,
        learning: Option<Arc<Learning>>,
    ) -> Result<Host, SessionError> {
        // A rehearsal sandboxes the programs of all stages.
        let is_sandboxed = |granted: &Permissions| mode.is_rehearsal() || !granted.unsandboxed;
        let mut granted = plan.stages.iter().map(|stage| stage.permissions.as_ref());
        let starts_programs = granted.any(|granted| !granted.process.is_empty() && is_sandboxed(granted));
        Host::compose(session, Some(plan), attempts, mode, learning, starts_programs).await
    }

    /// Opens the host to describe plugins. Nothing runs, so whether programs can be sandboxed isn't checked.
    pub(crate) async fn for_inspection(session: &Session, plan: &Plan) -> Result<Host, SessionError> {
        Host::compose(session, Some(plan), 1, RunMode::Real, None, false).await
    }

    /// Opens the host to describe plugins outside of any pipeline. Nothing is pulled.
    pub(crate) async fn for_catalog(session: &Session) -> Result<Host, SessionError> {
        Host::compose(session, None, 1, RunMode::Rehearsal { offline: true }, None, false).await
    }

    async fn compose(
        session: &Session,
        plan: Option<&Plan>,
        attempts: usize,
        mode: RunMode,
        learning: Option<Arc<Learning>>,
        confined: bool,
    ) -> Result<Host, SessionError> {
        let none = || DeclaredSecrets::none(&session.repository);
        let secrets = Arc::new(plan.map_or_else(none, |plan| DeclaredSecrets::of(plan, &session.repository)));
        let context = secrets.context().clone();
        let credentials = Arc::new(DeclaredCredentials::of(plan, Arc::clone(&secrets), context));
        let releases = EnvironmentLedger::of(plan, Arc::clone(&session.repository));
        let (session, pipeline) = (session.clone(), plan.map(|plan| plan.name.clone()).unwrap_or_default());
        blocking(move || {
            let (sandbox, unsandboxed) = if confined { sandbox(&session.repository) } else { (None, None) };
            let packages = Arc::new(package_hosts(&session.repository, &pipeline, mode));
            let registry = Arc::new(registry(&session.repository));
            let services = Arc::new(services(&session.repository, Arc::clone(&registry)));
            let parts = HostOptions {
                sandbox,
                learning,
                packages: &packages,
                secrets: &secrets,
                credentials: &credentials,
                registry,
                services: &services,
                releases,
            };
            let runtime = session.runtime.get(attempts, &session.repository, &session.notices)?;
            let plugins = PluginHost::new(&runtime, config(&session, parts, mode)?).map_err(host_error)?;
            let described = Mutex::default();
            Ok(Host { plugins, services, secrets, credentials, packages, unsandboxed, mode, described })
        })
        .await
    }

    /// The origins that the keywords of `net` stand for, as of when the host was created.
    pub(crate) fn packages(&self) -> &PackageHosts {
        &self.packages
    }

    /// Why programs run without a sandbox; none if they don't.
    pub(crate) fn unsandboxed(&self) -> Option<&Missing> {
        self.unsandboxed.as_ref()
    }

    /// The files of the machine that a stage's programs use beyond its grants.
    pub(crate) fn tools(&self, stage: &Stage) -> Vec<ToolMount> {
        let variables = stage.env.iter().map(|(name, value)| (name.clone(), value.source().to_owned())).collect();
        self.plugins.tools(&stage.permissions, &variables)
    }

    /// The values of the pipeline's secrets.
    pub(crate) fn secrets(&self) -> &Arc<DeclaredSecrets> {
        &self.secrets
    }

    /// The pipeline's credentials.
    pub(crate) fn credentials(&self) -> &Arc<DeclaredCredentials> {
        &self.credentials
    }

    /// The mode of the runs that it was created for.
    pub(crate) fn mode(&self) -> RunMode {
        self.mode
    }

    /// The caching runner, for [`capturing`](Self::capturing). `file` is the pipeline file, relative to the repository.
    pub(crate) fn runner(&self, repository: &Repository, file: &str, used: CacheSettings) -> Caching {
        cache::caching(repository, file, &self.plugins, self.unsandboxed.is_none(), used)
    }

    /// The runner for stages that get neither results of the cache nor captured files.
    pub(crate) fn uncached(&self) -> Arc<dyn StageRunner> {
        Arc::new(self.plugins.clone())
    }

    /// The runner for the engine, which provides stages with the files that were captured for them.
    pub(crate) fn capturing(&self, repository: &Repository, caching: &Caching) -> Capturing {
        let config = CaptureConfig {
            root: repository.captures(),
            workspace: repository.root.clone(),
            reserved: self.plugins.reserved().closed_paths().unwrap_or_default(),
            sandboxed: self.unsandboxed.is_none(),
        };
        Capturing::new(config, Arc::new(caching.clone()))
    }

    /// The description of one component.
    pub(crate) async fn describe(&self, uses: &PluginRef) -> Result<Description, PluginError> {
        self.plugins.describe(uses, &Trust::Component).await
    }

    /// What one component says a stage with this table will use.
    pub(crate) async fn requirements_of(
        &self,
        uses: &PluginRef,
        with: &JsonTemplate,
    ) -> Result<Vec<Requirement>, PluginError> {
        self.plugins.requirements(uses, &Trust::Component, with).await
    }

    /// Saves what plugins have answered, so that a later process doesn't have to ask them again.
    pub(crate) fn save_answers(&self) {
        self.plugins.runtime().save_answers();
    }

    /// The paths in the workspace that no stage can read or write.
    pub(crate) fn closed_paths(&self) -> Result<Vec<String>, SessionError> {
        self.plugins.reserved().closed_paths().map_err(|error| {
            SessionError::internal("can't determine the files that no stage may reach").caused_by(error)
        })
    }

    /// Descriptions of the stages' plugins, by plan index. Each plugin is asked once. A native library is never asked,
    /// because that would already run its code.
    pub(crate) async fn describe_all(&self, plan: &Plan) -> Result<Vec<Arc<Description>>, SessionError> {
        let mut known = self.described.lock().await;
        let mut described = Vec::with_capacity(plan.stages.len());
        for stage in &plan.stages {
            let asked = (stage.uses.clone(), stage.trust.clone());
            if !known.contains_key(&asked) {
                let description = match &stage.trust {
                    Trust::Component => {
                        let answer = self.plugins.describe(&stage.uses, &stage.trust).await;
                        answer.map_err(|error| bad_plugin(&stage.id, error))?
                    }
                    Trust::Native { digest } => {
                        require_native_support(&stage.uses).map_err(|error| bad_plugin(&stage.id, error))?;
                        of_native(&stage.uses, digest)
                    }
                };
                known.insert(asked.clone(), Arc::new(description));
            }
            described.push(Arc::clone(&known[&asked]));
        }
        self.plugins.runtime().save_answers();
        Ok(described)
    }

    /// The facts about the stages' plugins that the engine needs, by plan index.
    pub(crate) async fn facts(&self, plan: &Plan) -> Result<Vec<PluginFacts>, SessionError> {
        let described = self.describe_all(plan).await?;
        let mut digests: BTreeSet<Arc<str>> = BTreeSet::new();
        let facts = plan.stages.iter().zip(described).map(|(stage, description)| {
            let effect = self.mode.effect_class(stage, &description);
            let rehearsal = self.mode.terms(stage).map(|terms| terms.fidelity(stage, description.code()));
            let digest = digests.get(description.digest.as_str()).cloned();
            let digest = digest.unwrap_or_else(|| description.digest.as_str().into());
            digests.insert(Arc::clone(&digest));
            let reads_source = description.imports.has(Interface::Source);
            PluginFacts { effect, digest: Some(digest), rehearsal, reads_source }
        });
        Ok(facts.collect())
    }

    /// Whether a stage's plugin can compare the files with another commit.
    pub(crate) async fn compares_commits(&self, plan: &Plan) -> Result<bool, SessionError> {
        let described = self.describe_all(plan).await?;
        Ok(described.iter().any(|plugin| plugin.imports.calls(Interface::Source, "changed-files")))
    }

    /// The mistakes that plugins find in the configuration of their stages.
    pub(crate) async fn misconfigured(&self, plan: &Plan) -> Result<Vec<Mistake>, SessionError> {
        let mut found = Vec::new();
        // Cells of a matrix and stages with the same configuration have the same mistakes, which are listed once.
        let (mut listed, mut answers) = (BTreeSet::new(), HashMap::<_, Vec<Problem>>::new());
        for (index, key, with) in plan.indices().flat_map(|index| configurations(plan, index)) {
            let stage = plan.stage(index);
            let configured = (&stage.uses, with.source().to_string());
            if !answers.contains_key(&configured) {
                let problems = self.plugins.validate(&stage.uses, &stage.trust, with).await;
                answers.insert(configured.clone(), problems.map_err(|error| bad_plugin(&stage.id, error))?);
            }
            let problems = &answers[&configured];
            if problems.is_empty() || !listed.insert((&stage.name, &stage.uses, with.source().to_string())) {
                continue;
            }
            let errors = problems.iter().filter(|problem| problem.level == Level::Error).cloned();
            found.extend(errors.map(|problem| {
                let Problem { message, path, help, .. } = problem;
                let place = MistakePlace::Configuration { table: key, path };
                Mistake { stage: index, place, message, help }
            }));
        }
        self.plugins.runtime().save_answers();
        Ok(found)
    }

    /// What the plugins say their stages will use, by plan index; nothing for plugins that don't say.
    pub(crate) async fn requirements(&self, plan: &Plan) -> Result<Vec<Arc<[Requirement]>>, SessionError> {
        let mut answers: HashMap<_, Arc<[Requirement]>> = HashMap::new();
        let mut required: Vec<Arc<[Requirement]>> = Vec::with_capacity(plan.stages.len());
        let mut previous: Option<&Stage> = None;
        for stage in &plan.stages {
            // The cells of a matrix follow each other and share their table.
            let is_same = |other: &Stage| other.uses == stage.uses && Arc::ptr_eq(&other.with, &stage.with);
            if previous.replace(stage).is_some_and(is_same)
                && let Some(last) = required.last()
            {
                required.push(Arc::clone(last));
                continue;
            }
            let configured = (&stage.uses, stage.with.source().to_string());
            if !answers.contains_key(&configured) {
                let answer = self.plugins.requirements(&stage.uses, &stage.trust, &stage.with).await;
                let answer = answer.map_err(|error| bad_plugin(&stage.id, error))?;
                answers.insert(configured.clone(), answer.into());
            }
            required.push(Arc::clone(&answers[&configured]));
        }
        self.plugins.runtime().save_answers();
        Ok(required)
    }

    /// Stops the services that this rehearsal left running, but not those of other rehearsals.
    pub(crate) async fn stop_rehearsal(&self, run: &RunId) -> Result<(), SessionError> {
        let stopped = self.services.stop_rehearsal(&run.0).await;
        stopped.map_err(|error| SessionError::internal("can't stop the services of the rehearsal").caused_by(error))
    }
}

/// The configurations of the stage's plugin, with their keys.
fn configurations(plan: &Plan, index: StageIndex) -> impl Iterator<Item = (StageIndex, &'static str, &JsonTemplate)> {
    let stage = plan.stage(index);
    let rehearsed = stage.rehearse.as_ref().and_then(|rehearse| rehearse.with.as_deref());
    let own = std::iter::once((index, "with", stage.with.as_ref()));
    own.chain(rehearsed.map(|with| (index, "rehearse.with", with)))
}

/// The description of a native library according to the pipeline. Its digest is verified when it is loaded.
fn of_native(uses: &PluginRef, digest: &str) -> Description {
    Description {
        manifest: PluginManifest { name: uses.to_string(), ..PluginManifest::default() },
        digest: digest.to_owned(),
        imports: Default::default(),
        contract: None,
        native: true,
        reconciles: false,
    }
}

fn bad_plugin(stage: &str, error: PluginError) -> SessionError {
    let mut failed = SessionError::not_ready(format!("stage `{stage}`: {}", error.message));
    failed.causes = error.causes;
    failed.hints.extend(error.help);
    failed
}

/// The origins that the keywords of `net` stand for. In a rehearsal, only those in the lock file.
fn package_hosts(repository: &Repository, pipeline: &str, mode: RunMode) -> PackageHosts {
    let packages = PackageHosts::read(&repository.root, &repository.environment);
    match mode {
        RunMode::Real => packages,
        RunMode::Rehearsal { .. } | RunMode::Learning => {
            let locked = lock_file::package_hosts(repository, pipeline);
            packages.of_rehearsal(|named| locked.get(&named.manager).is_some_and(|all| all.contains(&named.origin)))
        }
    }
}

/// The parts of a host configuration that the session provides.
struct HostOptions<'a> {
    sandbox: Option<SandboxConfig>,
    learning: Option<Arc<Learning>>,
    packages: &'a Arc<PackageHosts>,
    secrets: &'a Arc<DeclaredSecrets>,
    credentials: &'a Arc<DeclaredCredentials>,
    registry: Arc<Registry>,
    services: &'a Arc<ServiceManager>,
    releases: EnvironmentLedger,
}

fn config(session: &Session, parts: HostOptions<'_>, mode: RunMode) -> Result<HostConfig, SessionError> {
    let repository = &session.repository;
    Ok(HostConfig {
        workspace: repository.root.clone(),
        changes: Arc::new(RepositoryChanges(Arc::clone(repository))),
        releases: Arc::new(parts.releases),
        reserved: reserved(repository, &parts.secrets.files())?,
        artifacts: repository.artifacts(),
        environment: repository.environment.clone(),
        package_hosts: Arc::clone(parts.packages),
        pulls: mode.pulls(),
        secrets: Arc::clone(parts.secrets) as Arc<dyn SecretSource>,
        credentials: Arc::clone(parts.credentials) as Arc<dyn SignerSource>,
        registry: parts.registry,
        services: Arc::clone(parts.services),
        sandbox: parts.sandbox,
        learning: parts.learning,
        grace: GRACE,
        verbose: false,
    })
}

fn registry(repository: &Repository) -> Registry {
    let docker = repository.environment.get("DOCKER_CONFIG").map(PathBuf::from).or_else(|| {
        let home = repository.environment.get("HOME")?;
        Some(PathBuf::from(home).join(".docker"))
    });
    Registry::new(RegistryConfig {
        embedded_root: repository.state.join("registry"),
        rehearsal_root: repository.rehearsals(),
        credentials: Arc::new(DockerConfig::new(docker.unwrap_or_default().join("config.json"))),
    })
}

/// The services of a repository's environments.
fn services(repository: &Repository, registry: Arc<Registry>) -> ServiceManager {
    ServiceManager::new(ServiceConfig {
        root: repository.state.join("environments"),
        rehearsal_root: repository.rehearsals(),
        exe: repository.program.clone(),
        workspace: repository.root.clone(),
        registry,
    })
}

impl Session {
    /// The services that deploys to the `process` target left running, for commands that need no plugin.
    pub fn services(&self) -> ServiceManager {
        services(&self.repository, Arc::new(registry(&self.repository)))
    }
}
