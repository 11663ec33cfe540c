//! The plugin host of one repository, and what has to hold before a run may start.

use std::cell::RefCell;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;
use stagewright_cache::{Caching, CaptureConfig, Capturing};
use stagewright_engine::{EffectClass, Level, PluginFacts, Problem, RunId};
use stagewright_model::count;
use stagewright_model::{
    Mistake, MistakePlace, Permissions, Plan, PluginRef, RehearsalTerms, Sandbox, Stage, StageIndex, Trust,
};
use stagewright_plugin_host::registry::{DockerConfig, Registry, RegistryConfig};
use stagewright_plugin_host::service::{ServiceConfig, ServiceManager};
use stagewright_plugin_host::{
    Description, HostConfig, Manifest, PackageHosts, PluginError, PluginHost, Pulls, SandboxConfig, SecretSource,
};
use stagewright_process::sandbox::{Maker, Missing, Need};
use stagewright_report::text;
use tokio::runtime::Runtime;

use crate::args::Global;
use crate::cache::{self, CacheUse};
use crate::error::CommandError;
use crate::exit::Exit;
use crate::lock_file;
use crate::repository::{PipelineFile, Repository};
use crate::reserved::reserved;
use crate::secrets::Secrets;
use crate::{console, diagnostics};

/// What stages have between the request to stop and the kill.
const GRACE: Duration = Duration::from_secs(10);

/// A plugin host, and the runtime that asks it things before the run has one.
pub(crate) struct Host {
    plugins: PluginHost,
    services: Arc<ServiceManager>,
    secrets: Arc<Secrets>,
    packages: Arc<PackageHosts>,
    runtime: Runtime,
    /// Why programs can't be confined, where there are programs and they can't.
    unsandboxed: Option<Missing>,
    mode: RunMode,
    /// What was asked once, by plugin.
    described: RefCell<HashMap<(PluginRef, Trust), Arc<Description>>>,
}

/// Whether a run is for real.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunMode {
    Real,
    Rehearsal {
        /// Without any network.
        offline: bool,
    },
}

impl RunMode {
    pub(crate) fn is_rehearsal(self) -> bool {
        self != RunMode::Real
    }

    pub(crate) fn is_offline(self) -> bool {
        self == RunMode::Rehearsal { offline: true }
    }

    /// What a stage goes by in a rehearsal.
    pub(crate) fn terms(self, stage: &Stage) -> Option<RehearsalTerms> {
        match self {
            RunMode::Real => None,
            RunMode::Rehearsal { offline } => Some(RehearsalTerms::of(stage, offline)),
        }
    }

    /// How far the effects of a stage can reach, with all that it is granted in such a run.
    pub(crate) fn effect_class(self, stage: &Stage, description: &Description) -> EffectClass {
        match self.terms(stage) {
            None => stage.effect_class(description.code()),
            Some(terms) => terms.effect_class(stage, description.code()),
        }
    }

    fn pulls(self) -> Pulls {
        match self {
            RunMode::Real => Pulls::WithCredentials,
            RunMode::Rehearsal { offline: false } => Pulls::Anonymous,
            RunMode::Rehearsal { offline: true } => Pulls::Never,
        }
    }
}

impl Host {
    /// For so many attempts at a time.
    pub(crate) fn open(
        repository: &Repository,
        plan: &Plan,
        attempts: usize,
        mode: RunMode,
    ) -> Result<Host, CommandError> {
        Host::confined(repository, plan, attempts, mode, sandbox(repository, plan)?)
    }

    /// To ask plugins what they are. Nothing runs, and so nobody tries what programs could be confined by.
    pub(crate) fn inquiring(repository: &Repository, plan: &Plan) -> Result<Host, CommandError> {
        Host::confined(repository, plan, 1, RunMode::Real, (None, None))
    }

