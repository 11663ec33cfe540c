//! The repository that a run is for: its commit, and how the working tree differs from it.
//!
//! ```text
//! library (libgit2) ──┐
//!                     ├─ GitReader ── state, differences from a commit
//! program (`git`)   ──┘
//! ```
//!
//! libgit2 is tried first, since it needs no program and takes only a few milliseconds. It can't read every repository
//! (SHA-256, reftable, a split or sparse index), and doesn't run the filters of `.gitattributes`, so that a Git LFS
//! file can look modified. In these cases the `git` program is run in a sandbox. A repository that neither can read is
//! an error, because a run would otherwise record no commit and treat changed files as unchanged.

mod files;
mod history;
mod ignored;
mod library;
mod program;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use git2::{ObjectType, Oid};
use stagewright_engine::{GitState, RunSource, Trigger};
use stagewright_plugin_host::Commit;

use self::library::GitLibrary;
use self::program::GitProgram;
use crate::error::SessionError;
use crate::repository::Repository;

pub(crate) use files::check_directory;
pub(crate) use history::{history, web_address};
pub(crate) use ignored::IgnoreRules;

/// The state of a repository that has a commit.
#[derive(Debug, PartialEq)]
struct RepositoryState {
    commit: String,
    branch: Option<String>,
    tag: Option<String>,
    has_untracked: bool,
    /// Tracked files and submodules that differ from HEAD, with the [`content`] that they have now.
    changed: BTreeMap<PathBuf, String>,
    /// Whether the reader compares files exactly as git does. If not, some of the listed files may be unchanged.
    is_exact: bool,
}

/// Why a reader couldn't answer.
#[derive(Debug)]
enum Unanswered {
    /// This reader can't read the repository; the other one may be able to.
    Unreadable(String),
    /// The request is invalid, or the repository must not be read.
    Refused(SessionError),
}

impl From<git2::Error> for Unanswered {
    fn from(error: git2::Error) -> Unanswered {
        Unanswered::Unreadable(error.message().to_owned())
    }
}

impl From<SessionError> for Unanswered {
    fn from(error: SessionError) -> Unanswered {
        Unanswered::Refused(error)
    }
}

/// A way of reading a repository.
trait GitReader {
    /// None in a repository without a commit.
    fn state(&self) -> Result<Option<RepositoryState>, Unanswered>;

    /// The id of the commit that a revision names; none if it names none.
    fn commit(&self, revision: &str) -> Result<Option<String>, Unanswered>;

    /// The full name of the branch or tag that a short name stands for, as in `refs/remotes/origin/main`, also for
    /// `origin/HEAD`; none if it names none.
    fn reference(&self, name: &str) -> Result<Option<String>, Unanswered>;

    /// The newest common ancestor; none if the histories are unrelated.
    fn merge_base(&self, one: &str, other: &str) -> Result<Option<String>, Unanswered>;

    /// The files of the working tree that git doesn't ignore, tracked or not.
    fn files(&self) -> Result<BTreeSet<PathBuf>, Unanswered>;

    /// The differences between a commit and the working tree, including untracked files and submodules.
    fn differences(&self, commit: &str) -> Result<Differences, Unanswered>;

    /// The newest `most` commits that lead to `head` but not to `since`, none before one that it is a parent of.
    fn log(&self, head: &str, since: Option<&str>, most: usize) -> Result<Vec<Commit>, Unanswered>;

    /// Whether the repository lacks the commits before some of its own.
    fn is_shallow(&self) -> Result<bool, Unanswered>;

    /// The URL of the remote `origin`.
    fn remote(&self) -> Result<Option<String>, Unanswered>;
}

/// Reads the state of the repository. The values are empty outside a repository and without a commit.
///
/// # Errors
/// If the repository exists but can't be read.
pub(crate) fn read(repository: &Repository) -> Result<GitState, SessionError> {
    let is_exact = |state: &Option<RepositoryState>| state.as_ref().is_none_or(|state| state.is_exact);
    let state = ask(repository, |reader| reader.state(), is_exact)?.flatten();
    let Some(state) = state else { return Ok(GitState::default()) };
    Ok(GitState {
        short: state.commit.chars().take(12).collect(),
        commit: state.commit,
        branch: state.branch,
        tag: state.tag,
        dirty: state.has_untracked || !state.changed.is_empty(),
        changes: digest(&state.changed)?,
    })
}

