//! Automation of this repository: `cargo xtask COMMAND`.
//!
//! The input is the command line and the working tree; the output is calls of cargo and of the `stagewright` that this
//! tree builds, and the findings of [`tidy`]. No crate of the product depends on this one, and it depends on none of
//! them, so that it builds in seconds on a fresh clone.

#![expect(clippy::print_stderr, reason = "a command line program speaks to its user")]

mod bench;
mod cargo;
mod checks;
mod cluster;
mod dist;
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
    /// Build the engine and its plugins as needed, then run `stagewright` with the given arguments
    ///
    /// `run`, `plan` and `graph` mean the pipeline `release` when no pipeline is named.
    /// `STAGEWRIGHT_FEATURES` names the optional parts of the engine to build in, separated by commas: `age`, `aws`,
    /// `kubernetes`, `shared-cache`, or `full` for all.
    #[command(after_help = "Examples:\n  cargo xtask pipeline run --rehearse\n  cargo xtask pipeline plan self")]
    Pipeline {
        /// Arguments for `stagewright`, passed on unchanged
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
        arguments: Vec<OsString>,
    },
    /// Build the plugins in `plugins/` into WebAssembly components
    Plugins,
    /// Run all checks: formatting, lints, tidy, plugins, documentation tests, the sample's tests, all tests
    ///
    /// `STAGEWRIGHT_TEST_CLUSTER=1` includes the tests on Kubernetes, if `cargo xtask cluster up` has built it.
    Test,
    /// Like `test`, with nextest's profile `ci`, which writes `nextest/ci/junit.xml` in the target folder
    Ci,
    /// Check rules that the compiler doesn't: dependencies between crates, licences, forbidden calls, file lengths, names
    Tidy,
    /// Generate docs/stagewright.schema.json and docs/plugins from the model and the plugins
    Schema,
    /// Plant faults in copies of the engine, and show whether the simulator and the engine's tests detect them
    ///
    /// Takes some seconds for each mutant. Fails if one survives.
    #[command(after_help = "Examples:\n  cargo xtask mutants\n  cargo xtask mutants freeze --simulator-only")]
    Mutants(mutants::Options),
    /// Pack releases: an archive for each target, with manual pages, completions and licences, its SBOM and its checksum
    ///
    /// Packs for this machine's own target, and for musl if rustup has that target and `musl-gcc` is installed.
    Dist(dist::DistOptions),
    /// Run a Kubernetes of one node on this machine, for tests of deployments; see docs/cluster.md
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Run a benchmark against other tools; only figures of the same run can be compared
    Bench {
        /// The benchmark
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
        XtaskCommand::Dist(options) => dist::run(&options),
        XtaskCommand::Cluster(command) => cluster::run(&command),
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
