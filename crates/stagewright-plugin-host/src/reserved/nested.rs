//! Repositories within the workspace beside its own: submodules, clones, fixtures.
//!
//! Whoever goes into one and calls git runs its hooks, so those that are there before a stage starts are reserved, and
//! those that a stage made are reported. What a stage has made once is its own: to reserve it would protect nothing, and
//! keep a build from updating what it has fetched. That is remembered by path and inode, so that a clone that a person
//! puts in its place is a person's again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Identity, Reservations};
use crate::path::WorkspacePath;

/// Repositories of one workspace that are reserved; each is some mounts for every sandbox.
const REPOSITORIES: usize = 1024;
/// Pipes of one workspace that are closed; each is a mount as well.
const PIPES: usize = 1024;
/// Folders that are looked into for one grant.
const FOLDERS: usize = 200_000;
/// Bytes of the record.
const RECORD: u64 = 4 << 20;
/// What a folder has that git takes for a repository without a working tree.
const BARE: [&str; 3] = ["HEAD", "objects", "refs"];

/// A git directory, a file that leads to one, or a repository without a working tree.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Repository {
    /// Relative to the workspace.
    pub(crate) path: String,
    identity: Identity,
}

/// Why not all of them are known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SearchError {
    #[error("`{0}` holds more than {REPOSITORIES} git repositories")]
    TooMany(WorkspacePath),
    #[error("`{0}` holds more than {PIPES} named pipes")]
    TooManyPipes(WorkspacePath),
    #[error("`{0}` holds more than {FOLDERS} folders, too many to look for git repositories in")]
    TooLarge(WorkspacePath),
    #[error("could not look for git repositories in `{0}`: {1}")]
    Io(WorkspacePath, io::Error),
}

/// What is known of a workspace's nested repositories.
#[derive(Debug, Default)]
pub(crate) struct Nested {
    record: Option<PathBuf>,
    made: BTreeSet<Repository>,
    /// By grant, what was there when a stage of this process was first given it.
    before: BTreeMap<(PathBuf, WorkspacePath), BTreeSet<Repository>>,
    /// Named pipes that were found on the same walk.
    pipes: BTreeMap<(PathBuf, WorkspacePath), Vec<WorkspacePath>>,
}

impl Nested {
    /// With what earlier processes noted. A record that can't be read is an empty one: more is reserved then.
    pub(super) fn remembered(record: Option<PathBuf>) -> Nested {
        let text = record.as_ref().and_then(|file| stagewright_files::read(file, RECORD).ok());
        let made = text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        Nested { record, made, before: BTreeMap::new(), pipes: BTreeMap::new() }
    }

    /// Those in the folders that people put there, to be reserved.
    pub(crate) fn before(
        &mut self,
        workspace: &Path,
        folders: &[WorkspacePath],
        reserved: &Reservations,
    ) -> Result<Vec<WorkspacePath>, SearchError> {
        let mut there = BTreeSet::new();
        for folder in folders {
            let key = (workspace.to_owned(), folder.clone());
            if !self.before.contains_key(&key) {
                let Found { mut repositories, pipes } = search(workspace, folder, reserved)?;
                repositories.retain(|repository| !self.made.contains(repository));
                self.before.insert(key.clone(), repositories);
                self.pipes.insert(key.clone(), pipes);
            }
            there.extend(self.before[&key].iter().filter_map(|one| WorkspacePath::parse(&one.path).ok()));
        }
        if let Some(folder) = folders.first().filter(|_| there.len() > REPOSITORIES) {
            return Err(SearchError::TooMany(folder.clone()));
        }
        Ok(there.into_iter().collect())
    }

    /// Named pipes in folders that [`Nested::before`] was asked about, as they were then.
    pub(crate) fn pipes(&self, workspace: &Path, folders: &[WorkspacePath]) -> Result<Vec<WorkspacePath>, SearchError> {
        let of = |folder: &WorkspacePath| self.pipes.get(&(workspace.to_owned(), folder.clone()));
        let pipes = folders.iter().filter_map(of).flatten().cloned().collect::<Vec<_>>();
        match folders.first().filter(|_| pipes.len() > PIPES) {
            Some(folder) => Err(SearchError::TooManyPipes(folder.clone())),
            None => Ok(pipes),
        }
    }

    /// Those in the folders that have come since [`Nested::before`], each said once.
    pub(crate) fn after(
        &mut self,
        workspace: &Path,
        folders: &[WorkspacePath],
        reserved: &Reservations,
    ) -> Result<Vec<WorkspacePath>, SearchError> {
        let mut new = BTreeSet::new();
        for folder in folders {
            let found = search(workspace, folder, reserved)?.repositories;
            let known = |one: &Repository| self.made.contains(one) || self.before.values().any(|all| all.contains(one));
            new.extend(found.into_iter().filter(|one| !known(one)));
        }
        let paths = new.iter().filter_map(|one| WorkspacePath::parse(&one.path).ok()).collect();
        if !new.is_empty() {
            self.made.extend(new);
            // Without the record, a later run reserves what is a stage's own. That costs a build, and opens nothing.
            if let Err(error) = self.save(workspace) {
                tracing::warn!(%error, "which repositories stages made is not noted");
            }
        }
        Ok(paths)
    }

    /// Forgets what is gone.
    fn save(&mut self, workspace: &Path) -> io::Result<()> {
        let Some(record) = &self.record else { return Ok(()) };
        self.made.retain(|one| identity(&workspace.join(&one.path)) == Some(one.identity));
        let folder = record.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let draft = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer(&draft, &self.made)?;
        draft.persist(record)?;
        Ok(())
    }
}

/// What a walk finds.
#[derive(Default)]
struct Found {
    repositories: BTreeSet<Repository>,
    pipes: Vec<WorkspacePath>,
}

/// Follows no link: what lies behind one is granted, if at all, by its own name.
fn search(workspace: &Path, folder: &WorkspacePath, reserved: &Reservations) -> Result<Found, SearchError> {
    let (mut found, mut folders, mut seen) = (Found::default(), vec![folder.clone()], 0);
    while let Some(folder_now) = folders.pop() {
        seen += 1;
        if seen > FOLDERS {
            return Err(SearchError::TooLarge(folder.clone()));
        }
        let entries = match fs::read_dir(workspace.join(folder_now.as_path())) {
            Ok(entries) => entries,
            // What vanished meanwhile, or is a file, holds none; what this user can't read, no program of theirs can.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => continue,
            Err(error) => return Err(SearchError::Io(folder_now, error)),
        };
        let (mut below, mut bare) = (Vec::new(), 0);
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = folder_now.join(&name);
            bare += usize::from(BARE.contains(&name.as_str()));
            if reserved.over(&path).is_some() {
                continue;
            }
            let kind = entry.file_type();
            if name.eq_ignore_ascii_case(".git") {
                found.repositories.extend(repository(workspace, &path));
            } else if kind.as_ref().is_ok_and(fs::FileType::is_dir) {
                below.push(path);
            } else if kind.is_ok_and(|kind| kind.is_fifo()) && found.pipes.len() <= PIPES {
                found.pipes.push(path);
            }
        }
        if bare == BARE.len() && !folder_now.is_root() {
            found.repositories.extend(repository(workspace, &folder_now));
        } else {
            folders.append(&mut below);
        }
    }
    Ok(found)
}

fn repository(workspace: &Path, path: &WorkspacePath) -> Option<Repository> {
    let identity = identity(&workspace.join(path.as_path()))?;
    Some(Repository { path: path.shown().to_owned(), identity })
}

fn identity(path: &Path) -> Option<Identity> {
    fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}
