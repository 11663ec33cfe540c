//! What a host is made of.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::capability::secrets::SecretSource;
use crate::confine::SandboxConfig;
use crate::packages::PackageHosts;
use crate::registry::Registry;
use crate::reserved::Reserved;
use crate::resolve::Pulls;
use crate::service::ServiceManager;

/// What a host is made of. Nothing else is read: neither the process's environment nor a home folder.
pub struct HostConfig {
    /// The root of all that stages see of files; plugins named by `path:` are relative to it.
    pub workspace: PathBuf,
    /// What no grant opens: where the engine keeps its own things, and what git runs.
    pub reserved: Reserved,
    /// Compiled and pulled plugins. Made with the mode 0700; one that others can reach isn't used.
    pub plugin_cache: PathBuf,
    /// Called with a plugin's name before it is compiled for this machine, which takes up to seconds, once.
    pub compiling: Arc<dyn Fn(&str) + Send + Sync>,
    /// Contents of artifacts, and their names by run.
    pub artifacts: PathBuf,
    /// Folders of built-in plugins, `NAME.wasm` each; the first that has a plugin counts.
    pub builtin: Vec<PathBuf>,
    /// The environment that processes of stages inherit from, as far as it is granted; also where proxies are named.
    pub environment: BTreeMap<String, String>,
    /// What words of `net` stand for, as in `net = ["cargo"]`: read once, so that no stage changes it for another.
    pub package_hosts: Arc<PackageHosts>,
    /// How plugins that aren't on this machine yet come from registries.
    pub pulls: Pulls,
    /// Values of secrets.
    pub secrets: Arc<dyn SecretSource>,
    /// Images.
    pub registry: Arc<Registry>,
    /// Local services.
    pub services: Arc<ServiceManager>,
    /// Where programs are confined; none for a machine that can't, and a pipeline that accepts that.
    pub sandbox: Option<SandboxConfig>,
    /// How many attempts run at a time.
    pub attempts: usize,
    /// How long a stage has to end by itself once it is asked to stop.
    pub grace: Duration,
    /// Whether debug and trace messages of plugins go into the log.
    pub verbose: bool,
}

/// Why a host can't be made.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct HostError {
    /// What could not be had.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    #[source]
    pub(super) source: Box<dyn std::error::Error + Send + Sync>,
}
