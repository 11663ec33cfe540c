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

/// What has changed.
#[derive(Debug)]
pub(crate) struct Changes {
    /// The commit, as people write it.
    pub(crate) since: String,
    differences: Differences,
}

/// Looks at all commits since `base`, and at what isn't committed.
pub(crate) async fn changes(session: &Session, base: Option<&str>) -> Result<Changes, SessionError> {
    let (repository, base) = (Arc::clone(&session.repository), base.map(str::to_owned));
    blocking(move || {
        let (since, differences) = git::changes_since(&repository, base.as_deref())?;
        Ok(Changes { since, differences })
    })
    .await
}

impl Changes {
    /// The stages whose own files are among them.
    pub(crate) fn stages(&self, plan: &Plan, file: &PipelineFile) -> Result<BTreeSet<StageIndex>, SessionError> {
        let Differences { paths, folders, .. } = &self.differences;
        if paths.contains(Path::new(&file.name)) {
            return Ok(plan.indices().collect());
        }
        let mut touched = BTreeSet::new();
        for index in plan.indices() {
            let stage = plan.stage(index);
            let globs = Globs::new(&files_of(stage)).map_err(|error| {
                SessionError::internal(format!("the globs of `{}` mean nothing", stage.id)).caused_by(error)
            })?;
            let is_named = paths.iter().any(|path| globs.name(&path.to_string_lossy()));
            if is_named || folders.iter().any(|folder| globs.reach_into(&folder.to_string_lossy())) {
                touched.insert(index);
            }
        }
        Ok(touched)
    }
}

/// Its inputs, or all that it may read and write; and its plugin, where that is a file of the repository.
fn files_of(stage: &Stage) -> Vec<PathPattern> {
    let permissions = &stage.permissions;
    let own = match stage.inputs.is_empty() {
        true => [permissions.read_only(), permissions.writable()].concat(),
        false => stage.inputs.clone(),
    };
    let plugin = match &stage.uses {
        PluginRef::Path(path) => WorkspacePath::parse(path).ok().map(|path| PathPattern::literally(&path)),
        PluginRef::Builtin(_) | PluginRef::Oci(_) => None,
    };
    own.into_iter().chain(plugin).collect()
}
