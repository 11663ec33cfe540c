//! The configuration of a run's plugin host.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::capability::secrets::SecretSource;
use crate::confine::SandboxConfig;
use crate::packages::PackageHosts;
use crate::registry::Registry;
use crate::reserved::Reserved;
use crate::resolve::{PluginSource, Pulls};
use crate::service::ServiceManager;

/// What the attempts of one run share, and no other run may use: its workspace, and handles on everything that its grants
/// can open. What all runs of a machine share is in [`RuntimeConfig`](crate::RuntimeConfig). Nothing else is read, neither
/// the process's environment nor a home folder.
pub struct HostConfig {
    /// The root of all files that stages can access; plugins named by `path:` are relative to it.
    pub workspace: PathBuf,
    /// What no grant opens: the engine's own folders, and what git executes. Found in this workspace.
    pub reserved: Reserved,
    /// Contents of artifacts, and their names by run.
    pub artifacts: PathBuf,
    /// The environment that the programs of stages inherit from, as far as it is granted.
    pub environment: BTreeMap<String, String>,
    /// The origins behind words of `net`, as in `net = ["cargo"]`: read once, so that no stage changes them for another.
    pub package_hosts: Arc<PackageHosts>,
    /// How plugins that aren't on this machine yet are pulled from registries. Belongs to the run because a rehearsal pulls
    /// without credentials; a plugin that was pulled is on the machine for every later run.
    pub pulls: Pulls,
    /// Values of the secrets that this run's pipeline declares. They are masked in what this run's stages write and return,
    /// whichever of its stages requested them, and not in another run's: that would keep a value in memory for as long as
    /// the process lives, and a run could find out a secret of another by writing guesses and reading which were masked.
    pub secrets: Arc<dyn SecretSource>,
    /// Images, with the credentials of this run's user.
    pub registry: Arc<Registry>,
    /// Local services of this workspace's environments.
    pub services: Arc<ServiceManager>,
    /// Where programs are confined; none on a machine that can't confine them, for a pipeline that accepts that.
    pub sandbox: Option<SandboxConfig>,
    /// How long a stage may go on after it was asked to stop.
    pub grace: Duration,
    /// Whether debug and trace messages of plugins are logged.
    pub verbose: bool,
}

impl HostConfig {
    /// Where this run looks for plugins.
    pub(crate) fn plugin_source(&self) -> PluginSource<'_> {
        PluginSource { workspace: &self.workspace, registry: &self.registry, pulls: self.pulls }
    }
}

/// Why a runtime or a host can't be created.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct HostError {
    /// What failed.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    #[source]
    pub(crate) source: Box<dyn std::error::Error + Send + Sync>,
}
