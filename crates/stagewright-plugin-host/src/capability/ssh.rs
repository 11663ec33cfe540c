//! `ssh`: commands on the hosts of granted credentials.
//!
//! OpenSSH's client does the work, with options that no file and no guest can change: it accepts the host keys of the
//! pipeline file alone, and logs in by key alone. A guest has neither the key nor the connection. Values of secrets reach a
//! host through the standard input, never through a command line.
//!
//! Each attempt connects to a host at most once, when it runs its first command there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use stagewright_model::{CredentialKind, SshHost};

use self::client::{ProgramInput, SshPrograms};
use self::connection::HostConnection;
use self::place::RemotePlace;
use super::artifacts::Artifacts;
use super::credentials::SignerSource;
use super::effects::Effects;
use super::workspace::WorkspaceFiles;
use crate::attempt::AttemptContext;
use crate::blocking::blocking;
use crate::error::{CapabilityError, ErrorCode};
use crate::mask::{Audience, Masker};
use crate::policy::Policy;
use crate::rehearsal::Rehearsal;

mod client;
mod command;
mod connection;
mod failure;
mod place;

pub(crate) use command::CommandInput;
pub use command::RemoteCommand;
use command::{InputPiece, quoted};

/// How a command on a host ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteOutput {
    /// Its exit code; never 255, which stands for a lost connection.
    pub(crate) exit_code: i32,
    /// Its standard output, masked.
    pub(crate) stdout: Vec<u8>,
    /// Its standard error, masked.
    pub(crate) stderr: Vec<u8>,
}

/// The hosts on which an attempt may run commands, and its connections to them.
pub(crate) struct RemoteHosts {
    source: Arc<dyn SignerSource>,
    policy: Arc<Policy>,
    rehearsal: Rehearsal,
    effects: Effects,
    masker: Masker,
    workspace: WorkspaceFiles,
    artifacts: Artifacts,
    /// The stages whose artifacts may be sent.
    before: BTreeSet<String>,
    /// The folder in which no program of the client is looked for.
    root: PathBuf,
    environment: BTreeMap<String, String>,
    /// By credential and host.
    connections: BTreeMap<(String, String), HostConnection>,
}

impl RemoteHosts {
    pub(crate) fn for_attempt(attempt: &AttemptContext<'_>) -> RemoteHosts {
        let config = attempt.config();
        RemoteHosts {
            source: config.credentials.clone(),
            policy: attempt.policy.clone(),
            rehearsal: attempt.rehearsal.clone(),
            effects: attempt.effects.clone(),
            masker: attempt.log.masker().clone(),
            workspace: attempt.workspace.clone(),
            artifacts: Artifacts::for_attempt(attempt),
            before: attempt.request.before.clone(),
            root: config.workspace.clone(),
            environment: config.environment.clone(),
            connections: BTreeMap::new(),
        }
    }

    /// Runs a command and waits for its end.
    pub(crate) async fn run(&mut self, command: &RemoteCommand) -> Result<RemoteOutput, CapabilityError> {
        if let Some(fault) = &command.fault {
            return Err(fault.clone());
        }
        let RemoteCommand { credential, host, program, args, .. } = command;
        self.policy.credential(credential)?;
        let declared = self.declared(credential, host)?;
        let line = std::iter::once(program).chain(args).map(|word| quoted(word)).collect::<Result<Vec<_>, _>>()?;
        if !self.rehearsal.is_real_credential(credential) {
            let what = format!("would run `{program}` on `{host}`, with the credential `{credential}`");
            return self.rehearsal.withhold(what).await;
        }
        let input = self.input(command, &declared).await?;
        // Before the effect is announced: an attempt that could not connect has changed nothing.
        self.connect(credential, host, &declared).await?;
        // As for programs, the promise counts for `observe` alone.
        if !(command.read_only && self.effects.is_observing()) {
            self.effects.announce(&format!("run {program} on {host}")).await?;
        }
        let key = (credential.clone(), host.clone());
        let ended = match self.connections.get(&key) {
            Some(connection) => connection.run(&line.join(" "), input, command.timeout).await,
            None => Err(CapabilityError::new(ErrorCode::Internal, format!("there is no connection to `{host}`"))),
        };
        let output = match ended {
            Ok(output) => output,
            Err(error) => {
                // The next command connects again.
                self.connections.remove(&key);
                return Err(error);
            }
        };
        let masked = |data: &[u8]| self.masker.bytes(Audience::Guest, data);
        Ok(RemoteOutput { stdout: masked(&output.stdout), stderr: masked(&output.stderr), ..output })
    }

