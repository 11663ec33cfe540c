//! The sandbox's processes alone, for the tests of this crate; `stagewright` has the same as a hidden subcommand.

use std::process::ExitCode;

fn main() -> ExitCode {
    stagewright_process::sandbox::run()
}
