//! The changes of the working tree and the history behind it, as plugins ask for them.

use std::collections::BTreeSet;
use std::sync::Arc;

use stagewright_plugin_host::{ChangeSource, ChangesUnknown, History};

use crate::error::SessionError;
use crate::git::{self, Differences};
use crate::repository::Repository;

/// The working tree of a repository.
pub(crate) struct RepositoryChanges(pub(crate) Arc<Repository>);

impl ChangeSource for RepositoryChanges {
    fn changed_files(&self, commit: &str) -> Result<BTreeSet<String>, ChangesUnknown> {
        let changes = git::changes_from(&self.0, commit).map_err(unknown)?;
        let Differences { paths, folders, .. } = changes.ok_or_else(|| ChangesUnknown {
            message: format!("the repository has no commit {commit}"),
            help: Some("a shallow clone lacks older commits: fetch them with `git fetch --unshallow`".to_owned()),
        })?;
        // A plugin can't name a path that isn't UTF-8.
        Ok(paths.into_iter().chain(folders).filter_map(|path| path.into_os_string().into_string().ok()).collect())
    }
    fn commits(&self, head: &str, since: Option<&str>, most: usize) -> Result<History, ChangesUnknown> {
        git::history(&self.0, head, since, most).map_err(unknown)
    }

    fn repository(&self) -> Result<Option<String>, ChangesUnknown> {
        git::web_address(&self.0).map_err(unknown)
    }
}

fn unknown(error: SessionError) -> ChangesUnknown {
    ChangesUnknown {
        message: [error.message].into_iter().chain(error.causes).collect::<Vec<_>>().join(": "),
        help: error.hints.into_iter().next(),
    }
}
