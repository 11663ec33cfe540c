//! The configuration of sandboxes.

use std::path::PathBuf;
use std::sync::Arc;

use stagewright_process::sandbox;

use super::copies::MachineCopies;

/// How and where the sandboxes of a workspace are created.
#[derive(Clone, Debug)]
pub struct SandboxConfig {
    /// Creates sandboxes.
    pub maker: sandbox::Maker,
    /// The parent of the folders of single attempts, which hold their home and their `/tmp`.
    pub scratch: PathBuf,
    /// Download caches, by [`StageOwner`](super::StageOwner) and stage.
    pub kept: PathBuf,
    pub(super) copies: Arc<MachineCopies>,
}

impl SandboxConfig {
    /// The parameters are the fields of the same names.
    pub fn new(maker: sandbox::Maker, scratch: PathBuf, kept: PathBuf) -> SandboxConfig {
        SandboxConfig { maker, scratch, kept, copies: Arc::default() }
    }
}
