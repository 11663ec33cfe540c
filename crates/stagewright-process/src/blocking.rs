//! For callers that have nothing else to do meanwhile. Not to be called from within an async runtime.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::time::timeout;

use crate::child::{Child, SignalScope, Source};
use crate::command::{Command, SpawnError};
use crate::exit_status::ExitStatus;
use crate::guard;
use crate::sandbox::Sandbox;

/// What each stream may amount to.
const CAPTURE_LIMIT: usize = 64 * 1024 * 1024;

/// A process that ran to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// All of its standard output.
    pub stdout: Vec<u8>,
    /// All of its standard error.
    pub stderr: Vec<u8>,
}

/// Why a process did not run to its end.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum RunError {
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    #[error("`{program}` was stopped: it took longer than {} s", limit.as_secs_f64())]
    Timeout { program: String, limit: Duration },
    #[error("`{program}` was stopped: it wrote more than {CAPTURE_LIMIT} bytes")]
    TooMuchOutput { program: String },
    #[error("`{program}` could not be waited for: {source}")]
    System { program: String, source: io::Error },
}

/// Runs a process with its output captured.
pub fn run_to_end(command: Command, limit: Duration) -> Result<Output, RunError> {
    run_captured(command, limit, Command::spawn)
}

/// The same in a sandbox, with the paths of its inside.
pub fn run_in_sandbox(sandbox: &Sandbox, command: Command, limit: Duration) -> Result<Output, RunError> {
    run_captured(command, limit, |command| sandbox.spawn(command))
}

fn run_captured(
    command: Command,
    limit: Duration,
    spawn: impl FnOnce(Command) -> Result<Child, SpawnError>,
) -> Result<Output, RunError> {
    let program = command.program.display().to_string();
    block_on(&program, limit, async {
        let mut child = spawn(command)?;
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        while let Some((source, data)) = child.next_chunk().await {
            let stream = if source == Source::Stdout { &mut stdout } else { &mut stderr };
            stream.extend_from_slice(&data);
            if stream.len() > CAPTURE_LIMIT {
                return Err(RunError::TooMuchOutput { program: program.clone() });
            }
        }
        let status = child.wait().await.map_err(|source| RunError::System { program: program.clone(), source })?;
        Ok(Output { status, stdout, stderr })
    })
}

/// Runs a process on this process's own terminal and in its own group, so that Ctrl-C reaches both.
/// [`Command::stdin`] is not looked at.
pub fn run_inherited(command: &Command, limit: Duration) -> Result<ExitStatus, RunError> {
    let program = command.program.display().to_string();
    block_on(&program, limit, async {
        guard::prepare().map_err(|error| command.explain(error))?;
        let process = command.native()?.spawn().map_err(|error| command.explain(error))?;
        let system = |source| RunError::System { program: program.clone(), source };
        Child::adopt(process, None, SignalScope::Process).map_err(system)?.wait().await.map_err(system)
    })
}

fn block_on<T>(program: &str, limit: Duration, work: impl Future<Output = Result<T, RunError>>) -> Result<T, RunError> {
    let program = || program.to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| RunError::System { program: program(), source })?;
    runtime
        .block_on(async { timeout(limit, work).await })
        .unwrap_or_else(|_| Err(RunError::Timeout { program: program(), limit }))
}
