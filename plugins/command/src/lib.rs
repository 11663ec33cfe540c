//! Runs a program, or a script in a shell. Its output streams to the log; what it tells other stages are its exit code,
//! what it prints (`capture`) and what it writes to a file (`outputs-file`).

mod outputs_file;
mod tail;

use std::collections::BTreeMap;

use serde::Deserialize;
use stagewright_sdk::process::{Command as Process, ExitStatus, Source};
use stagewright_sdk::{
    Capability, Diagnostic, Error, JsonSchema, Manifest, Outcome, Result, Stage, WorkspacePath, outputs, secrets,
    workspace,
};

use tail::Tail;

/// Bytes of standard output that `capture` takes.
const CAPTURE_LIMIT: usize = 1 << 20;

/// The stage's `with` table: `argv` or `run`.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(crate = "stagewright_sdk::schemars")]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// The program and its arguments.
    #[schemars(extend("x-stagewright-code" = "argv"))]
    pub argv: Option<Vec<String>>,
    /// A script for the shell.
    #[schemars(extend("x-stagewright-code" = "text"))]
    pub run: Option<String>,
    /// What `run` is handed to, as the last argument; `["sh", "-eu", "-c"]` unless set.
    #[schemars(extend("x-stagewright-code" = "argv"))]
    pub shell: Option<Vec<String>>,
    /// Where to start it, relative to the workspace.
    pub cwd: Option<WorkspacePath>,
    /// Variables of its environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Variables of its environment that hold a secret: the secret's name.
    #[serde(default)]
    pub secret_env: BTreeMap<String, String>,
    /// What it reads from standard input.
    #[schemars(extend("x-stagewright-code" = "stdin"))]
    pub stdin: Option<String>,
    /// The output that takes what it prints to standard output, without the last line end.
    pub capture: Option<String>,
    /// A file that it writes: lines of `name=value`, or of JSON objects, become outputs.
    pub outputs_file: Option<WorkspacePath>,
    /// Exit codes that count as success.
    #[serde(default = "zero")]
    pub exit_codes: Vec<i32>,
}

fn zero() -> Vec<i32> {
    vec![0]
}

/// The plugin.
#[derive(Debug)]
pub struct Command;

impl Stage for Command {
    type Config = Config;

    fn manifest() -> Manifest {
        Manifest::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
            .description(env!("CARGO_PKG_DESCRIPTION"))
            .output("exit-code", "The code with which it ended")
            .capability(Capability::Process)
            .capability(Capability::Secrets)
            .capability(Capability::Workspace)
    }

    fn validate(config: &Config) -> Vec<Diagnostic> {
        config.argv().err().into_iter().collect()
    }

    fn run(config: Config) -> Result<Outcome> {
        let argv = config.argv().map_err(|diagnostic| Error::invalid(diagnostic.message))?;
        if let Some(path) = &config.outputs_file {
            // What an earlier run left there must not become this one's outputs.
            workspace::remove(path)?;
        }
        let mut printed = Printed::default();
        let status = config.process(&argv)?.run_chunks(|source, data| printed.take(source, data))?;
        if let Some(code) = status.code {
            outputs::set("exit-code", &code)?;
        }
        if !status.code.is_some_and(|code| config.exit_codes.contains(&code)) {
            return Err(printed.failure(&argv, status));
        }
        if let Some(name) = &config.capture {
            outputs::set(name, &printed.captured()?)?;
        }
        if let Some(path) = &config.outputs_file {
            for (name, value) in outputs_file::read(path)? {
                outputs::set(&name, &value)?;
            }
        }
        Ok(Outcome::Succeeded)
    }
}

/// Bytes of an argument on Linux.
const LONGEST: usize = 32 * 4096 - 1;

impl Config {
    fn argv(&self) -> std::result::Result<Vec<String>, Diagnostic> {
        let wrong = |message: &str, path: &str| Err(Diagnostic::error("config", message).at(path));
        match (&self.argv, &self.run, &self.shell) {
            (Some(_), Some(_), _) => wrong("`argv` and `run` exclude each other", "run"),
            (Some(_), None, Some(_)) => wrong("`shell` goes with `run` only", "shell"),
            (Some(argv), None, None) if argv.is_empty() => wrong("`argv` names no program", "argv"),
            (Some(argv), None, None) => Ok(argv.clone()),
            (None, Some(_), Some(shell)) if shell.is_empty() => wrong("`shell` names no program", "shell"),
            (None, Some(script), _) if script.len() > LONGEST => {
                let message =
                    format!("`run` is too long: {} bytes, and Linux takes {LONGEST} in an argument", script.len());
                Err(Diagnostic::error("config", &message)
                    .at("run")
                    .help("put the script into a file of the repository: `run = \"sh ci/script.sh\"`, or grant it by its path"))
            }
            (None, Some(script), shell) => {
                let default = || ["sh", "-eu", "-c"].map(str::to_owned).to_vec();
                let mut argv = shell.clone().unwrap_or_else(default);
                argv.push(script.clone());
                Ok(argv)
            }
            (None, None, _) => Err(Diagnostic::error("config", "there is nothing to run")
                .help("set `argv = [\"program\", \"argument\"]` or `run = \"a shell script\"`")),
        }
    }

    fn process(&self, argv: &[String]) -> Result<Process> {
        let mut process = Process::new(&argv[0]);
        process.args(argv[1..].iter().cloned());
        for (name, value) in &self.env {
            process.env(name, value);
        }
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

/// What the program printed, as far as it is of use.
#[derive(Default)]
struct Printed {
    stdout: Vec<u8>,
    stdout_tail: Tail,
    stderr_tail: Tail,
}

impl Printed {
    fn take(&mut self, source: Source, data: &[u8]) {
        match source {
            Source::Stdout => {
                // One byte over the limit tells that there was more.
                let room = (CAPTURE_LIMIT + 1).saturating_sub(self.stdout.len());
                self.stdout.extend_from_slice(&data[..data.len().min(room)]);
                self.stdout_tail.push(data);
            }
            Source::Stderr => self.stderr_tail.push(data),
        }
    }

    /// Without the last line end.
    fn captured(&self) -> Result<String> {
        if self.stdout.len() > CAPTURE_LIMIT {
            return Err(Error::failed(format!("it printed more than the {CAPTURE_LIMIT} bytes that `capture` takes"))
                .help("have it write a file, and publish that as an artifact"));
        }
        let text = String::from_utf8_lossy(&self.stdout).replace("\r\n", "\n");
        Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned())
    }

    fn failure(self, argv: &[String], status: ExitStatus) -> Error {
        // A script's text is in the pipeline file already; its shell says enough.
        let program = &argv[0];
        let said = Some(self.stderr_tail.lines()).filter(|lines| !lines.is_empty());
        let said = said.unwrap_or_else(|| self.stdout_tail.lines());
        Error::failed(format!("`{program}` ended with {status}")).causes(said)
    }
}

stagewright_sdk::export_stage!(Command);

#[cfg(test)]
mod tests;