    fn confined(
        repository: &Repository,
        plan: &Plan,
        attempts: usize,
        mode: RunMode,
        (sandbox, unsandboxed): (Option<SandboxConfig>, Option<Missing>),
    ) -> Result<Host, CommandError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| CommandError::internal("can't start the runtime").caused_by(error))?;
        let registry = Arc::new(registry(repository));
        let services = Arc::new(services(repository, Arc::clone(&registry))?);
        let secrets = Arc::new(Secrets::of(plan, repository));
        let packages = PackageHosts::read(&repository.root, &repository.environment);
        let packages = Arc::new(match mode {
            RunMode::Real => packages,
            RunMode::Rehearsal { .. } => {
                let locked = lock_file::package_hosts(repository, &plan.name);
                packages.of_rehearsal(|named| locked.get(&named.manager).is_some_and(|all| all.contains(&named.origin)))
            }
        });
        let config = HostConfig {
            workspace: repository.root.clone(),
            reserved: reserved(repository)?,
            plugin_cache: repository.cache.clone(),
            artifacts: repository.state.join("artifacts"),
            builtin: repository.plugins.clone(),
            environment: repository.environment.clone(),
            package_hosts: Arc::clone(&packages),
            pulls: mode.pulls(),
            secrets: Arc::clone(&secrets) as Arc<dyn SecretSource>,
            registry,
            services: Arc::clone(&services),
            sandbox,
            attempts,
            grace: GRACE,
            compiling: Arc::new(|plugin| console::say(text!("compiling plugin {plugin} for this machine, once"))),
            verbose: false,
        };
        let plugins = PluginHost::new(config).map_err(|error| {
            let help = error.help.clone();
            let mut failed = CommandError::internal(error.message.clone()).caused_by(error);
            failed.hints.extend(help);
            failed
        })?;
        Ok(Host { plugins, services, secrets, packages, runtime, unsandboxed, mode, described: RefCell::default() })
    }

    /// What words of `net` stand for, as it was when the host was made.
    pub(crate) fn packages(&self) -> &PackageHosts {
        &self.packages
    }

    /// Why programs run without a sandbox, where they do.
    pub(crate) fn unsandboxed(&self) -> Option<&Missing> {
        self.unsandboxed.as_ref()
    }

    /// What a stage's programs take of the machine beyond its grants.
    pub(crate) fn tools(&self, stage: &Stage) -> Vec<Need> {
        let variables = stage.env.iter().map(|(name, value)| (name.clone(), value.source().to_owned())).collect();
        self.plugins.tools(&stage.permissions, &variables)
    }

    /// For [`capturing`](Self::capturing). `file`: the pipeline's, relative to the repository.
    pub(crate) fn runner(&self, repository: &Repository, file: &str, used: CacheUse) -> Caching {
        cache::caching(repository, file, &self.plugins, self.unsandboxed.is_none(), used)
    }

    /// For the engine: gives stages the files that were captured for them.
    pub(crate) fn capturing(&self, repository: &Repository, caching: &Caching) -> Capturing {
        let config = CaptureConfig {
            root: repository.captures(),
            workspace: repository.root.clone(),
            reserved: self.plugins.reserved().closed_paths().unwrap_or_default(),
            sandboxed: self.unsandboxed.is_none(),
        };
        Capturing::new(config, Arc::new(caching.clone()))
    }

    /// Every stage's plugin, by plan index. A plugin is asked once, and a native library never: asking is running it.
    pub(crate) fn describe_all(&self, plan: &Plan) -> Result<Vec<Arc<Description>>, CommandError> {
        let mut known = self.described.borrow_mut();
        let mut described = Vec::with_capacity(plan.stages.len());
        for stage in &plan.stages {
            let description = match known.entry((stage.uses.clone(), stage.trust.clone())) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => unknown.insert(Arc::new(match &stage.trust {
                    Trust::Component => {
                        let asked = self.runtime.block_on(self.plugins.describe(&stage.uses, &stage.trust));
                        asked.map_err(|error| bad_plugin(&stage.id, error))?
                    }
                    Trust::Native { digest } => of_native(&stage.uses, digest),
                })),
            };
            described.push(Arc::clone(description));
        }
        self.plugins.keep_answers();
        Ok(described)
    }

    /// What the engine has to know of every stage's plugin, by plan index.
    pub(crate) fn facts(&self, plan: &Plan) -> Result<Vec<PluginFacts>, CommandError> {
        let described = self.describe_all(plan)?;
        let mut digests: BTreeSet<Arc<str>> = BTreeSet::new();
        let facts = plan.stages.iter().zip(described).map(|(stage, description)| {
            let effect = self.mode.effect_class(stage, &description);
            let rehearsal = self.mode.terms(stage).map(|terms| terms.fidelity(stage, description.code()));
            let digest = digests.get(description.digest.as_str()).cloned();
            let digest = digest.unwrap_or_else(|| description.digest.as_str().into());
            digests.insert(Arc::clone(&digest));
            PluginFacts { effect, digest: Some(digest), rehearsal }
        });
        Ok(facts.collect())
    }

    /// Stages whose plugin finds fault with their configuration.
    pub(crate) fn misconfigured(&self, plan: &Plan) -> Result<Vec<Mistake>, CommandError> {
        let mut found = Vec::new();
        // Cells of a matrix, and stages that are configured alike, have the same mistakes: they are told once.
        let (mut told, mut answers) = (BTreeSet::new(), HashMap::new());
        for (index, key, with) in plan.indices().flat_map(|index| configurations(plan, index)) {
            let stage = plan.stage(index);
            let configured = (&stage.uses, with.to_string());
            let problems = match answers.entry(configured) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => {
                    let problems = self.runtime.block_on(self.plugins.validate(&stage.uses, &stage.trust, with));
                    unknown.insert(problems.map_err(|error| bad_plugin(&stage.id, error))?)
                }
            };
            let errors = problems.iter().filter(|problem| problem.level == Level::Error).cloned();
            if problems.is_empty() || !told.insert((&stage.name, &stage.uses, with.to_string())) {
                continue;
            }
            found.extend(errors.map(|problem| {
                let Problem { message, path, help, .. } = problem;
                let place = MistakePlace::Configuration { table: key, path };
                Mistake { stage: index, place, message, help }
            }));
        }
        self.plugins.keep_answers();
        Ok(found)
    }

    /// Refuses a run that can't come to its end: a plugin that isn't there, a configuration that doesn't hold, a secret
    /// that isn't set.
    pub(crate) fn check(
        &self,
        global: &Global,
        file: &PipelineFile,
        plan: &Plan,
        left_out: &BTreeMap<StageIndex, String>,
    ) -> Result<(), CommandError> {
        let wrong = self.misconfigured(plan)?;
        if !wrong.is_empty() {
            diagnostics::show(global, &plan.locate_mistakes(&file.name, &file.text, &wrong));
            let message = format!("{}: {}; nothing was run", file.name, invalid_configuration(&wrong));
            return Err(CommandError::new(Exit::InvalidPipeline, message));
        }
        let wanted = || plan.indices().filter(|index| !left_out.contains_key(index)).map(|index| plan.stage(index));
        let left_out = |mistake: &Mistake| left_out.contains_key(&mistake.stage);
        let foreign = foreign_targets(plan).into_iter().filter(|mistake| !left_out(mistake)).collect::<Vec<_>>();
        if !foreign.is_empty() {
            diagnostics::show(global, &plan.locate_mistakes(&file.name, &file.text, &foreign));
            return Err(CommandError::not_ready(format!(
                "{} deploys to targets that don't work yet; nothing was run",
                file.name
            )));
        }
        if let Some(missing) = self.unsandboxed.as_ref().filter(|_| plan.sandbox == Sandbox::Required) {
            return Err(CommandError::not_ready(format!(
                "{} wants its programs in a sandbox, and this machine has none: {}",
                file.name, missing.what
            ))
            .hint(missing.help.clone()));
        }
        if let Some(missing) = &self.unsandboxed {
            console::say(text!("warning: programs run without a sandbox: {}", missing.what));
        }
        let described = self.describe_all(plan)?;
        for (stage, target) in wanted().flat_map(|stage| stage.compensate.iter().map(move |&target| (stage, target))) {
            let (target, description) = (plan.stage(target), &described[target.get()]);
            if !description.reconciles {
                return Err(CommandError::not_ready(format!(
                    "{}:{}: [stages.{}] wants to take `{}` back when it fails, and its plugin `{}` can't",
                    file.name, stage.line, stage.name, target.id, target.uses
                ))
                .hint(format!("drop `{}` from `compensate`; a plugin that can exports `reconcile`", target.name)));
            }
        }
        // A rehearsal fetches the values that it is granted, and no others.
        let used = wanted().flat_map(|stage| match self.mode.terms(stage) {
            None => secrets_of(&stage.permissions),
            Some(terms) => secrets_of(&terms.real),
        });
        let used = used.collect::<BTreeSet<String>>();
        self.secrets.check(&used.iter().map(String::as_str).collect())
    }

    /// Stops what the rehearsal left running, and nothing of another one.
    pub(crate) fn stop_rehearsal(&self, run: &RunId) -> Result<(), CommandError> {
        let stopped = self.runtime.block_on(self.services.stop_rehearsal(run));
        stopped.map_err(|error| CommandError::internal("can't stop the services of the rehearsal").caused_by(error))
    }
}

