//! The helper processes that the engine starts from a front end's program.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use stagewright_plugin_host::service::proxy;
use stagewright_process::{sandbox, supervisor};

/// Runs a helper, if the engine started this process as one: to create sandboxes, to supervise a service, or to be its
/// proxy. Returns its exit code, or none in an ordinary process. `arguments` are those of the process, including its name. Must be
/// called first in `main`, because a process that creates sandboxes must have a single thread.
pub fn helper_main(arguments: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let arguments: Vec<OsString> = arguments.into_iter().skip(1).take(3).collect();
    match arguments.as_slice() {
        [word, ..] if word == sandbox::SUBCOMMAND => Some(sandbox::run()),
        [word, folder] if word == supervisor::SUBCOMMAND => Some(exit_code(supervisor::supervise(Path::new(folder)))),
        [word, folder] if word == proxy::SUBCOMMAND => Some(exit_code(proxy::serve(Path::new(folder)))),
        _ => None,
    }
}

fn exit_code(code: i32) -> ExitCode {
    match code {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
