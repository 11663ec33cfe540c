//! The configuration of a run's plugin host.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::capability::credentials::SignerSource;
use crate::capability::secrets::SecretSource;
use crate::changes::ChangeSource;
use crate::confine::SandboxConfig;
use crate::learner::Learning;
use crate::packages::PackageHosts;
use crate::registry::Registry;
use crate::releases::ReleaseLedger;
use crate::reserved::Reserved;
use crate::resolve::{PluginSource, Pulls};
use crate::service::ServiceManager;

/// What the attempts of one run share, and no other run may use: its workspace, and everything that its grants can open.
/// What all runs on a machine share is in [`RuntimeConfig`](crate::RuntimeConfig). The host reads neither the process's
/// environment nor a home folder.
pub struct HostConfig {
    /// The root of all files that stages can access; plugins named by `path:` are relative to it.
    pub workspace: PathBuf,
    /// The paths of this workspace that no grant opens: the engine's own folders, and whatever git executes.
    pub reserved: Reserved,
    /// The folder of the artifacts' contents, and of their names by run.
    pub artifacts: PathBuf,
    /// The environment from which the programs of stages inherit the variables that are granted.
    pub environment: BTreeMap<String, String>,
    /// The origins behind the keywords of `net`, as in `net = ["cargo"]`. They are read once, before any stage runs, so that
    /// no stage can change them for another.
    pub package_hosts: Arc<PackageHosts>,
    /// How plugins that aren't on this machine yet are pulled from registries. This is set by run because a rehearsal pulls
    /// without credentials. A pulled plugin is available to every later run.
    pub pulls: Pulls,
    /// Values of the secrets that this run's pipeline declares. They are masked in everything that the run's stages write
    /// and return, whichever of them requested the secret, but not in other runs. That would keep a value in memory for as
    /// long as the process lives, and a run could learn a secret of another by writing guesses and looking at which of
    /// them were masked.
    pub secrets: Arc<dyn SecretSource>,
    /// The signers of the credentials that this run's pipeline declares.
    pub credentials: Arc<dyn SignerSource>,
    /// The changes of the workspace's files since a commit, and its history.
    pub changes: Arc<dyn ChangeSource>,
    /// The known-good releases of the pipeline's environments.
    pub releases: Arc<dyn ReleaseLedger>,
    /// Access to image registries, with the credentials of this run's user.
    pub registry: Arc<Registry>,
    /// The local services of this workspace's environments.
    pub services: Arc<ServiceManager>,
    /// The sandbox of programs; none where the machine can't provide one and the pipeline accepts that.
    pub sandbox: Option<SandboxConfig>,
    /// The copy of the workspace that the stages work on while their uses of files are observed; none to work on the
    /// workspace itself.
    pub learning: Option<Arc<Learning>>,
    /// How long a stage may go on after cancellation was requested.
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
