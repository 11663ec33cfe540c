//! What commit a run is of: the `git` and `event` objects that expressions see.

use std::os::fd::AsRawFd as _;
use std::path::Path;

use git2::{DescribeOptions, ObjectType, Oid, Repository, Status, StatusOptions};
use serde::Serialize;
use serde_json::{Value as Json, json};

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
pub(crate) fn read(root: &Path) -> Git {
    let Ok(repository) = Repository::open(root) else { return Git::default() };
    let Ok(head) = repository.head() else { return Git::default() };
    let Ok(commit) = head.peel_to_commit() else { return Git::default() };
    let id = commit.id().to_string();
    let (dirty, changes) = changes(&repository);
    Git {
        short: id.chars().take(12).collect(),
        branch: head.is_branch().then(|| head.shorthand().ok().map(str::to_owned)).flatten(),
        tag: exact_tag(&repository),
        dirty,
        changes,
        commit: id,
    }
}

fn exact_tag(repository: &Repository) -> Option<String> {
    let mut options = DescribeOptions::new();
    options.describe_tags().max_candidates_tags(0);
    repository.describe(&options).ok()?.format(None).ok()
}

/// Whether anything differs from HEAD, and the digest of how tracked files do. Untracked ones don't count for that:
/// stages make them.
fn changes(repository: &Repository) -> (bool, String) {
    let mut options = StatusOptions::new();
    options.include_untracked(true).exclude_submodules(true);
    let Ok(statuses) = repository.statuses(Some(&mut options)) else { return (false, String::new()) };
    let root = repository.workdir().unwrap_or_else(|| repository.path());
    let mut text = String::new();
    for entry in statuses.iter().filter(|entry| entry.status() != Status::WT_NEW) {
        let path = String::from_utf8_lossy(entry.path_bytes()).into_owned();
        let content = content(&root.join(&path));
        text.push_str(&format!("{content} {path}\n"));
    }
    let digest = (!text.is_empty()).then(|| Oid::hash_object(ObjectType::Blob, text.as_bytes()));
    let digest = digest.and_then(Result::ok).map(|id| id.to_string()).unwrap_or_default();
    (!statuses.is_empty(), digest)
}

/// Of a changed file, which may be a link, or a pipe by now.
fn content(path: &Path) -> String {
    let hashed = match std::fs::read_link(path) {
        Ok(target) => Oid::hash_object(ObjectType::Blob, target.as_os_str().as_encoded_bytes()).ok(),
        Err(_) => stagewright_files::open_unlinked(path).ok().and_then(|file| {
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
