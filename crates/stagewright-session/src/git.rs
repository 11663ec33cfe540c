//! The repository that a run is of: its commit, and how the working tree differs from it.
//!
//! ```text
//! library (libgit2) ──┐
//!                     ├─ Reader ── state, differences from a commit
//! program (`git`)   ──┘
//! ```
//!
//! libgit2 is asked first: it needs no program, and answers in a few milliseconds. It can't read every repository
//! (SHA-256, reftable, a split or sparse index), and doesn't run the filters of `.gitattributes`, so that a file of Git
//! LFS can look modified to it. In these cases the `git` program is asked, in a sandbox. A repository that neither can
//! read is an error: a run that went on would record no commit, and take changed files for unchanged.

mod files;
mod library;
mod program;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use git2::{ObjectType, Oid};
use stagewright_engine::{GitState, RunSource, Trigger};

use self::library::Library;
use self::program::Program;
use crate::error::SessionError;
use crate::repository::Repository;

pub(crate) use files::check_directory;

/// What a reader finds in a repository that has a commit.
#[derive(Debug, PartialEq)]
struct State {
    commit: String,
    branch: Option<String>,
    tag: Option<String>,
    has_untracked: bool,
    /// Tracked files and submodules that differ from HEAD, with the [`content`] that they have now.
    changed: BTreeMap<PathBuf, String>,
    /// Whether the reader compares files as git does. When it doesn't, some that are listed may be unchanged.
    is_exact: bool,
}

/// Why a question about a repository has no answer.
#[derive(Debug)]
enum Unanswered {
    /// This reader can't read the repository; the other one may.
    Unreadable(String),
    /// The question is wrong, or the repository must not be read.
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

/// Something that can read a repository.
trait Reader {
    /// None in a repository without a commit.
    fn state(&self) -> Result<Option<State>, Unanswered>;

    /// The id of the commit that a revision names; none when it names none.
    fn commit(&self, revision: &str) -> Result<Option<String>, Unanswered>;

    /// The newest commit that is in the history of both; none when their histories never met.
    fn merge_base(&self, one: &str, other: &str) -> Result<Option<String>, Unanswered>;

