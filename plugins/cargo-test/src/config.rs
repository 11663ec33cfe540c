//! The stage's `with` table, and the command line it is turned into.

use std::collections::BTreeMap;

use serde::Deserialize;
use stagewright_sdk::process::Command;
use stagewright_sdk::{JsonSchema, WorkspacePath};

/// What to test, and how.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(crate = "stagewright_sdk::schemars")]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// Arguments for Cargo, as in `["--workspace"]`.
    #[serde(default)]
    pub(crate) args: Vec<String>,
    /// Arguments for the test executables: what follows `--`.
    #[serde(default)]
    pub(crate) test_args: Vec<String>,
    /// The `Cargo.toml`, relative to `cwd`.
    pub(crate) manifest_path: Option<String>,
    /// The Cargo profile to build with.
    pub(crate) profile: Option<String>,
    /// Features to enable.
    #[serde(default)]
    pub(crate) features: Vec<String>,
    /// Which program runs the tests.
    #[serde(default)]
    pub(crate) runner: Runner,
    /// Stop at the first test executable that fails.
    #[serde(default)]
    pub(crate) fail_fast: bool,
    /// Environment variables.
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    /// The folder to run in, relative to the workspace.
    pub(crate) cwd: Option<WorkspacePath>,
    /// Succeed even when no test ran.
    #[serde(default)]
    pub(crate) allow_empty: bool,
    /// Write a JUnit report to this path, and publish it as an artifact under its file name.
    pub(crate) junit: Option<WorkspacePath>,
}

/// Which program runs the tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(crate = "stagewright_sdk::schemars")]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Runner {
    /// `cargo test`.
    #[default]
    Cargo,
    /// `cargo nextest run`, which must be installed. It doesn't run doc-tests.
    Nextest,
}

impl Config {
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new("cargo");
        match self.runner {
            Runner::Cargo => command.args(["test", "--color", "never"]),
            Runner::Nextest => command.args(["nextest", "run", "--color", "never"]),
        };
        if !self.fail_fast {
            command.args(["--no-fail-fast"]);
        }
        if let Some(path) = &self.manifest_path {
            command.args(["--manifest-path", path]);
        }
        if let Some(profile) = &self.profile {
            // With nextest, `--profile` is a profile of its own configuration.
            let flag = if self.runner == Runner::Cargo { "--profile" } else { "--cargo-profile" };
            command.args([flag, profile]);
        }
        if !self.features.is_empty() {
            command.args(["--features".to_owned(), self.features.join(",")]);
        }
        command.args(self.args.iter().cloned());
        if !self.test_args.is_empty() {
            command.args(["--"]).args(self.test_args.iter().cloned());
        }
        for (name, value) in &self.env {
            command.env(name, value);
        }
        if let Some(cwd) = &self.cwd {
            command.current_dir(cwd);
        }
        command
    }
}
