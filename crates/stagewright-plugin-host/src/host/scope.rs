//! The state that the attempts of one run share.

use std::path::PathBuf;
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use stagewright_engine::AttemptRequest;

use super::config::{HostConfig, HostError};
use crate::error::{CapabilityError, ErrorCode};
use crate::mask::Masker;

/// A run's configuration, its opened workspace, and the secrets that its stages requested.
pub(crate) struct RunScope {
    pub(crate) config: HostConfig,
    root: Arc<Dir>,
    masker: Masker,
}

impl RunScope {
    /// Opens the workspace.
    pub(crate) fn open(config: HostConfig) -> Result<RunScope, HostError> {
        let root = Dir::open_ambient_dir(&config.workspace, ambient_authority()).map_err(|error| HostError {
            message: format!("could not open the workspace `{}`", config.workspace.display()),
            help: Some("run in a folder that exists and is readable".to_owned()),
            source: error.into(),
        })?;
        Ok(RunScope { config, root: Arc::new(root), masker: Masker::default() })
    }

    /// A masker for one attempt. It starts with every secret that any stage of the run has requested so far: one stage can
    /// leave a secret in a file, an output or an artifact, where a later stage reads it without ever requesting it.
    pub(crate) fn masker(&self) -> Masker {
        for value in self.config.secrets.known().into_iter().chain(self.config.credentials.known()) {
            self.masker.add_foreign(value);
        }
        self.masker.fork()
    }

    /// The folder whose files the attempt works on: the workspace, or a capture of it.
    pub(crate) fn files(&self, request: &AttemptRequest) -> Result<(PathBuf, Arc<Dir>), CapabilityError> {
        let Some(folder) = &request.folder else { return Ok((self.config.workspace.clone(), self.root.clone())) };
        let root = Dir::open_ambient_dir(folder, ambient_authority()).map_err(|error| {
            let message = format!("could not open the stage's files in `{}`: {error}", folder.display());
            CapabilityError::new(ErrorCode::Internal, message)
        })?;
        Ok((folder.clone(), Arc::new(root)))
    }
}
