//! Reads a component's manifest by calling its `describe` in a host that grants nothing and stores nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use stagewright_engine::RunId;
use stagewright_model::{PluginRef, Trust};
use stagewright_plugin_host::registry::{DockerConfig, Registry, RegistryConfig};
use stagewright_plugin_host::service::{ServiceConfig, ServiceManager};
use stagewright_plugin_host::{
    ChangeSource, ChangesUnknown, GoodRelease, History, HostConfig, PluginHost, PluginManifest, PluginRuntime, Pulls,
    ReleaseLedger, ReleasesUnknown, Reserved, RuntimeConfig, Secret, SecretError, SecretSource,
};

/// Why `describe` failed: the message, its causes, and the remedy.
pub(super) type Reasons = Vec<String>;

/// Runs `describe`; any call of an import traps.
pub(super) fn describe(component: &Path) -> Result<PluginManifest, Reasons> {
    let reason = |error: &dyn std::error::Error| vec![error.to_string()];
    let scratch = tempfile::tempdir().map_err(|error| reason(&error))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| reason(&error))?;
    let component = component.canonicalize().map_err(|error| reason(&error))?;
    let (Some(folder), Some(file)) = (component.parent(), component.file_name()) else {
        return Err(vec![format!("{} is not a file", component.display())]);
    };
    let plugins = PluginRuntime::new(runtime_config(scratch.path())).map_err(|error| reason(&error))?;
    let host = PluginHost::new(&plugins, host_config(folder, scratch.path())).map_err(|error| reason(&error))?;
    let uses = PluginRef::Path(file.to_string_lossy().into_owned());
    let described = runtime.block_on(host.describe(&uses, &Trust::Component));
    described.map(|description| description.manifest).map_err(|error| {
        let help = error.help.map(|help| format!("help: {help}"));
        std::iter::once(error.message).chain(error.causes).chain(help).collect()
    })
}

fn runtime_config(scratch: &Path) -> RuntimeConfig {
    RuntimeConfig {
        plugin_cache: scratch.join("plugins"),
        builtin: Default::default(),
        environment: BTreeMap::new(),
        attempts: 1,
        compile_observer: Arc::new(()),
    }
}

fn host_config(folder: &Path, scratch: &Path) -> HostConfig {
    let registry = Arc::new(Registry::new(RegistryConfig {
        embedded_root: scratch.join("registry"),
        rehearsal_root: scratch.join("registry"),
        credentials: Arc::new(DockerConfig::new(scratch.join("config.json"))),
    }));
    let services = ServiceManager::new(ServiceConfig {
        root: scratch.join("services"),
        rehearsal_root: scratch.join("services"),
        exe: PathBuf::new(),
        workspace: folder.to_owned(),
        registry: Arc::clone(&registry),
    });
    HostConfig {
        workspace: folder.to_owned(),
        reserved: Reserved::new(folder, Vec::new(), None),
        artifacts: scratch.join("artifacts"),
        environment: BTreeMap::new(),
        package_hosts: Arc::default(),
        pulls: Pulls::Never,
        secrets: Arc::new(Nothing),
        credentials: Arc::new(()),
        changes: Arc::new(Nothing),
        releases: Arc::new(Nothing),
        registry,
        services: Arc::new(services),
        learning: None,
        sandbox: None,
        grace: Duration::ZERO,
        verbose: false,
    }
}

/// Stands for what a plugin that is only described can't use.
struct Nothing;

impl SecretSource for Nothing {
    fn secret(&self, _name: &str) -> Result<Option<Secret>, SecretError> {
        Ok(None)
    }

    fn stand_in(&self, _name: &str) -> Option<Secret> {
        None
    }
}

impl ChangeSource for Nothing {
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

impl ReleaseLedger for Nothing {
    fn good_release(&self, _environment: &str, _asking: &RunId) -> Result<Option<GoodRelease>, ReleasesUnknown> {
        Ok(None)
    }
}
