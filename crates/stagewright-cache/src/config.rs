//! What the cache must know about the machine and the run.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stagewright_engine::{Artifact, RunId};
use stagewright_model::Permissions;

use crate::shared::SharedCache;
use crate::tier::Tier;

/// The parts of the machine that a result depends on, and the store of artifacts.
pub trait MachineContext: Send + Sync {
    /// The variables that the stage's programs inherit and that can affect them.
    fn variables(&self, permissions: &Permissions) -> BTreeMap<String, String>;
    /// The programs and toolchains that they can start: files, and folders with programs in `bin`.
    fn tools(&self, permissions: &Permissions, env: &BTreeMap<String, String>) -> Vec<PathBuf>;
    /// The artifacts that the run has published so far.
    ///
    /// # Errors
    /// When the list can't be read.
    fn published(&self, run: &RunId) -> io::Result<Vec<Artifact>>;
    /// The file with an artifact's content.
    fn content(&self, digest: &str) -> PathBuf;
    /// Publishes the file `content` as an artifact of a stage of the run.
    ///
    /// # Errors
    /// When it can't be written, or when `content` doesn't have the artifact's digest.
    fn publish(&self, run: &RunId, stage: &str, artifact: &Artifact, content: &Path) -> io::Result<()>;
    /// A function that returns the reason why a path of the workspace must not be written, if it must not.
    ///
    /// # Errors
    /// When the reserved paths can't be determined.
    fn guard(&self) -> io::Result<Guard>;
}

/// See [`MachineContext::guard`].
pub type Guard = Box<dyn Fn(&str) -> Option<String> + Send>;

/// How a run uses the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Uses stored results and stores new ones.
    #[default]
    Use,
    /// Uses stored results but stores none.
    Read,
    /// Runs every stage again and stores its result.
    Refresh,
    /// Neither uses nor stores results.
    Off,
}

/// The configuration of a [`Caching`](crate::Caching).
pub struct CacheConfig {
    /// The folder of stored results.
    pub root: PathBuf,
    /// The pipeline file, relative to the workspace. Stages of the same name in two files are different stages.
    pub file: String,
    /// The root of the workspace, absolute.
    pub workspace: PathBuf,
    /// Paths of the workspace that belong to the engine, relative to its root.
    pub reserved: Vec<String>,
    /// Whether the stages' programs run in a sandbox.
    pub sandboxed: bool,
    /// Whether the run uses stored results and stores its own.
    pub mode: Mode,
    /// The trust tier of the run: it determines whose results the run uses, and which runs use its results.
    pub tier: Tier,
    /// The cache that this machine shares with others, if any.
    pub shared: Option<SharedCache>,
    /// The machine's variables, programs and artifacts.
    pub machine: Arc<dyn MachineContext>,
}