/// As in `2 stages have an invalid configuration`.
pub(crate) fn invalid_configuration(mistakes: &[Mistake]) -> String {
    let stages = mistakes.iter().map(|mistake| mistake.stage).collect::<BTreeSet<_>>().len();
    format!("{} {} an invalid configuration", count(stages, "stage"), if stages == 1 { "has" } else { "have" })
}

fn secrets_of(granted: &Permissions) -> Vec<String> {
    granted.secret_grants().map(|grant| grant.name.to_owned()).collect()
}

/// What the stage's plugin can be configured with, and where that stands.
fn configurations(plan: &Plan, index: StageIndex) -> impl Iterator<Item = (StageIndex, &'static str, &Json)> {
    let stage = plan.stage(index);
    let rehearsed = stage.rehearse.as_ref().and_then(|rehearse| rehearse.with.as_deref());
    let own = std::iter::once((index, "with", stage.with.as_ref()));
    own.chain(rehearsed.map(|with| (index, "rehearse.with", with)))
}

/// Where programs are confined, or why they can't be; neither where no stage starts any.
fn sandbox(repository: &Repository, plan: &Plan) -> Result<(Option<SandboxConfig>, Option<Missing>), CommandError> {
    if plan.stages.iter().all(|stage| stage.permissions.process.is_empty()) {
        return Ok((None, None));
    }
    let maker = Maker::new(this_program()?);
    let probe = std::env::temp_dir().join(format!("stagewright-probe-{}", std::process::id()));
    if let Err(missing) = maker.missing(&probe) {
        return Ok((None, Some(missing)));
    }
    let scratch = repository.state.join("scratch");
    remove_stale(&scratch);
    Ok((Some(SandboxConfig::new(maker, scratch, kept(repository))), None))
}