    /// Ends all connections. Commands that still run on a host aren't stopped by that.
    pub(crate) fn disconnect(&mut self) {
        self.connections.clear();
    }

    fn declared(&self, credential: &str, host: &str) -> Result<SshHost, CapabilityError> {
        let declared = self.source.declared(credential).ok_or_else(|| {
            CapabilityError::new(ErrorCode::NotFound, format!("unknown credential `{credential}`"))
                .with_help(format!("add a table [credentials.{credential}]"))
        })?;
        let CredentialKind::Ssh { hosts, .. } = &declared.kind else {
            let message = format!("the credential `{credential}` has the type `{}`, not `ssh`", declared.type_name());
            return Err(CapabilityError::new(ErrorCode::InvalidArgument, message)
                .with_help("use a credential with `type = \"ssh\"`"));
        };
        hosts.get(host).cloned().ok_or_else(|| {
            let known = hosts.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            let message = format!("the credential `{credential}` has no host `{host}`; it has {known}");
            CapabilityError::new(ErrorCode::NotFound, message)
                .with_help(format!("add a table [credentials.{credential}.hosts.{host}]"))
        })
    }

    /// What is sent to the command. Opened before anything runs, so that a missing file is no half-done effect.
    async fn input(&self, command: &RemoteCommand, to: &SshHost) -> Result<ProgramInput, CapabilityError> {
        Ok(match &command.input {
            CommandInput::Pieces(pieces) => {
                let mut data = Vec::new();
                for piece in pieces {
                    match piece {
                        InputPiece::Bytes(bytes) => data.extend_from_slice(bytes),
                        InputPiece::Secret(secret, encoding) => {
                            data.extend_from_slice(encoding.encode(secret.for_ssh(to.address.place())?).as_bytes());
                        }
                    }
                }
                ProgramInput::Bytes(data)
            }
            CommandInput::File(path) => {
                let path = path.clone();
                ProgramInput::File(self.workspace.off_thread(move |files| files.open(&path)).await?.into_std())
            }
            CommandInput::Artifact(name) => {
                let (artifacts, before, name) = (self.artifacts.clone(), self.before.clone(), name.clone());
                ProgramInput::File(blocking(move || artifacts.open(&name, &before)).await??)
            }
        })
    }

    async fn connect(&mut self, credential: &str, host: &str, declared: &SshHost) -> Result<(), CapabilityError> {
        let key = (credential.to_owned(), host.to_owned());
        if self.connections.get(&key).is_some_and(HostConnection::is_open) {
            return Ok(());
        }
        let client = SshPrograms::find(&self.environment, &self.root)?;
        let (source, name) = (self.source.clone(), credential.to_owned());
        let fetched = blocking(move || source.private_key(&name)).await?;
        let private_key = fetched.map_err(|error| {
            CapabilityError::new(ErrorCode::FailedPrecondition, error.message).with_help(error.help)
        })?;
        private_key.iter().for_each(|key| self.masker.add(key.clone(), false));
        let agent = self.environment.get("SSH_AUTH_SOCK").map(PathBuf::from);
        let place = RemotePlace { credential, host, declared };
        let connection = HostConnection::open(client, &place, private_key.as_ref(), agent).await?;
        self.connections.insert(key, connection);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
