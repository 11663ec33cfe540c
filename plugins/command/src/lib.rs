//! Runs a program, or a script in a shell. Its output streams to the log. The stage's outputs are the exit code, captured
//! standard output (`capture`), and values that the program writes to a file (`outputs-file`).

mod outputs_file;
mod tail;

use std::collections::BTreeMap;

use serde::Deserialize;
use stagewright_sdk::process::{Command as Process, ExitStatus, Source};
use stagewright_sdk::{
    Error, JsonSchema, Manifest, Outcome, Problem, Requirement, Result, Stage, WorkspacePath, outputs, schemars,
    secrets, workspace,
};

use tail::Tail;

/// Limit in bytes for `capture`.
const CAPTURE_LIMIT: usize = 1 << 20;

/// The stage's `with` table: `argv` or `run`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// The program and its arguments.
    #[schemars(extend("x-stagewright-code" = "argv"))]
    pub argv: Option<Vec<String>>,
    /// A script for the shell.
    #[schemars(extend("x-stagewright-code" = "text"))]
    pub run: Option<String>,
    /// The command that `run` is appended to as the last argument. Default: `["sh", "-eu", "-c"]`.
    #[schemars(extend("x-stagewright-code" = "argv"))]
    pub shell: Option<Vec<String>>,
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
        stagewright_sdk::manifest!().output::<i32>("exit-code", "The program's exit code").open_outputs()
    }

    fn validate(config: &Config) -> Vec<Problem> {
        config.argv().err().into_iter().collect()
    }

    fn requirements(config: &Config) -> Vec<Requirement> {
        let program = config.argv().ok().map(|argv| Requirement::command(&argv[0], &argv[1..]).because("is started"));
        let secrets = config.secret_env.iter().map(|(variable, secret)| {
            Requirement::secret_env(secret).because(format!("the program gets it as {variable}"))
        });
        let outputs = config
            .outputs_file
            .iter()
            .map(|path| Requirement::write(path.as_str()).because("the program writes its outputs to it"));
        program.into_iter().chain(secrets).chain(outputs).collect()
    }

    fn run(config: Config) -> Result<Outcome> {
        let argv = config.argv().map_err(|problem| Error::from(vec![problem]))?;
        if let Some(path) = &config.outputs_file {
            // A file that an earlier run left must not become this run's outputs.
            workspace::remove(path)?;
        }
        let mut printed = Printed::default();
        let status = config.process(&argv)?.run_chunks(|source, data| printed.push(source, data))?;
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

/// The longest argument that Linux accepts, in bytes, without the closing zero byte.
const MAX_ARGUMENT: usize = 32 * 4096 - 1;

impl Config {
    fn argv(&self) -> std::result::Result<Vec<String>, Problem> {
        let wrong = |message: &str, key: &str| Err(Problem::at(key, message));
        match (&self.argv, &self.run, &self.shell) {
            (Some(_), Some(_), _) => wrong("`argv` and `run` can't be combined", "run"),
            (Some(_), None, Some(_)) => wrong("`shell` requires `run`", "shell"),
            (Some(argv), None, None) if argv.is_empty() => wrong("`argv` is empty", "argv"),
            (Some(argv), None, None) => Ok(argv.clone()),
            (None, Some(_), Some(shell)) if shell.is_empty() => wrong("`shell` is empty", "shell"),
            (None, Some(script), _) if script.len() > MAX_ARGUMENT => {
                let message =
                    format!("`run` has {} bytes, and an argument has at most {MAX_ARGUMENT} on Linux", script.len());
                Err(Problem::at("run", message).help(
                    "move the script to a file of the repository, as in `run = \"sh ci/script.sh\"`, or make it \
                           executable and grant it by its path",
                ))
            }
            (None, Some(script), shell) => {
                let default = || ["sh", "-eu", "-c"].map(str::to_owned).to_vec();
                let mut argv = shell.clone().unwrap_or_else(default);
                argv.push(script.clone());
                Ok(argv)
            }
            (None, None, _) => Err(Problem::error("neither `argv` nor `run` is set")
                .help("set `argv = [\"program\", \"argument\"]` or `run = \"a shell script\"`")),
        }
    }

    fn process(&self, argv: &[String]) -> Result<Process> {
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

/// The parts of the program's output that the stage uses.
#[derive(Default)]
struct Printed {
    stdout: Vec<u8>,
    stdout_tail: Tail,
    stderr_tail: Tail,
}

impl Printed {
    fn push(&mut self, source: Source, data: &[u8]) {
        match source {
            Source::Stdout => {
                // Keep one byte more than the limit, to detect that the output exceeds it.
                let room = (CAPTURE_LIMIT + 1).saturating_sub(self.stdout.len());
                self.stdout.extend_from_slice(&data[..data.len().min(room)]);
                self.stdout_tail.push(data);
            }
            Source::Stderr => self.stderr_tail.push(data),
        }
    }

    /// Standard output as text, without the last line end.
    fn captured(&self) -> Result<String> {
        if self.stdout.len() > CAPTURE_LIMIT {
            return Err(Error::failed(format!(
                "the program printed more than {CAPTURE_LIMIT} bytes, the limit of `capture`"
            ))
            .help("write a file instead, and publish it as an artifact"));
        }
        let text = String::from_utf8_lossy(&self.stdout).replace("\r\n", "\n");
        Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned())
    }

    fn failure(self, argv: &[String], status: ExitStatus) -> Error {
        // For a script this is only the shell; the script itself is in the pipeline file.
        let program = &argv[0];
        let last_lines = Some(self.stderr_tail.lines()).filter(|lines| !lines.is_empty());
        let last_lines = last_lines.unwrap_or_else(|| self.stdout_tail.lines());
        Error::failed(format!("`{program}` ended with {status}")).causes(last_lines)
    }
}

stagewright_sdk::export_stage!(Command);

#[cfg(test)]
mod tests;
