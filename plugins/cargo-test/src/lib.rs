//! Runs `cargo test`, or nextest, and reads what it prints: which tests failed and what they said. What tests print
//! themselves is never taken for a failure: the runner's exit status and totals decide.
//!
//! In flow the runner's two streams, line by line; out come counts, a finding for each failure, and a JUnit report.
//! [`libtest`] and [`nextest`] read, [`results`] holds what was read, [`verdict`] judges it, [`junit`] writes it down.

mod compile;
mod junit;
mod libtest;
mod nextest;
mod results;
mod verdict;

use std::collections::{BTreeMap, VecDeque};

use serde::Deserialize;
use stagewright_sdk::process::{Command, ExitStatus, Line, Source};
use stagewright_sdk::{
    Capability, JsonSchema, Manifest, Outcome, Result, Stage, WorkspacePath, artifacts, log, outputs, workspace,
};

use compile::CompileErrors;
use results::Results;

/// Lines of standard error that are shown when nothing better is known.
const LAST_WORDS: usize = 20;

/// The stage's `with` table.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(crate = "stagewright_sdk::schemars")]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// For Cargo, as in `["--workspace"]`.
    #[serde(default)]
    pub args: Vec<String>,
    /// For the test executables: what stands after `--`.
    #[serde(default)]
    pub test_args: Vec<String>,
    /// The `Cargo.toml`, relative to `cwd`.
    pub manifest_path: Option<String>,
    /// The profile to build with.
    pub profile: Option<String>,
    /// Features to switch on.
    #[serde(default)]
    pub features: Vec<String>,
    /// Which program runs the tests.
    #[serde(default)]
    pub runner: Runner,
    /// Stop at the first test executable that fails.
    #[serde(default)]
    pub fail_fast: bool,
    /// Variables of the environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Where to start it, relative to the workspace.
    pub cwd: Option<WorkspacePath>,
    /// Succeed even when no test ran.
    #[serde(default)]
    pub allow_empty: bool,
    /// Where to write a JUnit report; it is published as an artifact too, under its file name.
    pub junit: Option<WorkspacePath>,
}

/// Which program runs the tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(crate = "stagewright_sdk::schemars")]
#[serde(rename_all = "kebab-case")]
pub enum Runner {
    /// `cargo test`.
    #[default]
    Cargo,
    /// `cargo nextest run`, which must be installed. Runs no doc-tests.
    Nextest,
}

/// The plugin.
#[derive(Debug)]
pub struct CargoTest;

impl Stage for CargoTest {
    type Config = Config;

    fn manifest() -> Manifest {
        Manifest::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
            .description(env!("CARGO_PKG_DESCRIPTION"))
            .output("passed", "How many tests passed")
            .output("failed", "How many failed")
            .output("ignored", "How many were not run")
            .output("duration", "Seconds that the tests took, without compiling")
            .capability(Capability::Process)
            .capability(Capability::Workspace)
            .capability(Capability::Artifacts)
    }

    fn run(config: Config) -> Result<Outcome> {
        let mut reader = Reader::new(config.runner);
        let status = config.command().run_lines(|line| reader.take(line))?;
        let heard = reader.finish(status);
        outputs::set("passed", &heard.results.passed())?;
        outputs::set("failed", &heard.results.failed())?;
        outputs::set("ignored", &heard.results.ignored())?;
        outputs::set("duration", &heard.results.seconds())?;
        for problem in verdict::problems(&heard.results) {
            outputs::report(problem);
        }
        if let Some(path) = &config.junit {
            workspace::write(path, junit::render(&heard.results))?;
            let name = path.rsplit('/').next().unwrap_or(path);
            artifacts::publish(name, path, "application/xml")?;
        }
        match verdict::judge(&config, &heard) {
            Some(error) => Err(error),
            None => Ok(Outcome::Succeeded),
        }
    }
}

impl Config {
    fn command(&self) -> Command {
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
            // Nextest has profiles of its own.
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

/// What the runner said.
pub(crate) struct Heard {
    pub(crate) status: ExitStatus,
    pub(crate) results: Results,
    pub(crate) compile: CompileErrors,
    /// Of standard error.
    pub(crate) last_words: VecDeque<String>,
}

/// Hands each line to those who can read it.
struct Reader {
    tests: Tests,
    compile: CompileErrors,
    last_words: VecDeque<String>,
    told: u32,
}

enum Tests {
    Libtest(libtest::Parser),
    Nextest(nextest::Parser),
}

impl Tests {
    fn have_begun(&self) -> bool {
        match self {
            Tests::Libtest(parser) => parser.has_begun(),
            Tests::Nextest(parser) => parser.progress().1.is_some(),
        }
    }

    /// Tests done, and how many there are as far as is known.
    fn take(&mut self, source: Source, text: &str) -> (u32, Option<u32>) {
        match self {
            Tests::Libtest(parser) => {
                match source {
                    Source::Stdout => parser.stdout(text),
                    Source::Stderr => parser.stderr(text),
                }
                parser.progress()
            }
            Tests::Nextest(parser) => {
                parser.line(text);
                parser.progress()
            }
        }
    }
}

impl Reader {
    fn new(runner: Runner) -> Reader {
        let tests = match runner {
            Runner::Cargo => Tests::Libtest(libtest::Parser::default()),
            Runner::Nextest => Tests::Nextest(nextest::Parser::default()),
        };
        Reader { tests, compile: CompileErrors::default(), last_words: VecDeque::new(), told: 0 }
    }

    fn take(&mut self, Line { source, text }: Line<'_>) {
        if source == Source::Stderr {
            // Cargo compiles everything before the first test runs; from then on tests may print the same words.
            if !self.tests.have_begun() {
                self.compile.take(text);
            }
            if !text.trim().is_empty() {
                self.last_words.push_back(text.to_owned());
            }
            if self.last_words.len() > LAST_WORDS {
                self.last_words.pop_front();
            }
        }
        let (done, total) = self.tests.take(source, text);
        if done != self.told {
            self.told = done;
            log::progress("tests", done, total);
        }
    }

    fn finish(self, status: ExitStatus) -> Heard {
        let results = match self.tests {
            Tests::Libtest(parser) => parser.finish(status.success()),
            Tests::Nextest(parser) => parser.finish(status.success()),
        };
        Heard { status, results, compile: self.compile, last_words: self.last_words }
    }
}

stagewright_sdk::export_stage!(CargoTest);

#[cfg(test)]
mod tests;
