//! One connection to one host.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use stagewright_model::SecretValue;
use stagewright_process::Child;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::RemoteOutput;
use super::client::{Ended, ProgramInput, SshPrograms, finish, program, start};
use super::failure::{REPORT, connection_failure, lost};
use super::place::RemotePlace;
use crate::error::{CapabilityError, ErrorCode};

/// Where the folder of a connection is. The path of a socket has at most 108 bytes, so it can't be below the state folder.
const TEMPORARY: &str = "/tmp";
/// The host's name in its own file of known hosts.
const ALIAS: &str = "pinned";
/// How long a connection may take, name resolution and login included.
const OPENING: Duration = Duration::from_secs(40);
/// Between two looks for a socket.
const INTERVAL: Duration = Duration::from_millis(5);

/// A connection, which ends when this is dropped.
pub(super) struct HostConnection {
    client: SshPrograms,
    folder: TempDir,
    /// As in `` `web1` (deploy@10.0.0.5) ``.
    shown: String,
    /// Reads what the process of the connection reports, which blocked it otherwise.
    reader: JoinHandle<()>,
}

impl Drop for HostConnection {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl HostConnection {
    /// Connects and logs in. `private_key`: none to use the agent at the socket `agent`.
    pub(super) async fn open(
        client: SshPrograms,
        to: &RemotePlace<'_>,
        private_key: Option<&SecretValue>,
        agent: Option<PathBuf>,
    ) -> Result<HostConnection, CapabilityError> {
        let failed = |error: std::io::Error| {
            CapabilityError::new(ErrorCode::Internal, "could not create the files of a connection").caused_by(&error)
        };
        let folder = tempfile::Builder::new().prefix("stagewright-ssh-").tempdir_in(TEMPORARY).map_err(failed)?;
        let keys = to.declared.host_keys.iter().map(|key| format!("{ALIAS} {key}\n")).collect::<String>();
        write_private(&folder.path().join("known_hosts"), &keys).map_err(failed)?;
        // It is needed for the login alone, and ends with this function.
        let (_own, agent) = match private_key {
            Some(key) => {
                let (process, socket) = private_agent(&client, folder.path(), to, key).await?;
                (Some(process), socket)
            }
            None => (None, agent.ok_or_else(|| without_agent(to))?),
        };
        let command = program(&client.ssh, options_to_connect(folder.path(), &agent, to), &[], folder.path());
        let mut child = start(command, ProgramInput::Bytes(Vec::new()))?;
        logged_in(&mut child, &folder.path().join("control"), to).await?;
        let reader = tokio::spawn(async move { while child.next_chunk().await.is_some() {} });
        let shown = format!("`{}` ({})", to.host, to.declared.address);
        Ok(HostConnection { client, folder, shown, reader })
    }

    /// Whether the connection hasn't been lost, as far as is known.
    pub(super) fn is_open(&self) -> bool {
        !self.reader.is_finished()
    }

