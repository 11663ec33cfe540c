//! Runs programs of the toolchain.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{PluginBuildError, ToolError};
use stagewright_process::{Command, ExitStatus, Source};

/// Receives the messages of programs, as whole lines where possible.
pub type Progress<'a> = dyn FnMut(&str) -> io::Result<()> + 'a;

/// A program of the toolchain, which runs in a folder with the environment of this process.
#[derive(Debug)]
pub struct Tool {
    command: Command,
    limit: Duration,
}

impl Tool {
    /// The program at a path, to run in `folder` for at most an hour.
    pub fn new(program: PathBuf, folder: &Path) -> Tool {
        let env =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let command = Command { program, env: env.collect(), current_dir: folder.to_owned(), ..Command::default() };
        // Enough for a cold build of many plugins on a small machine.
        Tool { command, limit: Duration::from_secs(3600) }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<String>>) -> Tool {
        self.command.args.extend(args.into_iter().map(Into::into));
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl Into<String>) -> Tool {
        self = self.without_env(name);
        self.command.env.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn without_env(mut self, name: &str) -> Tool {
        self.command.env.retain(|(key, _)| key != name);
        self
    }

    pub(crate) fn limit(mut self, limit: Duration) -> Tool {
        self.limit = limit;
        self
    }

    /// Runs the program to its end. Passes the lines of its standard error to `progress`, and returns its standard output.
    ///
    /// # Errors
    /// If it can't be started, or takes longer than its limit.
    pub fn run(self, progress: &mut Progress<'_>) -> Result<(ExitStatus, Vec<u8>), PluginBuildError> {
        let program = self.command.program.display().to_string();
        self.try_run(progress).map_err(|source| PluginBuildError::Tool { program, source })
    }

    fn try_run(self, progress: &mut Progress<'_>) -> Result<(ExitStatus, Vec<u8>), ToolError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let Tool { command, limit } = self;
        let work = async {
            let mut child = command.spawn()?;
            let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
            while let Some((source, data)) = child.next_chunk().await {
                match source {
                    Source::Stdout => stdout.extend_from_slice(&data),
                    Source::Stderr => {
                        stderr.extend_from_slice(&data);
                        let end = stderr.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
                        let whole: Vec<u8> = stderr.drain(..end).collect();
                        progress(&String::from_utf8_lossy(&whole))?;
                    }
                }
            }
            progress(&String::from_utf8_lossy(&stderr))?;
            Ok((child.wait().await?, stdout))
        };
        let timed = runtime.block_on(async { tokio::time::timeout(limit, work).await });
        timed.unwrap_or(Err(ToolError::Timeout(limit.as_secs())))
    }
}

/// Looks up a program in `PATH`.
pub fn in_path(name: &str) -> Option<PathBuf> {
    stagewright_process::which(name, std::env::var_os("PATH").unwrap_or_default())
}
