//! What commit a run is of: the `git` and `event` objects that expressions see.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use git2::{
    DescribeOptions, ErrorCode, IndexEntryExtendedFlag, IndexEntryFlag, ObjectType, Oid, Repository, Status,
    StatusOptions,
};
use serde::Serialize;
use serde_json::{Value as Json, json};

use crate::error::CommandError;
use crate::git_files;

/// The state of the repository when the run starts.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Git {
    /// Full id of HEAD's commit; empty outside a repository.
    pub(crate) commit: String,
    /// The first twelve digits of it.
    pub(crate) short: String,
    /// The branch that is checked out.
    pub(crate) branch: Option<String>,
    /// A tag that points at HEAD.
    pub(crate) tag: Option<String>,
    /// Whether a tracked file differs from HEAD, or an untracked one isn't ignored.
    pub(crate) dirty: bool,
    /// Digest of how tracked files differ from HEAD; empty when none does.
    pub(crate) changes: String,
}

/// Reads it; a folder without a repository, or one without a commit, gives empty values.
///
/// # Errors
/// When there is a repository, and it can't be read: to go on would be to take whatever is there for unchanged.
pub(crate) fn read(root: &Path) -> Result<Git, CommandError> {
    let failed = |error: git2::Error| unreadable(root, error);
    let repository = match Repository::open(root) {
        Err(error) if error.code() == ErrorCode::NotFound => return Ok(Git::default()),
        opened => opened.map_err(failed)?,
    };
    let head = match repository.head() {
        Err(error) if matches!(error.code(), ErrorCode::UnbornBranch | ErrorCode::NotFound) => {
            return Ok(Git::default());
        }
        head => head.map_err(failed)?,
    };
    let commit = head.peel_to_commit().map_err(failed)?;
    let id = commit.id().to_string();
    git_files::check(&repository, root)?;
    let (dirty, changes) = changes(&repository).map_err(failed)?;
    Ok(Git {
        short: id.chars().take(12).collect(),
        branch: head.is_branch().then(|| head.shorthand().ok().map(str::to_owned)).flatten(),
        tag: exact_tag(&repository),
        dirty,
        changes,
        commit: id,
    })
}

fn unreadable(root: &Path, error: git2::Error) -> CommandError {
    let hint = match error.code() {
        ErrorCode::Owner => {
            format!("if you trust what is there: git config --global --add safe.directory {}", root.display())
        }
        _ => "`git status` and `git fsck` say what is wrong; nothing was run".to_owned(),
    };
    CommandError::not_ready(format!("the git repository in {} can't be read", root.display()))
        .caused_by(error)
        .hint(hint)
}

fn exact_tag(repository: &Repository) -> Option<String> {
    let mut options = DescribeOptions::new();
    options.describe_tags().max_candidates_tags(0);
    repository.describe(&options).ok()?.format(None).ok()
}

/// Whether anything differs from HEAD, and the digest of how tracked files do. Untracked ones don't count for that:
/// stages make them.
fn changes(repository: &Repository) -> Result<(bool, String), git2::Error> {
    let mut options = StatusOptions::new();
    options.include_untracked(true).exclude_submodules(true);
    let statuses = repository.statuses(Some(&mut options))?;
    let root = repository.workdir().unwrap_or_else(|| repository.path());
    let mut changed = overlooked(repository, root)?;
    for entry in statuses.iter().filter(|entry| entry.status() != Status::WT_NEW) {
        let path = PathBuf::from(OsStr::from_bytes(entry.path_bytes()));
        changed.entry(path).or_insert_with_key(|path| content(&root.join(path)));
    }
    let lines = changed.iter().map(|(path, content)| format!("{content} {}\n", path.display())).collect::<String>();
    let digest = if lines.is_empty() {
        String::new()
    } else {
        Oid::hash_object(ObjectType::Blob, lines.as_bytes())?.to_string()
    };
    Ok((!statuses.is_empty() || !changed.is_empty(), digest))
}

/// Files and submodules that differ from the index, and that a status doesn't show: what git was asked not to look at,
/// files of the same size and time where git is configured to trust those, and other commits of submodules.
fn overlooked(repository: &Repository, root: &Path) -> Result<BTreeMap<PathBuf, String>, git2::Error> {
    const SUBMODULE: u32 = 0o160_000;
    let config = repository.config()?;
    let trusts_times = config.get_bool("core.trustctime") == Ok(false)
        || config.get_string("core.checkstat").is_ok_and(|mode| mode.eq_ignore_ascii_case("minimal"));
    let mut found = BTreeMap::new();
    for entry in repository.index()?.iter() {
        let is_submodule = entry.mode == SUBMODULE;
        let skipped = IndexEntryExtendedFlag::from_bits_retain(entry.flags_extended).is_skip_worktree();
        let unwatched = IndexEntryFlag::from_bits_retain(entry.flags).is_valid();
        if !(is_submodule || trusts_times || skipped || unwatched) {
            continue;
        }
        let path = PathBuf::from(OsStr::from_bytes(&entry.path));
        let place = root.join(&path);
        let is_left_out = || skipped && place.symlink_metadata().is_err();
        let now = if is_submodule { commit_of(&place) } else { (!is_left_out()).then(|| content(&place)) };
        if let Some(now) = now.filter(|now| *now != entry.id.to_string()) {
            found.insert(path, now);
        }
    }
    Ok(found)
}

/// The commit that a submodule is at; none where it isn't checked out.
fn commit_of(submodule: &Path) -> Option<String> {
    submodule.join(".git").symlink_metadata().ok()?;
    let commit =
        || Repository::open(submodule).and_then(|repository| repository.head()?.peel_to_commit().map(|one| one.id()));
    let commit = git_files::check_directory(submodule).ok().and_then(|()| commit().ok());
    Some(commit.map_or_else(|| "unreadable".to_owned(), |id| id.to_string()))
}

/// Bytes of a changed file that are read. A larger one, which may be nothing but a hole, is known by its size and by the
/// time of its last change.
const HASHED: u64 = 1 << 30;

/// Of a changed file, which may be a link, or a pipe by now.
fn content(path: &Path) -> String {
    let hashed = match std::fs::read_link(path) {
        Ok(target) => Oid::hash_object(ObjectType::Blob, target.as_os_str().as_encoded_bytes()).ok(),
        Err(_) => stagewright_files::open_unlinked(path).ok().and_then(|file| {
            let found = file.metadata().ok()?;
            if found.len() > HASHED {
                let times = (found.len(), found.ino(), found.ctime(), found.ctime_nsec());
                return Oid::hash_object(ObjectType::Blob, format!("{times:?}").as_bytes()).ok();
            }
            // By the file that was opened, and not by a name that may be another's meanwhile.
            Oid::hash_file(ObjectType::Blob, format!("/proc/self/fd/{}", file.as_raw_fd())).ok()
        }),
    };
    hashed.map_or_else(|| "gone".to_owned(), |id| id.to_string())
}

/// `{ git, event }`. A run that a person starts is `manual`, on the tag or the branch that is checked out.
pub(crate) fn values(git: &Git, actor: &str) -> Json {
    let reference = match (&git.tag, &git.branch) {
        (Some(tag), _) => format!("refs/tags/{tag}"),
        (None, Some(branch)) => format!("refs/heads/{branch}"),
        (None, None) => String::new(),
    };
    json!({ "git": git, "event": { "name": "manual", "ref": reference, "commit": git.commit, "actor": actor } })
}
