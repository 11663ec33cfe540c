//! The configuration of a session.

use std::collections::BTreeMap;
use std::path::PathBuf;

use stagewright_plugin_host::BuiltinPlugins;

/// Everything that a session uses of its process. It reads neither the environment nor the command line itself.
///
/// Neither this nor a [`Repository`](crate::Repository) implements `Debug`, because variables can contain secrets.
#[derive(Clone)]
pub struct SessionConfig {
    /// The folder that relative paths begin at: those of this configuration, and of pipelines that are named by a path.
    pub current: PathBuf,
    /// A folder in the repository, or the repository's root.
    pub directory: PathBuf,
    /// Where runs, artifacts and local environments are kept; `.stagewright` in the repository by default.
    pub state: Option<PathBuf>,
    /// The operator's policy; `/etc/stagewright/policy.toml` by default, where it exists. One that is named here must
    /// exist.
    pub policy: Option<PathBuf>,
    /// The built-in plugins.
    pub plugins: BuiltinPlugins,
    /// The program with which sandboxes and supervisors of services are started. Its `main` must call
    /// [`helper_main`](crate::helper_main) first. Usually the front end itself, as `/proc/self/exe`: a path at which no
    /// stage can put another file.
    pub program: PathBuf,
    /// The folder for temporary files of one operation.
    pub temporary: PathBuf,
    /// Environment variables by name. Programs and secrets can be granted them; `PATH` and `HOME` locate programs and
    /// the user's configuration. Those that start with `STAGEWRIGHT_SHARED_CACHE_` are only available to the shared
    /// cache.
    pub environment: BTreeMap<String, String>,
}
