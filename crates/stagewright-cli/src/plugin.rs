//! `stagewright plugin`: lists, shows, creates, builds, checks and upgrades plugins.
//!
//! The input is folders of guest crates; the output is components, and lines about them. `stagewright-plugin-build`
//! compiles them, and [`check`] inspects the result. [`upgrade`] replaces the copy of the SDK in a crate by the one in
//! [`sdk`], which [`new`] writes as well. [`catalog`] shows the plugins that a repository can use, and [`page`] describes
//! one.
//!
//! Architecture invariant: nothing here runs a plugin, except for its `describe`.

mod build;
mod catalog;
mod check;
mod component;
mod describe;
mod error;
mod git;
mod migration;
mod new;
mod page;
mod sdk;
mod upgrade;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use stagewright_report::Printer;
use stagewright_session::Session;

use crate::error::CommandError;
use crate::session::block_on;

pub(crate) use error::PluginCommandError;

#[derive(Debug, Args)]
pub(crate) struct PluginArgs {
    #[command(subcommand)]
    command: PluginCommand,
}

#[derive(Debug, Subcommand)]
enum PluginCommand {
    /// List the built-in plugins, and those that this repository's pipelines use
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show a plugin's `with` table, outputs and permissions, and a stage that uses it
    Show(ShowPluginArgs),
    /// Create a plugin: a crate that builds and tests on its own
    New(NewArgs),
    /// Build plugins into components
    Build(BuildArgs),
    /// Check a built plugin's imports, exports and manifest
    Check(CheckArgs),
    /// Upgrade the copy of the SDK in plugins to that of this program
    ///
    /// Lists the places in the plugin's code that a new contract affects, with what to write instead. A copy is replaced
    /// only if git can restore it: review the upgrade with `git diff`.
    Upgrade(UpgradeArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ShowPluginArgs {
    /// The plugin, as `uses` names it
    pub(crate) plugin: String,
    /// Print a page in Markdown
    #[arg(long, conflicts_with = "json")]
    pub(crate) markdown: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
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

#[derive(Debug, Args)]
struct UpgradeArgs {
    /// Folders of plugins, or folders that contain such [default: this one, else `plugins`]
    paths: Vec<PathBuf>,
    /// Write nothing, and fail if a copy is out of date
    #[arg(long)]
    check: bool,
    /// Replace copies that have uncommitted changes or aren't in a git repository, and keep each beside it as `NAME.orig`
    #[arg(long, conflicts_with = "check")]
    allow_dirty: bool,
}

/// Executes the command. Results are written to `out`, progress to standard error.
pub(crate) fn run(
    args: &PluginArgs,
    session: impl FnOnce() -> Result<Session, CommandError>,
    out: &mut Printer,
) -> Result<(), CommandError> {
    match &args.command {
        PluginCommand::List { json } => block_on(catalog::list(&session()?, *json, out))?,
        PluginCommand::Show(args) => block_on(catalog::show(&session()?, args, out))?,
        PluginCommand::New(args) => new::run(args, out)?,
        PluginCommand::Build(args) => build::run(args, out)?,
        PluginCommand::Check(args) => check::run(args, out)?,
        PluginCommand::Upgrade(args) => upgrade::run(args, out)?,
    }
    Ok(())
}