/// Download caches of stages.
pub(crate) fn kept(repository: &Repository) -> PathBuf {
    repository.state.join("kept")
}

/// What processes left behind that ended before they could clean up. The folders are named for them.
fn remove_stale(scratch: &Path) {
    for entry in scratch.read_dir().into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.split('-').next()).unwrap_or_default();
        if !process.is_empty() && !Path::new("/proc").join(process).exists() {
            // The next start tries again.
            let _ = stagewright_files::remove_tree(&entry.path());
        }
    }
}

/// By the kernel's name for it: another file that a stage put at its path since is another program.
pub(crate) fn this_program() -> Result<PathBuf, CommandError> {
    let running = PathBuf::from("/proc/self/exe");
    if running.exists() {
        return Ok(running);
    }
    std::env::current_exe()
        .map_err(|error| CommandError::internal("can't find this program's own file").caused_by(error))
}

/// The built-in `deploy` starts processes of this machine: not what an environment with another target asks for.
pub(crate) fn foreign_targets(plan: &Plan) -> Vec<Mistake> {
    let foreign = |index: StageIndex| {
        let stage = plan.stage(index);
        let name = &stage.environment.as_ref()?.name;
        let target = &plan.environments.get(name)?.target;
        let is_foreign = stage.uses == PluginRef::Builtin("deploy".to_owned()) && target != "process";
        is_foreign.then(|| Mistake {
            stage: index,
            place: MistakePlace::Key("uses"),
            message: format!("`deploy` can't deploy to a target `{target}` yet"),
            help: Some(format!("set `target = \"process\"` in [environments.{name}], or use a plugin of your own")),
        })
    };
    plan.indices().filter_map(foreign).collect()
}

/// What the pipeline says of a native library. Whether its file has the digest is seen when it is loaded.
fn of_native(uses: &PluginRef, digest: &str) -> Description {
    Description {
        manifest: Manifest { name: uses.to_string(), ..Manifest::default() },
        digest: digest.to_owned(),
        interfaces: BTreeSet::new(),
        contract: None,
        native: true,
        reconciles: false,
    }
}

fn bad_plugin(stage: &str, error: PluginError) -> CommandError {
    let mut failed = CommandError::not_ready(format!("stage `{stage}`: {}", error.message));
    failed.causes = error.causes;
    failed.hints.extend(error.help);
    failed
}

/// The stand-ins of rehearsals: a folder for each run.
pub(crate) fn rehearsals(repository: &Repository) -> PathBuf {
    repository.state.join("rehearsal/runs")
}

fn registry(repository: &Repository) -> Registry {
    let docker = repository.environment.get("DOCKER_CONFIG").map(PathBuf::from).or_else(|| {
        let home = repository.environment.get("HOME")?;
        Some(PathBuf::from(home).join(".docker"))
    });
    Registry::new(RegistryConfig {
        embedded_root: repository.state.join("registry"),
        rehearsal_root: rehearsals(repository),
        credentials: Arc::new(DockerConfig::new(docker.unwrap_or_default().join("config.json"))),
    })
}

/// The services of a repository's environments.
pub(crate) fn services(repository: &Repository, registry: Arc<Registry>) -> Result<ServiceManager, CommandError> {
    let exe = this_program()?;
    Ok(ServiceManager::new(ServiceConfig {
        root: repository.state.join("environments"),
        rehearsal_root: rehearsals(repository),
        exe,
        workspace: repository.root.clone(),
        registry,
    }))
}

/// The services alone, for commands that need no plugin.
pub(crate) fn services_of(repository: &Repository) -> Result<ServiceManager, CommandError> {
    services(repository, Arc::new(registry(repository)))
}
