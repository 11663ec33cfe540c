//! Scripted hosts behind SSH.

use std::cell::RefCell;
use std::time::Duration;

use super::files::{artifacts, file};
use super::secrets::Secret;
use super::types;
use crate::fake::report::RemoteCommand;
use crate::fake::script::SshScript;
use crate::fake::state::{Interface, State, on};
use crate::{Error, ErrorCode, Permission, Result};

type Answer<T> = std::result::Result<T, types::Error>;

#[derive(Debug)]
pub(crate) struct Command {
    command: RefCell<RemoteCommand>,
    source: RefCell<InputSource>,
}

/// Where the input is from, unless it was appended.
#[derive(Clone, Debug, Default)]
enum InputSource {
    #[default]
    Appended,
    File(String),
    Artifact(String),
}

impl Command {
    pub(crate) fn new(credential: &str, host: &str, program: &str) -> Command {
        let [credential, host, program] = [credential, host, program].map(str::to_owned);
        let command = RemoteCommand { credential, host, program, ..RemoteCommand::default() };
        Command { command: RefCell::new(command), source: RefCell::default() }
    }

    pub(crate) fn args(&self, args: &[String]) {
        self.command.borrow_mut().args.extend_from_slice(args);
    }

    pub(crate) fn input(&self, data: &[u8]) {
        *self.source.borrow_mut() = InputSource::Appended;
        self.command.borrow_mut().input.extend_from_slice(data);
    }

    pub(crate) fn input_secret(&self, value: &Secret, _encoding: &str) {
        self.input(format!("{{secret {}}}", value.name).as_bytes());
        let mut command = self.command.borrow_mut();
        command.secrets.push(value.name.clone());
    }

    pub(crate) fn input_file(&self, path: &str) {
        self.replace(InputSource::File(path.to_owned()));
    }

    pub(crate) fn input_artifact(&self, name: &str) {
        self.replace(InputSource::Artifact(name.to_owned()));
    }

    fn replace(&self, source: InputSource) {
        let mut command = self.command.borrow_mut();
        command.input.clear();
        command.secrets.clear();
        *self.source.borrow_mut() = source;
    }

    pub(crate) fn timeout_ms(&self, timeout: u64) {
        self.command.borrow_mut().timeout = Some(Duration::from_millis(timeout));
    }

    pub(crate) fn read_only(&self) {
        self.command.borrow_mut().read_only = true;
    }

    pub(crate) fn run(&self) -> Answer<Output> {
        let command = self.command.borrow().clone();
        on(|host| Ok(run(host, command, &self.source.borrow())?))
    }
}

fn run(host: &mut State, mut command: RemoteCommand, source: &InputSource) -> Result<Output> {
    let RemoteCommand { credential, host: to, program, args, .. } = &command;
    host.grant(Permission::Credentials, &[credential], &format!("use the credential `{credential}`"))?;
    host.fault(Interface::Ssh, to)?;
    if std::iter::once(program).chain(args).any(|word| word.contains('\0')) {
        let message = "an argument of a command on a host has a zero byte, which ends it there";
        return Err(Error::invalid(message).help("send it as input"));
    }
    let fits = |script: &SshScript| script.host == *to && (script.word == *program || args.contains(&script.word));
    let script = host.remote_scripts.next(fits).ok_or_else(|| {
        let message = format!("the fake host has no script for `{program} {}` on `{to}`", args.join(" "));
        Error::new(ErrorCode::Unavailable, message).retryable()
    })?;
    let announced = format!("run {program} on {to}");
    match source {
        InputSource::Appended => {}
        InputSource::File(path) => command.input = file(host, path)?.to_vec(),
        InputSource::Artifact(name) => command.input = artifacts::content(host, name)?,
    }
    if !command.read_only {
        host.announce(&announced)?;
    }
    let limit = command.timeout.filter(|limit| *limit < script.takes);
    let shown = format!("the command on `{}`", command.host);
    host.remote_commands.push(command);
    host.pass(limit.unwrap_or(script.takes));
    match (limit, script.error) {
        (Some(limit), _) => {
            let message = format!("{shown} took longer than {limit:?}, and may still run");
            Err(Error::new(ErrorCode::DeadlineExceeded, message))
        }
        (None, Some(error)) => Err(error),
        (None, None) => Ok(Output { exit_code: script.exit_code, stdout: script.stdout, stderr: script.stderr }),
    }
}

#[derive(Debug)]
pub(crate) struct Output {
    exit_code: i32,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Output {
    pub(crate) fn exit_code(&self) -> i32 {
        self.exit_code
    }

    pub(crate) fn stdout(&self) -> Vec<u8> {
        self.stdout.clone()
    }

    pub(crate) fn stderr(&self) -> Vec<u8> {
        self.stderr.clone()
    }
}
