//! `stagewright plugin`: creates, builds and checks plugins.
//!
//! The input is folders of guest crates; the output is components, and lines about them. Rust is compiled to a core
//! module, which is then encoded as a component: [`guest`] finds the crates, [`fingerprint`] determines whether anything
//! changed, [`toolchain`] finds or installs a compiler for wasm, and [`build`] uses all of them. [`check`] inspects the
//! result.
//!
//! Architecture invariant: nothing here runs a plugin, except for its `describe`.

mod build;
mod check;
mod component;
mod describe;
mod error;
mod fingerprint;
mod guest;
mod new;
mod tool;
mod toolchain;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use stagewright_report::Printer;

pub(crate) use error::PluginCommandError;

#[derive(Debug, Args)]
pub(crate) struct PluginArgs {
    #[command(subcommand)]
    command: PluginCommand,
}

#[derive(Debug, Subcommand)]
enum PluginCommand {
    /// Create a plugin: a crate that builds and tests on its own
    New(NewArgs),
    /// Build plugins into components
    Build(BuildArgs),
    /// Check a built plugin's imports, exports and manifest
    Check(CheckArgs),
}

#[derive(Debug, Args)]
struct NewArgs {
    /// The plugin's name: lower-case letters, digits and hyphens
    name: String,
    /// Where to create its folder
    #[arg(long, value_name = "DIR", default_value = ".")]
    path: PathBuf,
    /// Use the SDK in this folder instead of a copy inside the plugin
    #[arg(long, value_name = "DIR")]
    sdk: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct BuildArgs {
    /// Folders of plugins, or folders that contain such [default: this one, else `plugins`]
    paths: Vec<PathBuf>,
    /// Write DIR/NAME.wasm instead of `plugin.wasm` in the plugin's folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The profile that Cargo builds with
    #[arg(long, value_name = "PROFILE", default_value = "guest")]
    release_profile: String,
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// Components, or folders with a `plugin.wasm` [default: this one, else those in `plugins`]
    paths: Vec<PathBuf>,
}

/// Executes the command. Results are written to `out`, progress to standard error.
pub(crate) fn run(args: &PluginArgs, out: &mut Printer) -> Result<(), PluginCommandError> {
    match &args.command {
        PluginCommand::New(args) => new::run(args, out),
        PluginCommand::Build(args) => build::run(args, out),
        PluginCommand::Check(args) => check::run(args, out),
    }
}
