//! The state of the caching runner, shared by the modules that implement it.

use std::sync::Arc;

use stagewright_engine::{AttemptRequest, StageRunner};

use crate::config::CacheConfig;
use crate::index::FileIndex;
use crate::published::Published;
use crate::scan::WorkspaceScan;
use crate::store::ResultStore;
use crate::tools::ToolDigests;

pub(crate) struct CacheRunner {
    pub(crate) config: CacheConfig,
    pub(crate) store: ResultStore,
    pub(crate) index: FileIndex,
    pub(crate) tools: ToolDigests,
    pub(crate) published: Published,
    /// Runs the stages whose results aren't in the cache.
    pub(crate) work: Arc<dyn StageRunner>,
}

impl CacheRunner {
    /// `reserved`: paths that are excluded from inputs and outputs.
    pub(crate) fn workspace<'a>(&'a self, reserved: &'a [String]) -> WorkspaceScan<'a> {
        WorkspaceScan { root: &self.config.workspace, reserved, index: &self.index }
    }
}

/// The names of the stages that the request needs directly.
pub(crate) fn needs_of(request: &AttemptRequest) -> Vec<String> {
    request.needs.iter().map(|need| need.stage.clone()).collect()
}
