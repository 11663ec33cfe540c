//! Git repositories in the workspace other than its own: submodules, clones, fixtures.
//!
//! Calling git in one of them runs its hooks. So repositories that exist before a stage starts are reserved, and those that
//! a stage creates are reported. A repository that a stage created isn't reserved later: that would protect nothing, and
//! keep a build from updating what it fetched. Such repositories are recorded by path and inode, so that a clone that the
//! user puts in place of one is reserved again.
use stagewright_model::WorkspacePath;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::git::UserGit;
use super::{Claim, Identity, Reservations};

/// The most reserved repositories in the granted folders; each takes several mounts in every sandbox.
const REPOSITORIES: usize = 1024;
/// The most named pipes that are covered; each takes a mount.
const PIPES: usize = 1024;
/// The most folders that are searched for one grant.
const FOLDERS: usize = 200_000;
/// The most bytes of the record.
const RECORD: u64 = 4 << 20;
/// A folder with a `HEAD` and one of these counts as a bare repository. Git requires more, but its requirements differ
/// between formats of references.
const BARE: [&str; 2] = ["commondir", "objects"];

/// A git directory, a file that leads to one, or a bare repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct NestedRepository {
    /// Relative to the workspace, with invalid UTF-8 replaced.
    pub(crate) path: String,
    identity: Identity,
}

/// Repositories with their exact paths.
type Found = BTreeMap<NestedRepository, PathBuf>;

/// Why a search failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SearchError {
    #[error("`{0}` contains more than {REPOSITORIES} git repositories")]
    TooMany(WorkspacePath),
    #[error("`{0}` contains more than {PIPES} named pipes")]
    TooManyPipes(WorkspacePath),
    #[error("`{0}` contains more than {FOLDERS} folders, too many to search for git repositories")]
    TooLarge(WorkspacePath),
    #[error("could not determine what git runs in `{0}`: {1}")]
    Unknown(String, io::Error),
    #[error("could not look for git repositories in `{path}`: {1}", path = .0.display())]
    Io(PathBuf, io::Error),
}

/// The nested repositories of a workspace.
#[derive(Debug, Default)]
pub(crate) struct NestedRepositories {
    record: Option<PathBuf>,
    /// Repositories that stages created.
    made: BTreeSet<NestedRepository>,
    /// For each granted folder, the repositories that existed when a stage of this process was first granted it.
    before: BTreeMap<(PathBuf, WorkspacePath), Found>,
    /// Named pipes that were found by the same search.
    pipes: BTreeMap<(PathBuf, WorkspacePath), Vec<WorkspacePath>>,
    /// What git executes or trusts in each repository.
    claims: BTreeMap<NestedRepository, Vec<Claim>>,
}

impl NestedRepositories {
    /// Reads the record of earlier processes. An unreadable record counts as empty, which only reserves more.
    pub(super) fn remembered(record: Option<PathBuf>) -> NestedRepositories {
        let text = record.as_ref().and_then(|file| stagewright_files::read(file, RECORD).ok());
        let made = text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        NestedRepositories { record, made, ..NestedRepositories::default() }
    }

    /// The claims of repositories in or around the folders that no stage created.
    pub(crate) fn before(
        &mut self,
        workspace: &Path,
        folders: &[WorkspacePath],
        reserved: &Reservations,
        git: &UserGit,
    ) -> Result<Vec<Claim>, SearchError> {
        let mut there = Found::new();
        for folder in folders {
            // Searched only when a folder is granted for the first time in this process. A repository that appears later was
            // created while a stage ran, and searching again before the next stage would take it for the user's.
            let key = (workspace.to_owned(), folder.clone());
            if !self.before.contains_key(&key) {
                let SearchResult { repositories: mut found, pipes } = search(workspace, folder, reserved)?;
                found.extend(around(workspace, folder, reserved));
                found.retain(|repository, _| !self.made.contains(repository));
                self.before.insert(key.clone(), found);
                self.pipes.insert(key.clone(), pipes);
            }
            there.extend(self.before[&key].clone());
        }
        if let Some(folder) = folders.first().filter(|_| there.len() > REPOSITORIES) {
            return Err(SearchError::TooMany(folder.clone()));
        }
        self.claims(workspace, there, git)
    }

    /// The claims of repositories around a path that no stage created.
    pub(super) fn around(
        &mut self,
        workspace: &Path,
        path: &WorkspacePath,
        reserved: &Reservations,
        git: &UserGit,
    ) -> Result<Vec<Claim>, SearchError> {
        let mut found = around(workspace, path, reserved);
        found.retain(|repository, _| !self.made.contains(repository));
        self.claims(workspace, found, git)
    }

    fn claims(&mut self, workspace: &Path, found: Found, git: &UserGit) -> Result<Vec<Claim>, SearchError> {
        let mut claims = Vec::new();
        for (repository, path) in found {
            if !self.claims.contains_key(&repository) {
                let named = git.repository(workspace, &workspace.join(&path));
                let named = named.map_err(|error| SearchError::Unknown(repository.path.clone(), error))?;
                self.claims.insert(repository.clone(), named);
            }
            claims.extend(self.claims[&repository].iter().cloned());
        }
        Ok(claims)
    }

