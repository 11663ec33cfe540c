//! The cache of a repository, which wraps its plugin host.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use stagewright_cache::{CacheConfig, Caching, Guard, MachineContext, Mode, SharedCache, Tier};
use stagewright_engine::{Artifact, RunId, StageRunner};
use stagewright_model::{Interface, OperatorPolicy, Permissions, PolicyValue, VariableName};
use stagewright_plugin_host::{ArtifactFolder, PluginHost, StageOwner};
use stagewright_process::sandbox::{MountMode, real_program};
use stagewright_process::which;

use crate::error::SessionError;
use crate::mode::RunMode;
use crate::notice::{Notice, Notices};
use crate::repository::Repository;

/// The address that turns off the shared cache.
const OFF: &str = "off";

/// How long sending results may take before a notice explains the wait.
const UNNOTICED: Duration = Duration::from_secs(1);

/// How a run uses the cache, as far as the policy doesn't decide it.
#[derive(Clone, Debug, Default)]
pub struct CacheOptions {
    /// Whether results are used and stored.
    pub mode: Mode,
    /// The address of a shared cache: a folder, `s3://BUCKET/PREFIX`, or an http or https URL; `off` for none.
    pub shared: Option<String>,
    /// The trust tier of this run's results: `trusted` for all runs, or a name.
    pub tier: Option<String>,
}

/// How a run uses the cache.
pub(crate) struct CacheSettings {
    mode: Mode,
    tier: Tier,
    shared: Option<SharedCache>,
}

impl CacheSettings {
    /// Combines the policy with the options, which count where the policy doesn't decide.
    pub(crate) fn of(
        policy: Option<&OperatorPolicy>,
        options: &CacheOptions,
        repository: &Repository,
        mode: RunMode,
    ) -> Result<CacheSettings, SessionError> {
        let tier = decided("--cache-tier", options.tier.as_ref(), policy, |policy| policy.cache_tier.as_ref())?;
        let tier = tier.map(|tier| Tier::named(&tier)).transpose().map_err(|error| {
            SessionError::invalid_request(error.to_string()).hint("as in --cache-tier trusted, or --cache-tier pr-12")
        })?;
        let given = options.shared.as_ref();
        let shared = decided("--shared-cache", given, policy, |policy| policy.shared_cache.as_ref())?;
        let is_off = |address: &String| address.is_empty() || address == OFF;
        // A rehearsal doesn't even read the shared cache, because that would send its credentials to another machine.
        let shared = shared.filter(|address| !is_off(address) && !mode.is_rehearsal());
        if let Some(address) = &shared {
            refuse_in_workspace(address, repository)?;
        }
        let known = repository.environment.iter().filter(|(name, _)| name.starts_with("AWS_"));
        let known = known.chain(&repository.cache_environment);
        let known = known.map(|(name, value)| (name.clone(), value.clone())).collect();
        // A shared cache requires an explicit tier, because results are published to other machines under it. With a
        // default, a run of untrusted code without configuration would publish its results as trusted, and
        // trusted runs would use them.
        let opened = shared.map(|address| SharedCache::open(&address, &known, tier.is_some())).transpose();
        let shared = opened.map_err(|error| SessionError::invalid_request(error.to_string()).hint(error.help))?;
        Ok(CacheSettings { mode: options.mode, tier: tier.unwrap_or_default(), shared })
    }
}

/// Refuses a shared cache in the workspace, where stages could forge results of any tier.
fn refuse_in_workspace(address: &str, repository: &Repository) -> Result<(), SessionError> {
    let Some(folder) = SharedCache::folder(address) else { return Ok(()) };
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if !real(folder).starts_with(real(&repository.root)) {
        return Ok(());
    }
    Err(SessionError::invalid_request(format!(
        "the shared cache `{}` lies in the workspace, where stages can write",
        folder.display()
    ))
    .hint("choose a folder outside of the repository, as in --shared-cache /srv/stagewright-cache"))
}

/// The operator's decision, or the given option if the operator has decided nothing. An option that contradicts the
/// policy is an error.
fn decided(
    flag: &str,
    given: Option<&String>,
    policy: Option<&OperatorPolicy>,
    of: fn(&OperatorPolicy) -> Option<&PolicyValue>,
) -> Result<Option<String>, SessionError> {
    let Some((policy, said)) = policy.and_then(|policy| Some((policy, of(policy)?))) else { return Ok(given.cloned()) };
    match given {
        Some(given) if *given != said.text => {
            Err(SessionError::not_ready(format!("{flag} is `{given}`, but the policy requires `{}`", said.text))
                .hint(format!("remove {flag}: {}:{} sets it for this machine", policy.file, said.line)))
        }
        _ => Ok(Some(said.text.clone())),
    }
}