/// The differences between a working tree and a commit. Paths are relative to the repository's root.
#[derive(Debug)]
pub(crate) struct Differences {
    /// The files that differ; for a renamed file, both names.
    pub(crate) paths: BTreeSet<PathBuf>,
    /// Submodules whose earlier commit is unknown, so that any file in them may differ.
    pub(crate) folders: BTreeSet<PathBuf>,
    /// See [`RepositoryState::is_exact`].
    is_exact: bool,
}

impl Differences {
    fn none() -> Differences {
        Differences { paths: BTreeSet::new(), folders: BTreeSet::new(), is_exact: true }
    }

    /// Adds those of a submodule.
    fn extend(&mut self, submodule: &Path, below: &Differences) {
        self.paths.extend(below.paths.iter().map(|path| submodule.join(path)));
        self.folders.extend(below.folders.iter().map(|path| submodule.join(path)));
        self.is_exact &= below.is_exact;
    }
}

/// The names of main branches, in the order in which they are tried.
const MAIN: [&str; 4] = ["origin/HEAD", "origin/main", "main", "master"];

/// The upstream branch of the one that is checked out.
const UPSTREAM: &str = "@{upstream}";

/// What to compare with.
#[derive(Clone, Debug)]
pub(crate) struct ComparisonBase {
    /// The option that compares, as in `--affected`.
    pub(crate) option: &'static str,
    /// The commit, branch or tag of `--base`; by default the main branch.
    pub(crate) name: Option<String>,
    /// Whether it is by default the upstream branch, if there is one.
    pub(crate) is_upstream: bool,
}

/// The changes, committed or not, since HEAD diverged from `base`. Also returns the commit as shown to people.
pub(crate) fn changes_since(
    repository: &Repository,
    base: &ComparisonBase,
) -> Result<(String, Differences), SessionError> {
    let option = base.option;
    let question = |reader: &dyn GitReader| {
        let head = reader.commit("HEAD")?.ok_or_else(|| {
            let message = format!("`{option}` needs a commit to compare with, but this branch has none");
            SessionError::invalid_request(message)
        })?;
        let (since, commit) = base_of(reader, &head, base)?;
        Ok((since, reader.differences(&commit)?))
    };
    let changes = ask(repository, question, |(_, found)| found.is_exact)?;
    changes.ok_or_else(|| {
        SessionError::invalid_request(format!("`{option}` needs a git repository"))
            .hint("leave it out to run every stage")
    })
}

/// The branch that `name` refers to, or by default the main branch, without its remote's name. None if it isn't a branch,
/// and without a main branch.
pub(crate) fn branch_name(repository: &Repository, name: Option<&str>) -> Result<Option<String>, SessionError> {
    let question = |reader: &dyn GitReader| {
        let main = || Ok::<_, Unanswered>(main_branch(reader)?.map(|(main, _)| main));
        match name.map_or_else(main, |name| Ok(Some(name)))? {
            Some(name) => reader.reference(name),
            None => Ok(None),
        }
    };
    let reference = ask(repository, question, |_| true)?.flatten();
    Ok(reference.as_deref().and_then(branch_of).map(str::to_owned))
}

/// The branch of a full reference: `main` for `refs/heads/main` and `refs/remotes/origin/main`.
fn branch_of(reference: &str) -> Option<&str> {
    let remote = || reference.strip_prefix("refs/remotes/")?.split_once('/').map(|(_, branch)| branch);
    reference.strip_prefix("refs/heads/").or_else(remote)
}

/// The full id of the commit where HEAD diverged from the main branch; none outside a repository, and without a main
/// branch.
pub(crate) fn base(repository: &Repository) -> Result<Option<String>, SessionError> {
    let question = |reader: &dyn GitReader| match (reader.commit("HEAD")?, main_branch(reader)?) {
        (Some(head), Some((_, main))) => reader.merge_base(&head, &main),
        _ => Ok(None),
    };
    Ok(ask(repository, question, |_| true)?.flatten())
}

