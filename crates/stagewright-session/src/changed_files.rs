//! The files that have changed since a commit: which stages they affect, and whether an event counts them.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use stagewright_cache::Globs;
use stagewright_model::{PathFilter, PathPattern, Plan, PluginRef, Stage, StageIndex, WorkspacePath, count};

use crate::blocking::blocking;
use crate::error::SessionError;
use crate::git::{self, ComparisonBase, Differences};
use crate::repository::PipelineFile;
use crate::session::Session;

/// The changes since a commit, committed or not.
#[derive(Debug)]
pub(crate) struct ChangedFiles {
    /// The commit, as shown to people.
    pub(crate) since: String,
    differences: Differences,
}

/// Determines the changes since `base`.
pub(crate) async fn since(session: &Session, base: ComparisonBase) -> Result<ChangedFiles, SessionError> {
    let repository = Arc::clone(&session.repository);
    blocking(move || {
        let (since, differences) = git::changes_since(&repository, &base)?;
        Ok(ChangedFiles { since, differences })
    })
    .await
}

impl ChangedFiles {
    /// The stages whose own files have changed.
    pub(crate) fn stages(&self, plan: &Plan, file: &PipelineFile) -> Result<BTreeSet<StageIndex>, SessionError> {
        let Differences { paths, folders, .. } = &self.differences;
        if paths.contains(Path::new(&file.name)) {
            return Ok(plan.indices().collect());
        }
        let mut touched = BTreeSet::new();
        for index in plan.indices() {
            let globs = compiled(&files_of(plan.stage(index)))?;
            let is_named = paths.iter().any(|path| globs.name(&path.to_string_lossy()));
            if is_named || folders.iter().any(|folder| globs.reach_into(&folder.to_string_lossy())) {
                touched.insert(index);
            }
        }
        Ok(touched)
    }

    /// Why no change counts by the filter of `on.EVENT`; none if one does.
    pub(crate) fn ignored_by(&self, event: &str, filter: &PathFilter) -> Result<Option<String>, SessionError> {
        let Differences { paths, folders, .. } = &self.differences;
        let (listed, ignored) = (compiled(&filter.paths)?, compiled(&filter.ignored)?);
        let is_any = filter.paths.is_empty();
        let counts = |path: &Path| {
            let path = path.to_string_lossy();
            (is_any || listed.matches(&path)) && !ignored.matches(&path)
        };
        let may_count = |folder: &Path| {
            let folder = folder.to_string_lossy();
            (is_any || listed.reach_into(&folder)) && !ignored.matches(&folder)
        };
        if paths.iter().any(|path| counts(path)) || folders.iter().any(|folder| may_count(folder)) {
            return Ok(None);
        }
        let changed = match paths.len() + folders.len() {
            0 => return Ok(Some(format!("nothing has changed since {}", self.since))),
            files => format!("the {} changed since {}", count(files, "file"), self.since),
        };
        Ok(Some(match (is_any, filter.ignored.is_empty()) {
            (true, _) => format!("`on.{event}.paths-ignore` matches {changed}"),
            (false, true) => format!("`on.{event}.paths` doesn't match {changed}"),
            (false, false) => format!("`on.{event}.paths` without `paths-ignore` doesn't match {changed}"),
        }))
    }
}

fn compiled(patterns: &[PathPattern]) -> Result<Globs, SessionError> {
    Globs::new(patterns).map_err(|error| SessionError::internal("can't compile the pipeline's globs").caused_by(error))
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
