//! What the process's exit code means. Scripts rely on these: a code never changes its meaning.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// It did what it was asked; a run succeeded.
    Success = 0,
    /// The run came to its end, and a stage failed.
    RunFailed = 1,
    /// The command line is wrong (as clap has it), or names a run, stage or environment that does not exist.
    Usage = 2,
    /// The pipeline file has mistakes.
    InvalidPipeline = 3,
    /// Nothing was started: a plugin, an input, a secret or a permission is missing.
    NotReady = 4,
    /// The run waits for a person. `stagewright approve` and `stagewright resume` go on with it.
    Waiting = 5,
    /// A person said no.
    Rejected = 6,
    /// The machine is at fault: a disk, the state folder, a defect.
    Internal = 7,
    /// The run was cancelled (128 + SIGINT).
    Cancelled = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}
