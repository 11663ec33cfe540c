//! Builds the plugins in a folder into components: `build_plugins FOLDER OUT`.
//!
//! The build script of `stagewright-builtin-plugins` runs it where no prebuilt components are at hand.

use std::path::PathBuf;
use std::process::ExitCode;

use stagewright_plugin_build::{BuildOptions, build};

#[expect(clippy::print_stderr, reason = "a command line program speaks to its user")]
fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(plugins), Some(out)) = (arguments.next(), arguments.next()) else {
        eprintln!("error: expected a folder of plugins and a folder for their components");
        return ExitCode::FAILURE;
    };
    // Whether they can be stages is checked by the tests, which run them.
    let options = BuildOptions { out: Some(&out), profile: "guest", check: &|_| Ok(()) };
    let mut progress = |lines: &str| {
        eprint!("{lines}");
        Ok(())
    };
    match build(&[plugins], &options, &mut progress) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            error.hints().iter().for_each(|hint| eprintln!("  help: {hint}"));
            ExitCode::FAILURE
        }
    }
}
