//! The exit codes of the process. Scripts rely on them: a code never changes its meaning.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// The command succeeded; so did the run, if the command drives one.
    Success = 0,
    /// The run ended, and a stage failed.
    RunFailed = 1,
    /// The command line is invalid (clap's own code for it), or names a run, stage or environment that doesn't exist.
    Usage = 2,
    /// The pipeline file has mistakes.
    InvalidPipeline = 3,
    /// Nothing was started: a plugin, an input, a secret or a permission is missing.
    NotReady = 4,
    /// The run is suspended at a gate. `stagewright approve` and then `stagewright resume` continue it.
    Waiting = 5,
    /// A person rejected a stage.
    Rejected = 6,
    /// An internal error or a fault of the machine, such as a full disk or an unreadable state folder.
    Internal = 7,
    /// What is in place differs from the release of the ledger.
    Drifted = 8,
    /// The run was cancelled (128 + SIGINT).
    Cancelled = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}
