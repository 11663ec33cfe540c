//! What the engine starts a front end's program for, beside the front end itself.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use stagewright_process::{sandbox, supervisor};

/// Carries out what this program was started for, if it wasn't by a person: to make sandboxes, or to supervise a service.
/// `arguments`: those of the process, with its name. To be called first in `main`: a process that makes sandboxes must have
/// one thread.
pub fn helper_main(arguments: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let arguments: Vec<OsString> = arguments.into_iter().skip(1).take(3).collect();
    match arguments.as_slice() {
        [word, ..] if word == sandbox::SUBCOMMAND => Some(sandbox::run()),
        [word, folder] if word == supervisor::SUBCOMMAND => Some(supervise(folder)),
        _ => None,
    }
}

fn supervise(folder: &OsStr) -> ExitCode {
    match supervisor::supervise(Path::new(folder)) {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
