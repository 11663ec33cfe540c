//! What a front end gives a session.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// All that a session knows of the process that it is part of: it reads neither the environment nor the command line.
///
/// It can't be printed with `Debug`, and neither can a [`Repository`](crate::Repository): variables hold secrets.
#[derive(Clone)]
pub struct SessionConfig {
    /// The folder that relative paths begin at: those of this configuration, and of pipelines that are named by a path.
    pub current: PathBuf,
    /// A folder in the repository, or the repository's root.
    pub directory: PathBuf,
    /// Where runs, artifacts and local environments are kept; `.stagewright` in the repository by default.
    pub state: Option<PathBuf>,
    /// The operator's policy; `/etc/stagewright/policy.toml` by default, where it exists. One that is named here must exist.
    pub policy: Option<PathBuf>,
    /// Folders with built-in plugins, `NAME.wasm` each; the first that has a plugin counts.
    pub plugins: Vec<PathBuf>,
    /// A program that begins with [`helper_main`](crate::helper_main), as the front end itself does: sandboxes and
    /// supervisors of services are started with it. A path that no stage can put another file at, as `/proc/self/exe`.
    pub program: PathBuf,
    /// The folder for files that live as long as one operation.
    pub temporary: PathBuf,
    /// Variables by name: what programs and secrets may be granted; PATH and HOME, where programs and the user's
    /// configuration are looked for; what begins with `STAGEWRIGHT_SHARED_CACHE_` is for the shared cache alone.
    pub environment: BTreeMap<String, String>,
}
