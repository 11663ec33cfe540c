//! Repositories within the workspace beside its own: submodules, clones, fixtures.
//!
//! Whoever goes into one and calls git runs its hooks, so those that are there before a stage starts are reserved, and
//! those that a stage made are reported. What a stage has made once is its own: to reserve it would protect nothing, and
//! keep a build from updating what it has fetched. That is remembered by path and inode, so that a clone that a person
//! puts in its place is a person's again.
use stagewright_model::WorkspacePath;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::git::UserGit;
use super::{Claim, Identity, Reservations};

/// Repositories of one workspace that are reserved; each is some mounts for every sandbox.
const REPOSITORIES: usize = 1024;
/// Pipes of one workspace that are closed; each is a mount as well.
const PIPES: usize = 1024;
/// Folders that are looked into for one grant.
const FOLDERS: usize = 200_000;
/// Bytes of the record.
const RECORD: u64 = 4 << 20;
/// What a folder has, beside a `HEAD`, of which one is enough to take it for a repository without a working tree. Git asks for
/// more, and for something else with each format of references.
const BARE: [&str; 2] = ["commondir", "objects"];

/// A git directory, a file that leads to one, or a repository without a working tree.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Repository {
    /// Relative to the workspace; what of it isn't text is replaced.
    pub(crate) path: String,
    identity: Identity,
}

/// Those that were found, with their paths as they are.
type Found = BTreeMap<Repository, PathBuf>;

/// Why not all of them are known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SearchError {
    #[error("`{0}` holds more than {REPOSITORIES} git repositories")]
    TooMany(WorkspacePath),
    #[error("`{0}` holds more than {PIPES} named pipes")]
    TooManyPipes(WorkspacePath),
    #[error("`{0}` holds more than {FOLDERS} folders, too many to look for git repositories in")]
    TooLarge(WorkspacePath),
    #[error("what git runs in `{0}` can't be determined: {1}")]
    Unknown(String, io::Error),
    #[error("could not look for git repositories in `{path}`: {1}", path = .0.display())]
    Io(PathBuf, io::Error),
}

/// What is known of a workspace's nested repositories.
#[derive(Debug, Default)]
pub(crate) struct Nested {
    record: Option<PathBuf>,
    made: BTreeSet<Repository>,
    /// By grant, what was there when a stage of this process was first given it.
    before: BTreeMap<(PathBuf, WorkspacePath), Found>,
    /// Named pipes that were found on the same walk.
    pipes: BTreeMap<(PathBuf, WorkspacePath), Vec<WorkspacePath>>,
    /// What git runs and believes in those.
    claims: BTreeMap<Repository, Vec<Claim>>,
}

impl Nested {
    /// With what earlier processes noted. A record that can't be read is an empty one: more is reserved then.
    pub(super) fn remembered(record: Option<PathBuf>) -> Nested {
        let text = record.as_ref().and_then(|file| stagewright_files::read(file, RECORD).ok());
        let made = text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        Nested { record, made, ..Nested::default() }
    }

    /// What is to be reserved of those that people put into the folders, or around them.
    pub(crate) fn before(
        &mut self,
        workspace: &Path,
        folders: &[WorkspacePath],
        reserved: &Reservations,
        git: &UserGit,
    ) -> Result<Vec<Claim>, SearchError> {
        let mut there = Found::new();
        for folder in folders {
            let key = (workspace.to_owned(), folder.clone());
            if !self.before.contains_key(&key) {
                let Walked { repositories: mut found, pipes } = search(workspace, folder, reserved)?;
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

    /// What is to be reserved of those that a path lies in.
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
    ) -> Result<Vec<String>, SearchError> {
        let mut new = BTreeSet::new();
        for folder in folders {
            let found = search(workspace, folder, reserved)?.repositories;
            let known =
                |one: &Repository| self.made.contains(one) || self.before.values().any(|all| all.contains_key(one));
            new.extend(found.into_keys().filter(|one| !known(one)));
        }
        let paths = new.iter().map(|one| one.path.clone()).collect();
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
struct Walked {
    repositories: Found,
    pipes: Vec<WorkspacePath>,
}

/// Follows no link: what lies behind one is granted, if at all, by its own name.
fn search(workspace: &Path, folder: &WorkspacePath, reserved: &Reservations) -> Result<Walked, SearchError> {
    let top = if folder.is_root() { PathBuf::new() } else { folder.as_path().to_owned() };
    let (mut found, mut folders, mut seen) = (Walked::default(), vec![top], 0);
    while let Some(folder_now) = folders.pop() {
        seen += 1;
        if seen > FOLDERS {
            return Err(SearchError::TooLarge(folder.clone()));
        }
        let entries = match fs::read_dir(workspace.join(&folder_now)) {
            Ok(entries) => entries,
            // What vanished meanwhile, or is a file, holds none; what this user can't read, no program of theirs can.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => continue,
            // What no path can name was made by a stage, one folder in another, and isn't gone into by anyone else.
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
                // One without a name that is text can't be mounted over, nor granted by itself.
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

/// Those that the path lies in, but for the workspace's own.
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

fn repository(workspace: &Path, path: PathBuf) -> Option<(Repository, PathBuf)> {
    let identity = identity(&workspace.join(&path))?;
    Some((Repository { path: path.to_string_lossy().into_owned(), identity }, path))
}

fn identity(path: &Path) -> Option<Identity> {
    fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}
