//! The configuration of sandboxes.

use std::path::PathBuf;
use std::sync::Arc;

use stagewright_process::sandbox;

use super::copies::MachineCopies;

/// Where sandboxes are made; of one machine and workspace.
#[derive(Clone, Debug)]
pub struct SandboxConfig {
    /// Makes sandboxes.
    pub maker: sandbox::Maker,
    /// Folders of single attempts: their home and their `/tmp`.
    pub scratch: PathBuf,
    /// Download caches, by [`StageOwner`](super::StageOwner) and stage.
    pub kept: PathBuf,
    pub(super) copies: Arc<MachineCopies>,
}

impl SandboxConfig {
    /// See the fields.
    pub fn new(maker: sandbox::Maker, scratch: PathBuf, kept: PathBuf) -> SandboxConfig {
        SandboxConfig { maker, scratch, kept, copies: Arc::default() }
    }
}