/// Creates the runner that uses the cache. `file` is the pipeline file; `sandboxed` is whether programs are sandboxed.
pub(crate) fn caching(
    repository: &Repository,
    file: &str,
    plugins: &PluginHost,
    sandboxed: bool,
    used: CacheSettings,
) -> Caching {
    let machine = SessionMachine {
        plugins: plugins.clone(),
        environment: repository.environment.clone(),
        root: repository.root.clone(),
        artifacts: ArtifactFolder { root: repository.artifacts() },
    };
    let owner = StageOwner { tier: used.tier.name().to_owned(), file: file.to_owned() };
    let work: Arc<dyn StageRunner> = Arc::new(plugins.owned_by(owner));
    let config = CacheConfig {
        root: repository.results(),
        file: file.to_owned(),
        workspace: repository.root.clone(),
        // Can't fail: the host determined them when it was created.
        reserved: plugins.reserved().closed_paths().unwrap_or_default(),
        sandboxed,
        mode: used.mode,
        tier: used.tier,
        shared: used.shared,
        machine: Arc::new(machine),
    };
    Caching::new(config, work)
}

/// Waits until all results have been sent to the shared cache. If `abandon` resolves first, the rest isn't sent.
pub(crate) async fn settle(caching: &Caching, notices: &dyn Notices, abandon: BoxFuture<'static, ()>) {
    let (mut settling, mut abandoned) = (pin!(caching.finish_sending()), abandon);
    let mut noticed = false;
    let sent = loop {
        tokio::select! {
            sent = &mut settling => break sent,
            () = &mut abandoned => return,
            () = tokio::time::sleep(UNNOTICED), if !noticed => {
                noticed = true;
                notices.notice(&Notice::SendingResults);
            }
        }
    };
    if let Some(why) = sent.error {
        notices.notice(&Notice::ResultsNotSent { results: sent.failed, why });
    }
}

struct SessionMachine {
    plugins: PluginHost,
    environment: BTreeMap<String, String>,
    root: PathBuf,
    artifacts: ArtifactFolder,
}

impl MachineContext for SessionMachine {
    fn variables(&self, permissions: &Permissions) -> BTreeMap<String, String> {
        let inherited = Interface::Process.inherited_variables();
        // The variables that lead to programs are left out: the cache key contains the programs themselves.
        let is_place = |name: &str| inherited.iter().any(|variable| variable.is_place && variable.name == name);
        let names = inherited.iter().map(|variable| variable.name);
        let names = names.chain(permissions.env.iter().map(VariableName::as_str)).filter(|name| !is_place(name));
        names.filter_map(|name| Some((name.to_owned(), self.environment.get(name)?.clone()))).collect()
    }

    fn tools(&self, permissions: &Permissions, env: &BTreeMap<String, String>) -> Vec<PathBuf> {
        let path = env.get("PATH").or_else(|| self.environment.get("PATH")).map_or("", String::as_str);
        let programs = permissions.process.iter().filter_map(|rule| match rule.program()? {
            // A link from the workspace to a program outside isn't started, so its content must not be read either.
            own if own.contains('/') => {
                Some(self.root.join(own)).filter(|own| !own.exists() || real_program(own, &self.root).is_some())
            }
            name => real_program(&which(name, path)?, &self.root),
        });
        let needs = self.plugins.tools(permissions, env).into_iter();
        // Kept mounts are download caches. Downloads that a result depends on are pinned by its inputs.
        let needs = needs.filter(|need| matches!(need.how, MountMode::Execute | MountMode::Copy(_)));
        programs.chain(needs.map(|need| need.path)).collect()
    }

    fn published(&self, run: &RunId) -> io::Result<Vec<Artifact>> {
        self.artifacts.published(run)
    }

    fn content(&self, digest: &str) -> PathBuf {
        self.artifacts.content(digest)
    }

    fn publish(&self, run: &RunId, stage: &str, artifact: &Artifact, content: &Path) -> io::Result<()> {
        self.artifacts.publish(run, stage, artifact, content)
    }

    fn guard(&self) -> io::Result<Guard> {
        let guard = self.plugins.reserved().guard()?;
        Ok(Box::new(guard))
    }
}