/// The differences between the working tree and the commit with this id. None if there is no such commit.
pub(crate) fn changes_from(repository: &Repository, commit: &str) -> Result<Option<Differences>, SessionError> {
    let question = |reader: &dyn GitReader| match reader.commit(commit)? {
        Some(commit) => Ok(Some(reader.differences(&commit)?)),
        None => Ok(None),
    };
    let is_exact = |found: &Option<Differences>| found.as_ref().is_none_or(|found| found.is_exact);
    Ok(ask(repository, question, is_exact)?.flatten())
}

/// The files of the working tree that git doesn't ignore, tracked or not; none outside a repository.
pub(crate) fn files(repository: &Repository) -> Result<Option<BTreeSet<PathBuf>>, SessionError> {
    ask(repository, |reader| reader.files(), |_| true)
}

/// The commit to compare with, and its name for people.
fn base_of(reader: &dyn GitReader, head: &str, base: &ComparisonBase) -> Result<(String, String), Unanswered> {
    let upstream = if base.is_upstream { reader.commit(UPSTREAM)? } else { None };
    let (name, found) = match (&base.name, upstream) {
        (Some(name), _) => {
            let missing = || {
                SessionError::invalid_request(format!("`--base {name}` names no commit"))
                    .hint("list commits with `git log --oneline --all`, and branches with `git branch --all`")
            };
            (name.as_str(), reader.commit(name)?.ok_or_else(missing)?)
        }
        (None, Some(upstream)) => (UPSTREAM, upstream),
        (None, None) => main_branch(reader)?.ok_or_else(|| {
            SessionError::invalid_request("no main branch to compare with").hint("name a commit with `--base`")
        })?,
    };
    // Unrelated histories have no common ancestor: everything that differs counts as changed.
    let left = reader.merge_base(head, &found)?.unwrap_or(found);
    let short: String = left.chars().take(12).collect();
    Ok((format!("{name} ({short})"), left))
}

fn main_branch(reader: &dyn GitReader) -> Result<Option<(&'static str, String)>, Unanswered> {
    for name in MAIN {
        if let Some(commit) = reader.commit(name)? {
            return Ok(Some((name, commit)));
        }
    }
    Ok(None)
}

/// Reads with libgit2, or with the `git` program if libgit2 can't read the repository or its answer isn't exact. None
/// outside a repository.
fn ask<T>(
    repository: &Repository,
    question: impl Fn(&dyn GitReader) -> Result<T, Unanswered>,
    is_exact: impl Fn(&T) -> bool,
) -> Result<Option<T>, SessionError> {
    let opened = match GitLibrary::open(&repository.root) {
        Ok(None) => return Ok(None),
        Ok(Some(library)) => question(&library),
        Err(error) => Err(error),
    };
    let reason = match opened {
        Ok(answer) if is_exact(&answer) => return Ok(Some(answer)),
        // Without the program, use the inexact answer: it can list unchanged files, but doesn't miss changed ones.
        Ok(answer) => {
            let exact = GitProgram::open(repository).and_then(|program| question(&program));
            return Ok(Some(exact.unwrap_or(answer)));
        }
        Err(Unanswered::Refused(error)) => return Err(error),
        Err(Unanswered::Unreadable(reason)) => reason,
    };
    match GitProgram::open(repository).and_then(|program| question(&program)) {
        Ok(answer) => Ok(Some(answer)),
        Err(Unanswered::Refused(error)) => Err(error),
        Err(Unanswered::Unreadable(program)) => {
            let message = format!("can't read the git repository in {}; nothing was run", repository.root.display());
            let mut failed =
                SessionError::not_ready(message).hint("check the repository with `git status` and `git fsck`");
            failed.causes = vec![format!("libgit2: {reason}"), format!("git: {program}")];
            Err(failed)
        }
    }
}

/// The root of the working tree that contains `start`.
pub(crate) fn working_tree(start: &Path) -> Option<&Path> {
    // The same test as git's for whether a `.git` folder is a repository.
    let is_repository = |pointer: &Path| match pointer.symlink_metadata() {
        Ok(found) if found.is_file() => true,
        Ok(_) => ["HEAD", "objects", "refs"].iter().all(|name| pointer.join(name).symlink_metadata().is_ok()),
        Err(_) => false,
    };
    start.ancestors().find(|folder| is_repository(&folder.join(".git")))
}

