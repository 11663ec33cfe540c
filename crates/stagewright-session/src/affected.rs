//! `--affected`: the stages whose files have changed since a commit.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use stagewright_cache::Globs;
use stagewright_model::{PathPattern, Plan, PluginRef, Stage, StageIndex, WorkspacePath};

use crate::blocking::blocking;
use crate::error::SessionError;
use crate::git::{self, Differences};
use crate::repository::PipelineFile;
use crate::session::Session;

/// The changes since a commit.
#[derive(Debug)]
pub(crate) struct AffectedFiles {
    /// The commit, as shown to people.
    pub(crate) since: String,
    differences: Differences,
}

/// Determines the changes since `base`, committed or not.
pub(crate) async fn changes(session: &Session, base: Option<&str>) -> Result<AffectedFiles, SessionError> {
    let (repository, base) = (Arc::clone(&session.repository), base.map(str::to_owned));
    blocking(move || {
        let (since, differences) = git::changes_since(&repository, base.as_deref())?;
        Ok(AffectedFiles { since, differences })
    })
    .await
}

impl AffectedFiles {
    /// The stages whose own files have changed.
    pub(crate) fn stages(&self, plan: &Plan, file: &PipelineFile) -> Result<BTreeSet<StageIndex>, SessionError> {
        let Differences { paths, folders, .. } = &self.differences;
        if paths.contains(Path::new(&file.name)) {
            return Ok(plan.indices().collect());
        }
        let mut touched = BTreeSet::new();
        for index in plan.indices() {
            let stage = plan.stage(index);
            let globs = Globs::new(&files_of(stage)).map_err(|error| {
                SessionError::internal(format!("invalid globs of stage `{}`", stage.id)).caused_by(error)
            })?;
            let is_named = paths.iter().any(|path| globs.name(&path.to_string_lossy()));
            if is_named || folders.iter().any(|folder| globs.reach_into(&folder.to_string_lossy())) {
                touched.insert(index);
            }
        }
        Ok(touched)
    }
}

/// The files of a stage: its inputs, or everything that it may read and write if it declares none, and its plugin if
/// that is a file of the repository.
fn files_of(stage: &Stage) -> Vec<PathPattern> {
    let permissions = &stage.permissions;
    let own = match stage.inputs.is_empty() {
        true => [permissions.read_only(), permissions.writable()].concat(),
        false => stage.inputs.clone(),
    };
    own.into_iter().chain(plugin_file(stage)).collect()
}

/// The plugin of a stage, if that is a file of the repository.
pub(crate) fn plugin_file(stage: &Stage) -> Option<PathPattern> {
    match &stage.uses {
        PluginRef::Path(path) => WorkspacePath::parse(path).ok().map(|path| PathPattern::literally(&path)),
        PluginRef::Builtin(_) | PluginRef::Oci(_) => None,
    }
}
