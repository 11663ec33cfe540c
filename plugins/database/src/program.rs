//! The programs of databases, and what their failures mean.

use stagewright_sdk::process::{Command, Output};
use stagewright_sdk::{Error, ErrorCode, Requirement, Result, secrets};

/// How many lines of a program's messages an error has.
const SHOWN: usize = 8;

/// A program with its arguments, which say what it does and to what; none of them is a secret.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    name: &'static str,
    args: Vec<String>,
    /// The variable with a password, and the secret.
    password: Option<(&'static str, String)>,
}

impl Program {
    pub(crate) fn new(name: &'static str, args: impl IntoIterator<Item = impl Into<String>>) -> Program {
        Program { name, args: args.into_iter().map(Into::into).collect(), password: None }
    }

    pub(crate) fn password(self, variable: &'static str, secret: Option<&str>) -> Program {
        Program { password: secret.map(|secret| (variable, secret.to_owned())), ..self }
    }

    /// The grant for exactly this command.
    pub(crate) fn requirement(&self, reason: &str) -> Requirement {
        Requirement::command(self.name, &self.args).because(reason)
    }

    /// Runs it, with this text as its input. `doing` begins the error, as in `can't restore the backup`.
    pub(crate) fn run(&self, doing: &str, input: &str) -> Result<Output> {
        self.run_command(doing, &mut self.command(input)?)
    }

    /// As [`Program::run`], for an input that changes nothing.
    pub(crate) fn ask(&self, doing: &str, input: &str) -> Result<Output> {
        self.run_command(doing, self.command(input)?.read_only())
    }

    fn run_command(&self, doing: &str, command: &mut Command) -> Result<Output> {
        let output = command.quiet().output()?;
        match output.status.success() {
            true => Ok(output),
            false => Err(self.failed(doing, &output)),
        }
    }

    fn command(&self, input: &str) -> Result<Command> {
        let mut command = Command::new(self.name);
        command.args(self.args.iter().map(String::as_str)).stdin(input.as_bytes());
        if let Some((variable, secret)) = &self.password {
            command.secret_env(variable, &secrets::get(secret)?);
        }
        Ok(command)
    }

    /// The error for a program that failed, with what it said last.
    pub(crate) fn failed(&self, doing: &str, output: &Output) -> Error {
        let said = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let last = lines[lines.len().saturating_sub(SHOWN)..].iter().copied();
        let error = Error::failed(format!("{doing}: {} ended with {}", self.name, output.status)).causes(last);
        match cause(&said) {
            Some(Cause::Unreachable) => Error { code: ErrorCode::Unavailable, ..error }
                .help("check that the server runs, and that `host` and `port` are its address")
                .retryable(),
            Some(Cause::Login) => error.help("check `user`, and the value of `secret`").never_retry(),
            Some(Cause::OldProgram) => {
                error.help(format!("install a `{}` that is at least as new as the server", self.name)).never_retry()
            }
            Some(Cause::FullDisk) => error.help("free space where the server or the workspace is").never_retry(),
            None => error,
        }
    }
}

/// Why a program failed, as far as it has a remedy of its own.
enum Cause {
    Unreachable,
    Login,
    OldProgram,
    FullDisk,
}

fn cause(said: &str) -> Option<Cause> {
    let has = |texts: &[&str]| texts.iter().any(|text| said.contains(text));
    if has(&["No space left on device", "could not extend file"]) {
        Some(Cause::FullDisk)
    } else if has(&["server version mismatch", "unsupported version"]) {
        Some(Cause::OldProgram)
    } else if has(&["authentication failed", "no password supplied", "no pg_hba.conf entry", "does not exist\n"]) {
        Some(Cause::Login)
    } else if has(&[
        "Connection refused",
        "could not translate host name",
        "timeout expired",
        "starting up",
        "shutting down",
        "Connection reset",
        "closed the connection",
    ]) {
        Some(Cause::Unreachable)
    } else {
        None
    }
}
