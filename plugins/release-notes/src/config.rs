//! The stage's `with` table.

use serde::Deserialize;
use stagewright_sdk::{JsonSchema, Problem, WorkspacePath, context, schemars};

use crate::forge::Forge;

/// Which commits the notes have, and where they go.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(example = serde_json::json!({ "environment": "production", "title": "Version ${{ inputs.version }}" }))]
pub struct Config {
    /// The environment whose last good release the notes begin after; a region as in `production.eu`. Default: that of the
    /// stage. A stage that only reads it needn't have one, and so waits for no approval.
    pub(crate) environment: Option<String>,
    /// The heading of the notes. Default: none.
    pub(crate) title: Option<String>,
    /// The tag that the notes of a first release begin after, as in `v1.0`. Default: the first commit.
    pub(crate) first_since: Option<String>,
    /// What to do if the repository doesn't have the commit of the last good release, as after a force push.
    #[serde(default)]
    pub(crate) missing: Missing,
    /// The most commits, from 1 to 1000. Default: 500. The notes say if there are more.
    #[serde(default = "default_most")]
    pub(crate) max_commits: u32,
    /// The file of the workspace that the notes are written to. Default: `target/release-notes.md`.
    #[serde(default = "default_file")]
    pub(crate) file: WorkspacePath,
    /// The name of the artifact. Default: `release-notes.md`.
    #[serde(default = "default_name")]
    pub(crate) name: String,
    /// How the pages of commits are linked. Default: by the name of the host in the URL of the remote `origin`; no links if
    /// that says nothing.
    pub(crate) forge: Option<Forge>,
}

/// What to do without the commit of the last good release.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Missing {
    /// Fail.
    #[default]
    Fail,
    /// Write notes as for a first release, which say so.
    First,
}

impl Config {
    pub(crate) fn environment(&self) -> Option<String> {
        self.environment.clone().or_else(context::environment)
    }
}

fn default_most() -> u32 {
    500
}

fn default_file() -> WorkspacePath {
    WorkspacePath::fixed("target/release-notes.md")
}

fn default_name() -> String {
    "release-notes.md".to_owned()
}

/// Mistakes that parsing doesn't catch.
pub(crate) fn problems(config: &Config) -> Vec<Problem> {
    let mut found = Vec::new();
    if config.environment().is_none_or(|name| name.is_empty()) {
        let help = "add the environment whose last good release counts, as in environment = \"production\"";
        found.push(Problem::at("environment", "is missing").help(help));
    }
    if !(1..=1000).contains(&config.max_commits) {
        let message = format!("is {}, but there can be from 1 to 1000 commits", config.max_commits);
        found.push(Problem::at("max-commits", message));
    }
    if config.first_since.as_ref().is_some_and(|tag| tag.is_empty() || tag.starts_with("refs/")) {
        found.push(Problem::at("first-since", "isn't the name of a tag").help("write the short name, as in \"v1.0\""));
    }
    if config.file.is_root() {
        found.push(Problem::at("file", "is the workspace itself").help("write a path, as in \"target/notes.md\""));
    }
    found
}