    /// The named pipes that [`NestedRepositories::before`] found in the folders.
    pub(crate) fn pipes(&self, workspace: &Path, folders: &[WorkspacePath]) -> Result<Vec<WorkspacePath>, SearchError> {
        let of = |folder: &WorkspacePath| self.pipes.get(&(workspace.to_owned(), folder.clone()));
        let pipes = folders.iter().filter_map(of).flatten().cloned().collect::<Vec<_>>();
        match folders.first().filter(|_| pipes.len() > PIPES) {
            Some(folder) => Err(SearchError::TooManyPipes(folder.clone())),
            None => Ok(pipes),
        }
    }

    /// The repositories that were created in the folders since [`NestedRepositories::before`], each returned once.
    pub(crate) fn after(
        &mut self,
        workspace: &Path,
        folders: &[WorkspacePath],
        reserved: &Reservations,
    ) -> Result<Vec<String>, SearchError> {
        let mut new = BTreeSet::new();
        for folder in folders {
            let found = search(workspace, folder, reserved)?.repositories;
            let is_known = |repository: &NestedRepository| {
                self.made.contains(repository) || self.before.values().any(|found| found.contains_key(repository))
            };
            new.extend(found.into_keys().filter(|repository| !is_known(repository)));
        }
        let paths = new.iter().map(|repository| repository.path.clone()).collect();
        if !new.is_empty() {
            self.made.extend(new);
            // Without the record, a later run reserves the repositories that stages created. A build may fail because of
            // that, but nothing is opened.
            if let Err(error) = self.save(workspace) {
                tracing::warn!(%error, "could not record the git repositories that stages created");
            }
        }
        Ok(paths)
    }

    /// Writes the record, without repositories that don't exist any more.
    fn save(&mut self, workspace: &Path) -> io::Result<()> {
        let Some(record) = &self.record else { return Ok(()) };
        self.made.retain(|repository| identity(&workspace.join(&repository.path)) == Some(repository.identity));
        let folder = record.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let draft = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer(&draft, &self.made)?;
        draft.persist(record)?;
        Ok(())
    }
}

/// The result of a search.
#[derive(Default)]
struct SearchResult {
    repositories: Found,
    pipes: Vec<WorkspacePath>,
}

/// Searches a folder without following links, since the target of a link has to be granted by its own name.
fn search(workspace: &Path, folder: &WorkspacePath, reserved: &Reservations) -> Result<SearchResult, SearchError> {
    let top = if folder.is_root() { PathBuf::new() } else { folder.as_path().to_owned() };
    let (mut found, mut folders, mut seen) = (SearchResult::default(), vec![top], 0);
    while let Some(folder_now) = folders.pop() {
        seen += 1;
        if seen > FOLDERS {
            return Err(SearchError::TooLarge(folder.clone()));
        }
        let entries = match fs::read_dir(workspace.join(&folder_now)) {
            Ok(entries) => entries,
            // Removed meanwhile, or a file.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
            // A program of this user can't read it either.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => continue,
            // Longer than any path can be: only a stage nests folders that deep, and no user works in one.
            Err(error) if error.kind() == io::ErrorKind::InvalidFilename => continue,
            Err(error) => return Err(SearchError::Io(folder_now, error)),
        };
        let (mut below, mut has_head, mut is_bare) = (Vec::new(), false, false);
        for entry in entries.flatten() {
            let name = entry.file_name();
            let path = folder_now.join(&name);
            has_head |= name == "HEAD";
            is_bare |= BARE.iter().any(|known| name == *known);
            if is_reserved(&path, reserved) {
                continue;
            }
            let kind = entry.file_type();
            if name.eq_ignore_ascii_case(".git") {
                found.repositories.extend(repository(workspace, path));
            } else if kind.as_ref().is_ok_and(fs::FileType::is_dir) {
                below.push(path);
            } else if kind.is_ok_and(|kind| kind.is_fifo()) && found.pipes.len() <= PIPES {
                // A pipe whose name isn't UTF-8 can neither be covered nor be granted by name.
                found.pipes.extend(path.to_str().and_then(|path| WorkspacePath::parse(path).ok()));
            }
        }
        if has_head && is_bare && folder_now != Path::new("") {
            found.repositories.extend(repository(workspace, folder_now));
        } else {
            folders.append(&mut below);
        }
    }
    Ok(found)
}

/// The repositories that contain the path, except for the workspace's own.
fn around(workspace: &Path, path: &WorkspacePath, reserved: &Reservations) -> Found {
    let above = std::iter::successors(path.parent(), WorkspacePath::parent).filter(|above| !above.is_root());
    let mut found = Found::new();
    for above in above.filter(|above| reserved.over(above).is_none()) {
        let path = above.as_path().to_owned();
        let has = |name: &str| workspace.join(&path).join(name).symlink_metadata().is_ok();
        let is_bare = has("HEAD") && BARE.into_iter().any(has);
        let named = path.join(".git");
        found.extend(
            repository(workspace, named).into_iter().chain(is_bare.then(|| repository(workspace, path)).flatten()),
        );
    }
    found
}

fn is_reserved(path: &Path, reserved: &Reservations) -> bool {
    let path = path.to_str().and_then(|text| WorkspacePath::parse(text).ok());
    path.is_some_and(|path| reserved.over(&path).is_some())
}

fn repository(workspace: &Path, path: PathBuf) -> Option<(NestedRepository, PathBuf)> {
    let identity = identity(&workspace.join(&path))?;
    Some((NestedRepository { path: path.to_string_lossy().into_owned(), identity }, path))
}

fn identity(path: &Path) -> Option<Identity> {
    fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}
