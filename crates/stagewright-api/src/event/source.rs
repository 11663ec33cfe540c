//! What a run is of, and what started it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a run is of, what started it, and under which circumstances.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RunSourceEntry {
    /// The commit, and how the working tree differed from it.
    pub git: GitStateEntry,
    /// What started the run.
    #[serde(rename = "event")]
    pub trigger: TriggerEntry,
    /// Full id of the commit where `git.commit` diverged from the main branch. Left out without a main branch, and unless
    /// a plugin can ask for the changes since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Whether it is a rehearsal without any network. Left out when it isn't.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub offline: bool,
    /// Whether it observes what its stages use, on a copy of the workspace. Left out when it doesn't.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub learning: bool,
    /// What the machine lacks to confine programs. Left out where it confines them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsandboxed: Option<String>,
    /// The origins that `cargo`, `npm` and `pip` stand for in `net` beyond the usual ones, by that word. Left out for
    /// pipelines that use none of the words.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub package_hosts: BTreeMap<String, Vec<String>>,
    /// The release that the run rolls back to. Left out for a run that isn't a rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<ReleaseSourceEntry>,
    /// The release that the run deploys to another environment. Left out for a run that isn't a promotion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promotion: Option<ReleaseSourceEntry>,
}

/// The state of a git repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct GitStateEntry {
    /// Full id of the commit; empty outside a repository.
    pub commit: String,
    /// Its first twelve digits.
    pub short: String,
    /// The branch that is checked out.
    pub branch: Option<String>,
    /// A tag of the commit.
    pub tag: Option<String>,
    /// Whether the working tree differs from the commit, untracked files included.
    pub dirty: bool,
    /// Digest of how tracked files differ from the commit, in git's hash; empty when none does.
    pub changes: String,
}

/// What started a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TriggerEntry {
    /// `push` or `pull-request` for a run for this event, else `manual`.
    pub name: String,
    /// Full name of the branch or tag, as in `refs/heads/main`; empty when there is none.
    #[serde(rename = "ref")]
    pub reference: String,
    /// Full id of the commit; empty outside a repository.
    pub commit: String,
    /// Name of the user who started it.
    pub actor: String,
}

/// A release that a run deploys again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ReleaseSourceEntry {
    /// Id of the run that made it.
    pub run: String,
    /// Its number, as in [`ReleaseEntry::number`](crate::ReleaseEntry::number).
    pub release: u64,
    /// The numbers of the releases of other regions that are deployed again with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<u64>,
}

/// Something that has changed since a run was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SourceChangeEntry {
    /// What has changed, as in `plugin deploy` or `commit`.
    pub what: String,
    /// What it was.
    pub then: String,
    /// What it is.
    pub now: String,
}