/// The user's name in git's configuration.
pub(crate) fn user_name(root: &Path) -> Option<String> {
    let of_repository = library::open(root).and_then(|found| found.config());
    let config = of_repository.or_else(|_| {
        let mut config = git2::Config::open_default()?;
        let [_, common] = stagewright_plugin_host::git_directories(&root.join(".git"));
        // Without a repository configuration, the user's own is used.
        let _ = config.add_file(&common.join("config"), git2::ConfigLevel::Local, false);
        Ok::<_, git2::Error>(config)
    });
    let name = config.and_then(|mut config| config.snapshot()?.get_string("user.name")).ok()?;
    Some(name).filter(|name| !name.trim().is_empty())
}

/// The digest of changed files by path and content; empty if there are none.
fn digest(changed: &BTreeMap<PathBuf, String>) -> Result<String, SessionError> {
    if changed.is_empty() {
        return Ok(String::new());
    }
    let lines = changed.iter().map(|(path, content)| format!("{content} {}\n", path.display())).collect::<String>();
    hash(lines.as_bytes()).ok_or_else(|| SessionError::internal("can't compute the digest of the changed files"))
}

fn hash(bytes: &[u8]) -> Option<String> {
    Oid::hash_object(ObjectType::Blob, bytes).ok().map(|id| id.to_string())
}

/// The size in bytes up to which a changed file is read. A larger one, which can be a sparse file of any size, is
/// identified by its size and modification time.
const HASHED: u64 = 1 << 30;

/// Identifies what is at a path, which can be a link, or have become a pipe: its digest, with a trailing `x` if it is
/// executable, or `gone`.
fn content(path: &Path) -> String {
    let hashed = match std::fs::read_link(path) {
        Ok(target) => hash(target.as_os_str().as_encoded_bytes()),
        Err(_) => stagewright_files::open_unlinked(path).ok().and_then(|file| {
            let found = file.metadata().ok()?;
            let id = if found.len() > HASHED {
                hash(format!("{:?}", (found.len(), found.ino(), found.ctime(), found.ctime_nsec())).as_bytes())?
            } else {
                // Use the metadata of the opened file: another file may have its name by now.
                let opened = format!("/proc/self/fd/{}", file.as_raw_fd());
                Oid::hash_file(ObjectType::Blob, opened).ok()?.to_string()
            };
            Some(if found.permissions().mode() & 0o111 == 0 { id } else { id + "x" })
        }),
    };
    hashed.unwrap_or_else(|| "gone".to_owned())
}

/// The source of a run that a person starts: `manual`, on the tag or branch that is checked out.
pub(crate) fn source(git: &GitState, actor: &str) -> RunSource {
    let reference = match (&git.tag, &git.branch) {
        (Some(tag), _) => format!("refs/tags/{tag}"),
        (None, Some(branch)) => format!("refs/heads/{branch}"),
        (None, None) => String::new(),
    };
    let commit = git.commit.clone();
    let trigger = Trigger { name: "manual".to_owned(), reference, commit, actor: actor.to_owned() };
    RunSource { git: git.clone(), trigger, ..RunSource::default() }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn folder_with_an_empty_git_folder_is_not_a_working_tree() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("outer/.git")).unwrap();
        fs::create_dir_all(root.join("outer/a/.git/x")).unwrap();
        fs::create_dir_all(root.join("outer/a/linked/b")).unwrap();
        assert_eq!(working_tree(&root.join("outer/a")), None);
        fs::write(root.join("outer/.git/HEAD"), "").unwrap();
        assert_eq!(working_tree(&root.join("outer/a")), None);
        fs::create_dir(root.join("outer/.git/objects")).unwrap();
        fs::create_dir(root.join("outer/.git/refs")).unwrap();
        fs::write(root.join("outer/a/linked/.git"), "gitdir: x").unwrap();
        assert_eq!(working_tree(&root.join("outer/a")), Some(&*root.join("outer")));
        assert_eq!(working_tree(&root.join("outer/a/linked/b")), Some(&*root.join("outer/a/linked")));
    }

    #[test]
    fn a_change_of_mode_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "text").unwrap();
        let before = content(&file);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        assert_ne!(content(&file), before);
        assert_eq!(content(&folder.path().join("none")), "gone");
    }
}