    /// Runs a command line over it.
    pub(super) async fn run(
        &self,
        line: &str,
        input: ProgramInput,
        limit: Option<Duration>,
    ) -> Result<RemoteOutput, CapabilityError> {
        let control = self.folder.path().join("control").display().to_string();
        let mut args = ["-F", "none", "-T", "-S", &control].map(str::to_owned).to_vec();
        // Without the connection, the client would make another one by itself.
        args.extend(options(&[("ControlMaster", "no"), ("ProxyCommand", "false"), ("BatchMode", "yes")]));
        args.extend(["--", ALIAS, line].map(str::to_owned));
        let child = start(program(&self.client.ssh, args, &[], self.folder.path()), input)?;
        let what = format!("the command on {}", self.shown);
        let Ended { code, stdout, stderr } = finish(child, limit).await.map_err(|why| why.error(&what))?;
        match code {
            Some(exit_code) if exit_code != 255 => Ok(RemoteOutput { exit_code, stdout, stderr }),
            _ => Err(lost(&self.shown, &stderr)),
        }
    }
}

/// The arguments of the process that connects. Nothing is read from files of the user or the machine, nothing but the pinned
/// keys is accepted, and nothing but keys is offered.
fn options_to_connect(folder: &Path, agent: &Path, to: &RemotePlace<'_>) -> Vec<String> {
    let path = |name: &str| folder.join(name).display().to_string();
    let (control, known_hosts) = (path("control"), path("known_hosts"));
    let agent = agent.display().to_string();
    let place = to.declared.address.place();
    let port = place.port().to_string();
    let mut args = ["-F", "none", "-M", "-N", "-T", "-v", "-S", &control].map(str::to_owned).to_vec();
    args.extend(options(&[
        ("BatchMode", "yes"),
        ("CheckHostIP", "no"),
        ("ConnectTimeout", "15"),
        ("ControlPersist", "no"),
        ("GlobalKnownHostsFile", "/dev/null"),
        ("HostKeyAlias", ALIAS),
        ("IdentityAgent", &agent),
        ("IdentityFile", "none"),
        ("KbdInteractiveAuthentication", "no"),
        ("PasswordAuthentication", "no"),
        ("PreferredAuthentications", "publickey"),
        ("ServerAliveCountMax", "4"),
        ("ServerAliveInterval", "15"),
        ("StrictHostKeyChecking", "yes"),
        ("UpdateHostKeys", "no"),
        ("UserKnownHostsFile", &known_hosts),
        ("VerifyHostKeyDNS", "no"),
    ]));
    let host = place.host().trim_start_matches('[').trim_end_matches(']');
    args.extend(["-l", to.declared.address.user(), "-p", &port, "--", host].map(str::to_owned));
    args
}

fn options(all: &[(&str, &str)]) -> Vec<String> {
    all.iter().flat_map(|(name, value)| ["-o".to_owned(), format!("{name}={value}")]).collect()
}

/// Waits until the process has logged in, which is when it listens at `control`.
async fn logged_in(child: &mut Child, control: &Path, to: &RemotePlace<'_>) -> Result<(), CapabilityError> {
    let (mut report, begun) = (Vec::new(), Instant::now());
    loop {
        tokio::select! {
            chunk = child.next_chunk() => match chunk {
                Some((_, data)) => {
                    report.extend_from_slice(&data);
                    report.truncate(REPORT);
                }
                None => return Err(connection_failure(to, &String::from_utf8_lossy(&report))),
            },
            () = sleep(INTERVAL) => {}
        }
        if control.exists() {
            return Ok(());
        }
        if begun.elapsed() > OPENING {
            return Err(connection_failure(to, &String::from_utf8_lossy(&report)));
        }
    }
}

/// An agent that has the key in its memory and nothing else. The key is never on a disk.
async fn private_agent(
    client: &SshPrograms,
    folder: &Path,
    to: &RemotePlace<'_>,
    key: &SecretValue,
) -> Result<(Child, PathBuf), CapabilityError> {
    let socket = folder.join("agent");
    let args = vec!["-D".to_owned(), "-a".to_owned(), socket.display().to_string()];
    let agent = start(program(&client.agent, args, &[], folder), ProgramInput::Bytes(Vec::new()))?;
    let begun = Instant::now();
    while !socket.exists() {
        if begun.elapsed() > OPENING {
            return Err(CapabilityError::new(ErrorCode::Internal, "`ssh-agent` didn't start"));
        }
        sleep(INTERVAL).await;
    }
    // The file of a key ends with a line end, which sources of secrets may remove.
    let text = format!("{}\n", key.expose().trim_end()).into_bytes();
    let add = program(&client.add, vec!["-q".to_owned(), "-".to_owned()], &[("SSH_AUTH_SOCK", &socket)], folder);
    let added =
        finish(start(add, ProgramInput::Bytes(text))?, Some(OPENING)).await.map_err(|why| why.error("`ssh-add`"))?;
    if added.code == Some(0) {
        return Ok((agent, socket));
    }
    let message = format!("the key of the credential `{}` can't be used", to.credential);
    let help = "store a private key of OpenSSH without a passphrase as the secret, or use the keys of an agent";
    let error = CapabilityError::new(ErrorCode::FailedPrecondition, message).with_help(help);
    let why = String::from_utf8_lossy(&added.stderr).trim().to_owned();
    Err(CapabilityError { causes: vec![why], ..error })
}

fn without_agent(to: &RemotePlace<'_>) -> CapabilityError {
    let message = format!("the credential `{}` uses the keys of an agent, but SSH_AUTH_SOCK isn't set", to.credential);
    CapabilityError::new(ErrorCode::FailedPrecondition, message).with_help(format!(
        "start `ssh-agent` and add a key to it, or set `key` in [credentials.{}] to a secret",
        to.credential
    ))
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}
