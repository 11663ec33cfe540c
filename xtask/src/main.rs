//! Automation of this repository: `cargo xtask COMMAND`.
//!
//! In flow the command line and the working tree; out flow calls of cargo and of the `stagewright` that this tree
//! builds, and the findings of [`tidy`]. Nothing of the product depends on this crate, and it depends on none of the
//! product's crates, so that it builds in seconds on a fresh clone.

#![expect(clippy::print_stderr, reason = "a command line program speaks to its user")]

mod bench;
mod cargo;
mod checks;
mod mutants;
mod packages;
mod pipeline;
mod schema;
mod tidy;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Automation of this repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct XtaskArguments {
    #[command(subcommand)]
    command: XtaskCommand,
}

#[derive(Subcommand)]
enum XtaskCommand {
    /// Builds the engine and its plugins as needed, then runs `stagewright` with the arguments given here
    ///
    /// `run`, `plan` and `graph` mean the pipeline `release` when no pipeline is named.
    #[command(after_help = "Examples:\n  cargo xtask pipeline run --rehearse\n  cargo xtask pipeline plan self")]
    Pipeline {
        /// Handed on as they are
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
        arguments: Vec<OsString>,
    },
    /// Builds the plugins in `plugins/` to WebAssembly components
    Plugins,
    /// Every check there is: formatting, lints, tidy, plugins, documentation tests, the sample's tests, all tests
    Test,
    /// As `test`, with nextest's profile `ci`, which writes `nextest/ci/junit.xml` below the target folder
    Ci,
    /// Checks what the compiler can't: dependencies between crates, licences, forbidden calls, file lengths
    Tidy,
    /// Writes docs/stagewright.schema.json anew from the model
    Schema,
    /// Plants faults in copies of the engine, and shows whether the simulator and the engine's tests notice them
    ///
    /// Takes some seconds for each mutant. Fails when one is alive.
    #[command(after_help = "Examples:\n  cargo xtask mutants\n  cargo xtask mutants freeze --simulator-only")]
    Mutants(mutants::Options),
    /// Measures side by side, in release builds; figures of one run alone can be compared
    Bench {
        /// What is measured
        subject: bench::Subject,
    },
}

fn main() -> ExitCode {
    let result = match XtaskArguments::parse().command {
        XtaskCommand::Pipeline { arguments } => pipeline::run(&arguments),
        XtaskCommand::Plugins => pipeline::build_for_tests(),
        XtaskCommand::Test => checks::run(checks::Profile::Local),
        XtaskCommand::Ci => checks::run(checks::Profile::Ci),
        XtaskCommand::Tidy => tidy::run(),
        XtaskCommand::Schema => schema::write(),
        XtaskCommand::Mutants(options) => mutants::run(&options),
        XtaskCommand::Bench { subject } => bench::measure(subject),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}
