//! The stage's `with` table, and the command line it is turned into.

use std::collections::BTreeMap;

use serde::Deserialize;
use stagewright_sdk::process::Command;
use stagewright_sdk::{JsonSchema, WorkspacePath, schemars};

/// What to test, and how.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(example = serde_json::json!({ "args": ["--workspace"] }))]
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
}

/// Which program runs the tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Runner {
    /// `cargo test`.
    #[default]
    Cargo,
    /// `cargo nextest run`, which must be installed. It doesn't run doc-tests.
    Nextest,
}

impl Config {
    /// The command that runs all tests, or only those that `selection` names.
    pub(crate) fn command(&self, selection: Option<Vec<String>>) -> Command {
        let mut command = Command::new("cargo");
        let mut arguments = self.arguments();
        if let Some(selection) = selection {
            if !arguments.iter().any(|argument| argument == "--") {
                arguments.push("--".to_owned());
            }
            arguments.extend(selection);
        }
        command.args(arguments).envs(&self.env);
        if let Some(cwd) = &self.cwd {
            command.current_dir(cwd);
        }
        command
    }

    pub(crate) fn arguments(&self) -> Vec<String> {
        let mut args: Vec<&str> = match self.runner {
            Runner::Cargo => vec!["test", "--color", "never"],
            Runner::Nextest => vec!["nextest", "run", "--color", "never"],
        };
        if !self.fail_fast {
            args.push("--no-fail-fast");
        }
        if let Some(path) = &self.manifest_path {
            args.extend(["--manifest-path", path]);
        }
        if let Some(profile) = &self.profile {
            // With nextest, `--profile` is a profile of its own configuration.
            args.extend([if self.runner == Runner::Cargo { "--profile" } else { "--cargo-profile" }, profile]);
        }
        let features = self.features.join(",");
        if !features.is_empty() {
            args.extend(["--features", &features]);
        }
        args.extend(self.args.iter().map(String::as_str));
        if !self.test_args.is_empty() {
            args.push("--");
            args.extend(self.test_args.iter().map(String::as_str));
        }
        args.into_iter().map(str::to_owned).collect()
    }

    /// The path of a file next to the `Cargo.toml`.
    pub(crate) fn beside_manifest(&self, file: &str) -> String {
        let manifest = self.manifest_path.as_deref().and_then(|path| path.rsplit_once('/')).map(|(folder, _)| folder);
        let folders = self.cwd.as_deref().into_iter().chain(manifest);
        folders.chain([file]).map(|part| part.trim_end_matches('/')).collect::<Vec<_>>().join("/")
    }
}
