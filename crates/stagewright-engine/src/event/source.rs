//! What a run is of, and what started it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::RunId;

/// What a run is of, what started it, and under which circumstances. Recorded when the run starts; it stays the same
/// when the run is resumed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct RunSource {
    /// The commit, and how the working tree differed from it; `git` in expressions.
    pub git: GitState,
    /// What started the run; `event` in expressions, and in journals.
    #[serde(rename = "event")]
    pub trigger: Trigger,
    /// Whether it is a rehearsal without any network.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub offline: bool,
    /// What the machine lacks to confine programs, which run unconfined then; none where it confines them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsandboxed: Option<String>,
    /// The origins that `cargo`, `npm` and `pip` stand for in `net`, beyond the usual ones, by that word. Empty for
    /// pipelines that use none of the words, and in the records of versions that didn't keep it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub package_hosts: BTreeMap<String, Vec<String>>,
    /// The release that the run goes back to; none for a run that isn't a rollback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollback: Option<RollbackSource>,
}

/// The state of a git repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct GitState {
    /// Full id of HEAD's commit; empty outside a repository.
    pub commit: String,
    /// The first twelve digits of it.
    pub short: String,
    /// The branch that is checked out.
    pub branch: Option<String>,
    /// A tag that points at HEAD.
    pub tag: Option<String>,
    /// Whether `git status` would show anything, or a file differs that git was asked not to look at
    /// (`--assume-unchanged`, `--skip-worktree`).
    pub dirty: bool,
    /// Digest of how tracked files differ from HEAD; empty when none does.
    pub changes: String,
}

/// What started a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Trigger {
    /// `manual` for a run that a person started.
    pub name: String,
    /// The full name of the branch or tag, as in `refs/heads/main`; empty where none is checked out.
    #[serde(rename = "ref")]
    pub reference: String,
    /// Full id of the commit; empty outside a repository.
    pub commit: String,
    /// Name of the user who started it.
    pub actor: String,
}

/// The release that a rollback goes back to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RollbackSource {
    /// The run that made the release.
    pub run: RunId,
    /// The release's number in the history of its environment.
    pub release: u64,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_journals_hold_is_read_and_written_alike() {
        let git = json!({
            "commit": "abc", "short": "ab", "branch": "main", "tag": null, "dirty": true, "changes": "d1",
        });
        let event = json!({ "name": "manual", "ref": "refs/heads/main", "commit": "abc", "actor": "ada" });
        let whole = json!({
            "git": git, "event": event, "offline": true, "unsandboxed": "no Landlock",
            "package-hosts": { "npm": ["https://npm.example"], "pip": [] },
            "rollback": { "run": "run-1", "release": 3 },
        });
        let source: RunSource = serde_json::from_value(whole.clone()).unwrap();
        assert_eq!((source.git.commit.as_str(), source.trigger.actor.as_str()), ("abc", "ada"));
        assert_eq!(serde_json::to_value(&source).unwrap(), whole);
        let usual = json!({ "git": git, "event": event });
        let source: RunSource = serde_json::from_value(usual.clone()).unwrap();
        assert_eq!(serde_json::to_value(&source).unwrap(), usual);
    }
}