    /// How the working tree differs from a commit, with untracked files and those of submodules.
    fn differences(&self, commit: &str) -> Result<Differences, Unanswered>;
}

/// Reads the state; a folder without a repository, or one without a commit, gives empty values.
///
/// # Errors
/// When there is a repository, and it can't be read.
pub(crate) fn read(repository: &Repository) -> Result<GitState, SessionError> {
    let is_exact = |state: &Option<State>| state.as_ref().is_none_or(|state| state.is_exact);
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

/// Where a working tree differs from a commit. Paths are relative to the repository's root.
#[derive(Debug)]
pub(crate) struct Differences {
    /// Files; of one that was renamed, both names.
    pub(crate) paths: BTreeSet<PathBuf>,
    /// Submodules of which the earlier commit isn't known: any file in them may differ.
    pub(crate) folders: BTreeSet<PathBuf>,
    /// As [`State::is_exact`].
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

/// Branches that others leave, in the order in which they are looked for.
const MAIN: [&str; 4] = ["origin/HEAD", "origin/main", "main", "master"];

/// What has changed since HEAD left `base`, by default the main branch, with what isn't committed. Gives the commit as
/// people write it, too.
pub(crate) fn changes_since(
    repository: &Repository,
    base: Option<&str>,
) -> Result<(String, Differences), SessionError> {
    let question = |reader: &dyn Reader| {
        let head = reader.commit("HEAD")?.ok_or_else(|| {
            SessionError::invalid_request("`--affected` needs a commit to compare with, and this branch has none")
        })?;
        let (since, commit) = base_of(reader, &head, base)?;
        Ok((since, reader.differences(&commit)?))
    };
    let changes = ask(repository, question, |(_, found)| found.is_exact)?;
    changes.ok_or_else(|| {
        SessionError::invalid_request("`--affected` needs a git repository").hint("leave it out to run every stage")
    })
}

/// The commit to compare with, and how it is called.
fn base_of(reader: &dyn Reader, head: &str, base: Option<&str>) -> Result<(String, String), Unanswered> {
    let (name, found) = match base {
        Some(name) => {
            let missing = || {
                SessionError::invalid_request(format!("`--base {name}` names no commit"))
                    .hint("`git log --oneline --all` lists commits, `git branch --all` branches")
            };
            (name, reader.commit(name)?.ok_or_else(missing)?)
        }
        None => main_branch(reader)?.ok_or_else(|| {
            SessionError::invalid_request("no main branch to compare with").hint("name a commit with `--base`")
        })?,
    };
    // Histories that never met have no commit in common: all of the difference counts.
    let left = reader.merge_base(head, &found)?.unwrap_or(found);
    let short: String = left.chars().take(12).collect();
    Ok((format!("{name} ({short})"), left))
}

fn main_branch(reader: &dyn Reader) -> Result<Option<(&'static str, String)>, Unanswered> {
    for name in MAIN {
        if let Some(commit) = reader.commit(name)? {
            return Ok(Some((name, commit)));
        }
    }
    Ok(None)
}

/// Asks libgit2, and the `git` program where libgit2 can't read the repository or its answer isn't exact. None outside a
/// repository.
fn ask<T>(
    repository: &Repository,
    question: impl Fn(&dyn Reader) -> Result<T, Unanswered>,
    is_exact: impl Fn(&T) -> bool,
) -> Result<Option<T>, SessionError> {
    let opened = match Library::open(&repository.root) {
        Ok(None) => return Ok(None),
        Ok(Some(library)) => question(&library),
        Err(error) => Err(error),
    };
    let reason = match opened {
        Ok(answer) if is_exact(&answer) => return Ok(Some(answer)),
        // Without the program it errs on the side of changes.
        Ok(answer) => {
            let exact = Program::open(repository).and_then(|program| question(&program));
            return Ok(Some(exact.unwrap_or(answer)));
        }
        Err(Unanswered::Refused(error)) => return Err(error),
        Err(Unanswered::Unreadable(reason)) => reason,
    };
    match Program::open(repository).and_then(|program| question(&program)) {
        Ok(answer) => Ok(Some(answer)),
        Err(Unanswered::Refused(error)) => Err(error),
        Err(Unanswered::Unreadable(program)) => {
            let message = format!("can't read the git repository in {}; nothing was run", repository.root.display());
            let mut failed = SessionError::not_ready(message)
                .hint("`git status` and `git fsck` say what is wrong with the repository");
            failed.causes = vec![format!("libgit2: {reason}"), format!("git: {program}")];
            Err(failed)
        }
    }
}

/// The folder around `start` whose repository it is in.
pub(crate) fn working_tree(start: &Path) -> Option<&Path> {
    // As git tells a repository from a folder that is only called so.
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
        // Without this file, the user's own configuration holds.
        let _ = config.add_file(&common.join("config"), git2::ConfigLevel::Local, false);
        Ok::<_, git2::Error>(config)
    });
    let name = config.and_then(|mut config| config.snapshot()?.get_string("user.name")).ok()?;
    Some(name).filter(|name| !name.trim().is_empty())
}

/// Of changed files: the same for the same paths with the same content, and empty for none.
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

/// Bytes of a changed file that are read. A larger one, which may be nothing but a hole, is known by its size and by the
/// time of its last change.
const HASHED: u64 = 1 << 30;

/// What is at a path, which may be a link, or a pipe by now: a digest, with `x` after it where it may be executed, or
/// `gone`.
fn content(path: &Path) -> String {
    let hashed = match std::fs::read_link(path) {
        Ok(target) => hash(target.as_os_str().as_encoded_bytes()),
        Err(_) => stagewright_files::open_unlinked(path).ok().and_then(|file| {
            let found = file.metadata().ok()?;
            let id = if found.len() > HASHED {
                hash(format!("{:?}", (found.len(), found.ino(), found.ctime(), found.ctime_nsec())).as_bytes())?
            } else {
                // By the file that was opened, and not by a name that may be another's meanwhile.
                let opened = format!("/proc/self/fd/{}", file.as_raw_fd());
                Oid::hash_file(ObjectType::Blob, opened).ok()?.to_string()
            };
            Some(if found.permissions().mode() & 0o111 == 0 { id } else { id + "x" })
        }),
    };
    hashed.unwrap_or_else(|| "gone".to_owned())
}

/// Of a run that a person starts: `manual`, on the tag or the branch that is checked out.
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
    fn a_working_tree_is_told_from_a_folder_with_an_empty_git_folder() {
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
