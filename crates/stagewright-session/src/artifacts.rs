//! The artifacts of a run: lists them, and saves one.

use std::path::PathBuf;

use stagewright_engine::RunId;
use stagewright_plugin_host::{ArtifactFolder, NamedArtifact, SaveRequest};

use crate::error::SessionError;
use crate::session::Session;

/// The artifacts of a run.
#[derive(Debug)]
pub struct ArtifactList {
    /// The run.
    pub run: RunId,
    /// Sorted by name.
    pub artifacts: Vec<NamedArtifact>,
}

/// An artifact to save.
#[derive(Clone, Debug)]
pub struct ArtifactRequest {
    /// The run: its id, a unique prefix of its id, or `latest`.
    pub run: String,
    /// The artifact's name.
    pub name: String,
    /// The file or folder to make, relative to the current folder; none for the artifact's name.
    pub to: Option<PathBuf>,
    /// Whether to replace what is there.
    pub force: bool,
}

/// An artifact that was saved.
#[derive(Debug)]
pub struct SavedArtifact {
    /// The run.
    pub run: RunId,
    /// The artifact.
    pub artifact: NamedArtifact,
    /// Where it is: the path of the request, or the artifact's name.
    pub path: PathBuf,
}

impl Session {
    /// The artifacts that the stages of a run have published. `run` is its id, a unique prefix of its id, or `latest`.
    ///
    /// # Errors
    /// If the run doesn't exist, or a record can't be read.
    pub fn artifacts(&self, run: &str) -> Result<ArtifactList, SessionError> {
        let run = self.read_only_store()?.find(run)?;
        let unreadable =
            |error| SessionError::internal(format!("can't read the artifacts of run {run}")).caused_by(error);
        let mut artifacts = self.artifact_folder().all(&run).map_err(unreadable)?;
        artifacts.sort_by(|one, other| one.published.name.cmp(&other.published.name));
        Ok(ArtifactList { run, artifacts })
    }

    /// Writes an artifact to a file, or the files of a folder into a new folder.
    ///
    /// # Errors
    /// If the run or the artifact doesn't exist, or something is at its path already.
    pub fn save_artifact(&self, request: &ArtifactRequest) -> Result<SavedArtifact, SessionError> {
        let ArtifactRequest { run, name, to, force } = request;
        let run = self.read_only_store()?.find(run)?;
        let path = to.clone().unwrap_or_else(|| PathBuf::from(name));
        let to = self.repository.current.join(&path);
        let request = SaveRequest { run: &run, name, to: &to, force: *force, workspace: &self.repository.root };
        let artifact = self.artifact_folder().save(&request).map_err(|error| {
            let failed = SessionError::not_ready(error.message).details(error.causes);
            match error.help {
                Some(help) => failed.hint(help),
                None => failed.hint(format!("list its artifacts with `stagewright artifacts {run}`")),
            }
        })?;
        Ok(SavedArtifact { run, artifact, path })
    }

    pub(crate) fn artifact_folder(&self) -> ArtifactFolder {
        ArtifactFolder { root: self.repository.artifacts() }
    }
}
