//! The commits of a repository. They don't know the host, so that the fake one can use them as well.

use std::time::Duration;

use serde::Deserialize;

/// A part of the repository's history.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct History {
    /// Newest first.
    pub commits: Vec<Commit>,
    /// Why there are no more commits.
    pub end: HistoryEnd,
    /// Whether the commit that it begins after doesn't lead to the run's commit, as after a force push.
    #[serde(default)]
    pub diverged: bool,
}

/// A commit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
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

impl Commit {
    /// When it was committed, since the Unix epoch.
    pub fn time(&self) -> Duration {
        Duration::from_millis(self.time_ms)
    }
}

/// Why a history has no more commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
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
    /// A reason that only later versions of the engine have.
    #[serde(other)]
    Other,
}
