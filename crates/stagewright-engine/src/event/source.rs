//! The commit that a run is for, and what started it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::RunId;

/// The commit that a run is for, what started it, and the machine's conditions. Recorded when the run starts; a resume
/// doesn't change it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct RunSource {
    /// The commit, and how the working tree differed from it; `git` in expressions.
    pub git: GitState,
    /// What started the run; `event` in expressions, and in journals.
    #[serde(rename = "event")]
    pub trigger: Trigger,
    /// The full id of the commit where `git.commit` diverged from the main branch. Only recorded for runs with a plugin
    /// that can ask for the changes since; none without a main branch, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Whether it is a rehearsal without any network.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub offline: bool,
    /// Whether it observes what its stages use, on a copy of the workspace. It is a rehearsal, too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub learning: bool,
    /// What the machine lacks to sandbox programs, which therefore run unsandboxed; none if it sandboxes them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsandboxed: Option<String>,
    /// The additional origins that `cargo`, `npm` and `pip` in `net` stand for, by that keyword. Empty for pipelines
    /// that use none of the keywords, and in the journals of versions that didn't record it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub package_hosts: BTreeMap<String, Vec<String>>,
    /// The release that the run restores; none for a run that isn't a rollback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollback: Option<ReleaseSource>,
    /// The release that the run deploys to another environment; none for a run that isn't a promotion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub promotion: Option<ReleaseSource>,
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
    /// Whether `git status` would list anything, or a file differs that git was configured to ignore changes of
    /// (`--assume-unchanged`, `--skip-worktree`).
    pub dirty: bool,
    /// Digest of the differences between tracked files and HEAD; empty if there are none.
    pub changes: String,
}

/// What started a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Trigger {
    /// `push` or `pull-request` for a run for this event, else `manual`.
    pub name: String,
    /// The full name of the branch or tag, as in `refs/heads/main`; empty if none is checked out.
    #[serde(rename = "ref")]
    pub reference: String,
    /// Full id of the commit; empty outside a repository.
    pub commit: String,
    /// Name of the user who started it.
    pub actor: String,
}

/// A release of the ledger that a run deploys again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ReleaseSource {
    /// The run that deployed the release.
    pub run: RunId,
    /// The release's number in the history of its environment.
    pub release: u64,
    /// The numbers of the run's releases in other regions of the environment, which are deployed again with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<u64>,
}

impl ReleaseSource {
    /// One release, of one environment.
    pub fn of(run: RunId, release: u64) -> ReleaseSource {
        ReleaseSource { run, release, others: Vec::new() }
    }
}

/// A difference from the start of the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Change {
    /// What changed, as in `plugin deploy` or `commit`.
    pub what: String,
    /// Its value when the run started.
    pub then: String,
    /// Its value now.
    pub now: String,
}

impl Change {
    /// What the digest of [`GitState::changes`] is compared as. It says nothing to people, except whether it is empty.
    pub const TRACKED_FILES: &str = "tracked files";
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Change { what, then, now } = self;
        match (what.as_str(), then.as_str(), now.as_str()) {
            (Change::TRACKED_FILES, "", _) => write!(f, "{what}: were clean, now have uncommitted changes"),
            (Change::TRACKED_FILES, _, "") => write!(f, "{what}: had uncommitted changes, now clean"),
            (Change::TRACKED_FILES, _, _) => write!(f, "{what}: now have other uncommitted changes"),
            (_, then, now) => write!(f, "{what}: {} -> {}", short(then), short(now)),
        }
    }
}

/// The first digits of a digest, which suffice to distinguish two; other values as they are.
fn short(value: &str) -> &str {
    let digits = value.strip_prefix("sha256:").unwrap_or(value);
    let is_digest = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    match digits.get(..12).filter(|_| is_digest) {
        Some(short) => short,
        None if digits.is_empty() => "none",
        None => digits,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn changes_are_described_without_the_digits_of_digests_that_say_nothing() {
        let described = |what: &str, then: &str, now: &str| {
            Change { what: what.to_owned(), then: then.to_owned(), now: now.to_owned() }.to_string()
        };
        let digest = "f481570989c2aaaaf481570989c2aaaaf481570989c2aaaa";
        for (then, now, expected) in [
            ("", digest, "tracked files: were clean, now have uncommitted changes"),
            (digest, "", "tracked files: had uncommitted changes, now clean"),
            (digest, "ab", "tracked files: now have other uncommitted changes"),
        ] {
            assert_eq!(described(Change::TRACKED_FILES, then, now), expected);
        }
        let plugin = described("plugin deploy", &format!("sha256:{digest}"), "a build of today");
        assert_eq!(plugin, "plugin deploy: f481570989c2 -> a build of today");
        assert_eq!(described("commit", digest, ""), "commit: f481570989c2 -> none");
    }

    #[test]
    fn source_round_trips_through_its_journal_form() {
        let git = json!({
            "commit": "abc", "short": "ab", "branch": "main", "tag": null, "dirty": true, "changes": "d1",
        });
        let event = json!({ "name": "manual", "ref": "refs/heads/main", "commit": "abc", "actor": "ada" });
        let whole = json!({
            "git": git, "event": event, "base": "abd", "offline": true, "learning": true, "unsandboxed": "no Landlock",
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
