//! What a cache has to know of the machine and of the run.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stagewright_engine::{Artifact, RunId};
use stagewright_model::Permissions;

use crate::shared::SharedCache;
use crate::tier::Tier;

/// What of the machine a result depends on, and where its artifacts are.
pub trait MachineContext: Send + Sync {
    /// Variables that the stage's programs inherit, and that can matter to them.
    fn variables(&self, permissions: &Permissions) -> BTreeMap<String, String>;
    /// Programs and toolchains that they can start: files, and folders with programs in `bin`.
    fn tools(&self, permissions: &Permissions, env: &BTreeMap<String, String>) -> Vec<PathBuf>;
    /// All that was published in the run so far.
    ///
    /// # Errors
    /// When it can't be read.
    fn published(&self, run: &RunId) -> io::Result<Vec<Artifact>>;
    /// Where an artifact's content is.
    fn content(&self, digest: &str) -> PathBuf;
    /// Publishes what `content` holds, for the stage of the run.
    ///
    /// # Errors
    /// When it can't be written, or `content` is something else.
    fn publish(&self, run: &RunId, stage: &str, artifact: &Artifact, content: &Path) -> io::Result<()>;
    /// Says of paths of the workspace why nothing may be put there, if nothing may.
    ///
    /// # Errors
    /// When what is reserved can't be determined.
    fn guard(&self) -> io::Result<Guard>;
}

/// See [`MachineContext::guard`].
pub type Guard = Box<dyn Fn(&str) -> Option<String> + Send>;

/// How a run uses the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Results are taken and kept.
    #[default]
    Use,
    /// Results are taken, and none is kept.
    Read,
    /// None is taken: all is done anew, and kept.
    Refresh,
    /// Neither.
    Off,
}

/// What a [`Caching`](crate::Caching) is made from.
pub struct CacheConfig {
    /// The folder of results.
    pub root: PathBuf,
    /// The pipeline file, relative to the workspace: stages of one name in two files are two.
    pub file: String,
    /// The workspace.
    pub workspace: PathBuf,
    /// Paths of it that belong to the engine.
    pub reserved: Vec<String>,
    /// Whether the stages' programs are confined.
    pub sandboxed: bool,
    /// How it is used.
    pub mode: Mode,
    /// Whose results the run takes, and who takes its own.
    pub tier: Tier,
    /// Where other machines' results are.
    pub shared: Option<SharedCache>,
    /// The rest.
    pub machine: Arc<dyn MachineContext>,
}
