//! The interface through which a run learns what has changed since a commit: its files, and the commits in between. The
//! host doesn't read repositories itself.

use std::collections::BTreeSet;

use serde::Serialize;

/// The history of a run's workspace.
pub trait ChangeSource: Send + Sync {
    /// The paths of the files that differ from the commit with this full id. For a submodule whose earlier commit is
    /// unknown, the path of its folder.
    ///
    /// May block: it is called on a thread that may.
    ///
    /// # Errors
    /// If the workspace isn't a repository, or has no such commit.
    fn changed_files(&self, commit: &str) -> Result<BTreeSet<String>, ChangesUnknown>;

    /// The newest commits that lead to the commit `head`, newest first, at most `most`. With `since`, a full id or the full
    /// name of a tag, without those that lead to it.
    ///
    /// May block: it is called on a thread that may.
    ///
    /// # Errors
    /// If the workspace isn't a repository, or has no such commit.
    fn commits(&self, head: &str, since: Option<&str>, most: usize) -> Result<History, ChangesUnknown>;

    /// The web address of the repository; none without a remote that has one. It never contains credentials.
    ///
    /// May block: it is called on a thread that may.
    ///
    /// # Errors
    /// If the repository can't be read.
    fn repository(&self) -> Result<Option<String>, ChangesUnknown>;
}

/// A part of a repository's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct History {
    /// Newest first.
    pub commits: Vec<Commit>,
    /// Why there are no more commits.
    pub end: HistoryEnd,
    /// Whether the commit that it begins after doesn't lead to the newest one.
    pub diverged: bool,
}

/// A commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Commit {
    /// The full id.
    pub id: String,
    /// The full ids of its parents: several for a merge.
    pub parents: Vec<String>,
    /// The author's name.
    pub author: String,
    /// When it was committed, in milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// The whole message.
    pub message: String,
}

/// Why a history has no more commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HistoryEnd {
    /// The next ones lead to the commit that it begins after.
    Since,
    /// The last one is the repository's first.
    Start,
    /// There are more than were asked for.
    Limit,
    /// The clone is shallow and doesn't have the next ones.
    Shallow,
}

/// Why it isn't known what has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangesUnknown {
    /// The failure in one sentence.
    pub message: String,
    /// How to fix it.
    pub help: Option<String>,
}
