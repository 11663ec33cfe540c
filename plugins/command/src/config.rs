//! The stage's `with` table, and the program that it describes.

use std::collections::BTreeMap;

use problem_matchers::NAMES;
use serde::Deserialize;
use stagewright_sdk::process::Command as Process;
use stagewright_sdk::{JsonSchema, Problem, Result, WorkspacePath, schemars, secrets};

use crate::publish::Publication;
use crate::rerun::Rerun;
use crate::shell::{self, MAX_ARGUMENT, Shell};

/// The stage's `with` table: `argv` or `run`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(example = serde_json::json!({ "argv": ["make", "test"] }))]
pub struct Config {
    /// The program and its arguments.
    #[schemars(extend("x-stagewright-code" = "argv"))]
    pub argv: Option<Vec<String>>,
    /// A script for the shell.
    #[schemars(extend("x-stagewright-code" = "text"))]
    pub run: Option<String>,
    /// The command that `run` is appended to as the last argument. Default: `["sh", "-eu", "-c"]`. A text is split into
    /// words, and shells and Python get `-c` unless it has it, as in `"bash -eo pipefail"`.
    #[schemars(extend("x-stagewright-code" = "argv"))]
    pub shell: Option<Shell>,
    /// The folder to run in, relative to the workspace.
    pub cwd: Option<WorkspacePath>,
    /// Environment variables.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Environment variables with a secret as their value: maps the variable to the secret's name.
    #[serde(default)]
    pub secret_env: BTreeMap<String, String>,
    /// The text that the program reads from standard input.
    #[schemars(extend("x-stagewright-code" = "stdin"))]
    pub stdin: Option<String>,
    /// The name of an output for the program's standard output, without the last line end.
    pub capture: Option<String>,
    /// A file that the program writes. Its lines, `name=value` or JSON objects, become outputs.
    pub outputs_file: Option<WorkspacePath>,
    /// The exit codes that count as success.
    #[serde(default = "zero")]
    pub exit_codes: Vec<i32>,
    /// Whether to look for errors, warnings and failed tests in the program's output, or the names of the matchers to use.
    /// Default: `true`.
    #[serde(default)]
    pub matchers: Matchers,
    /// Files and folders that the program makes, to publish as artifacts.
    #[serde(default)]
    pub artifacts: Vec<Publication>,
    /// JUnit reports that the program writes, as in `["reports/*.xml"]`. The stage fails if one has a failed test.
    #[serde(default)]
    pub junit: Vec<WorkspacePath>,
    /// How to run only the tests that failed, for `stagewright rerun --failed-tests`. By default all of them run again.
    pub rerun: Option<Rerun>,
    /// Failed tests in the `junit` reports don't fail the stage.
    #[serde(default)]
    pub allow_failed_tests: bool,
}

fn zero() -> Vec<i32> {
    vec![0]
}

/// Which matchers read the output.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected `true`, `false` or a list of names")]
pub enum Matchers {
    /// All, or none.
    All(bool),
    /// Those with these names.
    Some(Vec<String>),
}

impl Default for Matchers {
    fn default() -> Matchers {
        Matchers::All(true)
    }
}

impl Matchers {
    pub(crate) fn include(&self, name: &str) -> bool {
        match self {
            Matchers::All(all) => *all,
            Matchers::Some(names) => names.iter().any(|known| known == name),
        }
    }

    /// The names that aren't those of matchers.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let Matchers::Some(names) = self else { return Vec::new() };
        let unknown = names.iter().enumerate().filter(|(_, name)| !NAMES.contains(&name.as_str()));
        let problem = |(index, name): (usize, &String)| {
            Problem::at(format!("matchers[{index}]"), format!("unknown matcher `{name}`"))
                .help(format!("the matchers are {}", NAMES.join(", ")))
        };
        unknown.map(problem).collect()
    }
}

impl Config {
    pub(crate) fn argv(&self) -> std::result::Result<Vec<String>, Problem> {
        let wrong = |message: &str, key: &str| Err(Problem::at(key, message));
        match (&self.argv, &self.run, &self.shell) {
            (Some(_), Some(_), _) => wrong("`argv` and `run` can't be combined", "run"),
            (Some(_), None, Some(_)) => wrong("`shell` requires `run`", "shell"),
            (Some(argv), None, None) if argv.is_empty() => wrong("`argv` is empty", "argv"),
            (Some(argv), None, None) => Ok(argv.clone()),
            (None, Some(script), _) if script.len() > MAX_ARGUMENT => {
                let message =
                    format!("`run` has {} bytes, and an argument has at most {MAX_ARGUMENT} on Linux", script.len());
                Err(Problem::at("run", message).help(
                    "move the script to a file of the repository, as in `run = \"sh ci/script.sh\"`, or make it \
                           executable and grant it by its path",
                ))
            }
            (None, Some(script), shell) => shell::command(shell.as_ref(), script),
            (None, None, _) => Err(Problem::error("neither `argv` nor `run` is set")
                .help("set `argv = [\"program\", \"argument\"]` or `run = \"a shell script\"`")),
        }
    }

    pub(crate) fn process(&self, argv: &[String]) -> Result<Process> {
        let mut process = Process::new(&argv[0]);
        process.args(argv[1..].iter().cloned()).envs(&self.env);
        for (name, secret) in &self.secret_env {
            process.secret_env(name, &secrets::get(secret)?);
        }
        if let Some(cwd) = &self.cwd {
            process.current_dir(cwd);
        }
        if let Some(stdin) = &self.stdin {
            process.stdin(stdin.as_bytes());
        }
        Ok(process)
    }
}
