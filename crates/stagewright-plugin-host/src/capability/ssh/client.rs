//! OpenSSH's programs on this machine.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use stagewright_process::{Child, Command, Source, SpawnError, which_outside};
use tokio::time::timeout_at;

use crate::error::{CapabilityError, ErrorCode};
use crate::limits::ByteSize;

/// The most bytes of each output stream.
const OUTPUT: usize = 1 << 20;

/// The programs of the client. They aren't looked for in the workspace, where a stage could have put them.
#[derive(Clone, Debug)]
pub(super) struct SshPrograms {
    pub(super) ssh: PathBuf,
    pub(super) agent: PathBuf,
    pub(super) add: PathBuf,
}

/// The standard input of a program.
pub(super) enum ProgramInput {
    Bytes(Vec<u8>),
    File(File),
}

/// The end of a program and what it wrote.
pub(super) struct Ended {
    pub(super) code: Option<i32>,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
}

/// Why a program has no end.
pub(super) enum NoEnd {
    /// Its time is up.
    TimedOut(Duration),
    /// It wrote more than [`OUTPUT`].
    TooMuchOutput,
    /// It can't be waited for.
    Lost(std::io::Error),
}

impl SshPrograms {
    pub(super) fn find(
        environment: &BTreeMap<String, String>,
        workspace: &Path,
    ) -> Result<SshPrograms, CapabilityError> {
        let path = environment.get("PATH").map_or("", String::as_str);
        let find = |name: &str| {
            which_outside(name, path, workspace).ok_or_else(|| {
                let message = format!("program `{name}` not found in PATH ({path})");
                CapabilityError::new(ErrorCode::FailedPrecondition, message).with_help(
                    "install OpenSSH's client, which makes the connections: `apt-get install openssh-client`",
                )
            })
        };
        Ok(SshPrograms { ssh: find("ssh")?, agent: find("ssh-agent")?, add: find("ssh-add")? })
    }
}

/// A program of the client, with its environment and nothing else.
pub(super) fn program(path: &Path, args: Vec<String>, env: &[(&str, &Path)], folder: &Path) -> Command {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), value.display().to_string())).collect();
    Command { program: path.to_owned(), args, env, current_dir: folder.to_owned(), stdin: None }
}

pub(super) fn start(command: Command, input: ProgramInput) -> Result<Child, CapabilityError> {
    let started = match input {
        ProgramInput::Bytes(data) => Command { stdin: Some(data), ..command }.spawn(),
        ProgramInput::File(file) => command.spawn_reading(file),
    };
    started.map_err(|error: SpawnError| {
        CapabilityError::new(ErrorCode::Internal, error.to_string()).with_help(error.help())
    })
}

/// Waits until a program has ended. It is killed if that takes longer than `limit`.
pub(super) async fn finish(mut child: Child, limit: Option<Duration>) -> Result<Ended, NoEnd> {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let deadline = limit.and_then(|limit| Some((tokio::time::Instant::now().checked_add(limit)?, limit)));
    loop {
        let chunk = match deadline {
            None => child.next_chunk().await,
            Some((deadline, limit)) => match timeout_at(deadline, child.next_chunk()).await {
                Ok(chunk) => chunk,
                Err(_) => return Err(NoEnd::TimedOut(limit)),
            },
        };
        let Some((source, data)) = chunk else { break };
        let stream = if source == Source::Stdout { &mut stdout } else { &mut stderr };
        stream.extend_from_slice(&data);
        if stream.len() > OUTPUT {
            return Err(NoEnd::TooMuchOutput);
        }
    }
    let status = child.wait().await.map_err(NoEnd::Lost)?;
    Ok(Ended { code: status.code, stdout, stderr })
}

impl NoEnd {
    /// The error. `what`: the subject of its sentence, as in ``the command on `web1` ``.
    pub(super) fn error(self, what: &str) -> CapabilityError {
        match self {
            NoEnd::TimedOut(limit) => {
                let message = format!("{what} took longer than {limit:?}, and may still run");
                CapabilityError::new(ErrorCode::DeadlineExceeded, message)
            }
            NoEnd::TooMuchOutput => {
                let message = format!("the output of {what} exceeds {}", ByteSize(OUTPUT as u64));
                CapabilityError::new(ErrorCode::ResourceExhausted, message)
            }
            NoEnd::Lost(error) => {
                CapabilityError::new(ErrorCode::Internal, format!("{what} was lost")).caused_by(&error)
            }
        }
    }
}
