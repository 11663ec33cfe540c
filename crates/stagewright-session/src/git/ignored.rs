//! What git ignores.

use std::path::{Path, PathBuf};

use git2::Repository;

use super::{files, library, working_tree};
use crate::error::SessionError;

/// The rules of the repository's `.gitignore` files and of its own configuration.
pub(crate) struct IgnoreRules {
    root: PathBuf,
    /// None outside of a repository, where nothing is ignored.
    repository: Option<Repository>,
}

impl IgnoreRules {
    /// Opens the rules of the repository around `root`.
    ///
    /// # Errors
    /// If git would hang on something in its directory.
    pub(crate) fn open(root: &Path) -> Result<IgnoreRules, SessionError> {
        let repository = match working_tree(root) {
            Some(top) => {
                files::check_directory(top)?;
                library::open(top).ok()
            }
            None => None,
        };
        Ok(IgnoreRules { root: root.to_owned(), repository })
    }

    /// Whether git tracks a file below the root, or would add it to a commit. False outside of a repository.
    pub(crate) fn adds(&self, path: &str) -> bool {
        self.repository.as_ref().is_some_and(|repository| !self.ignores(path) || self.tracks(repository, path))
    }

    /// A tracked file stays tracked, whatever `.gitignore` says.
    fn tracks(&self, repository: &Repository, path: &str) -> bool {
        let path = self.root.join(path);
        let below = repository.workdir().and_then(|top| path.strip_prefix(top).ok());
        let index = repository.index().ok();
        below.zip(index).is_some_and(|(path, index)| index.get_path(path, 0).is_some())
    }

    /// Whether git ignores a path below the root. False if that can't be determined.
    pub(crate) fn ignores(&self, path: &str) -> bool {
        let Some(repository) = &self.repository else { return false };
        let path = self.root.join(path);
        // libgit2 opens these files by name, and a stage can leave a pipe in their place.
        let mut folders = path.ancestors().skip(1).take_while(|folder| folder.starts_with(&self.root));
        let is_readable = |folder: &Path| {
            let found = folder.join(".gitignore").symlink_metadata();
            found.map_or(true, |found| found.is_file())
        };
        let top = repository.workdir().and_then(|top| path.strip_prefix(top).ok());
        folders.all(is_readable) && top.is_some_and(|path| repository.is_path_ignored(path).unwrap_or(false))
    }
}
