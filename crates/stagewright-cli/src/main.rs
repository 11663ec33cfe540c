//! The `stagewright` command: the only place where the crates are put together.
//!
//! In flow arguments, the environment and files; out flow an exit code (see [`exit::Exit`]), results on standard output
//! and everything else on standard error.
//!
//! Architecture invariant: no rule of what a pipeline means and no scheduling lives here. What a server would need
//! too belongs below.

mod admission;
mod affected;
mod answers;
mod args;
mod binding;
mod cache;
mod clock;
mod command;
mod conduct;
mod diagnostics;
mod error;
mod exit;
mod host;
mod load;
mod lock_file;
mod package_hosts;
mod plugin;
mod policy;
mod repository;
mod screen;
mod secrets;
mod select;
mod signals;
mod source;

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use stagewright_process::sandbox;
use tracing_subscriber::EnvFilter;

use crate::args::{Cli, Command, Global};
use crate::error::CommandError;
use crate::exit::Exit;
use crate::repository::Repository;

fn main() -> ExitCode {
    // The processes of a sandbox must have one thread, and nothing to do with the rest.
    if std::env::args_os().nth(1).is_some_and(|word| word == sandbox::SUBCOMMAND) {
        return sandbox::run();
    }
    let cli = Cli::parse();
    trace(&cli.global);
    let mut out = std::io::stdout();
    let result = protect(&cli).and_then(|()| dispatch(&cli, &mut out)).and_then(|exit| {
        out.flush()?;
        Ok(exit)
    });
    match result {
        Ok(exit) => exit.into(),
        // Whoever read the output has seen enough, as `head` does.
        Err(error) if error.is_broken_pipe() => Exit::Success.into(),
        Err(error) => {
            let _ = std::io::stderr().write_all(error.render().as_bytes());
            error.exit.into()
        }
    }
}

/// Secrets get into this process by its environment, and by what it resolves.
fn protect(cli: &Cli) -> Result<(), CommandError> {
    // A supervisor does so itself, and leaves its service the limits.
    if matches!(cli.command, Command::Supervise { .. }) {
        return Ok(());
    }
    stagewright_process::protect()
        .map_err(|error| CommandError::internal("can't keep this process from being dumped").caused_by(error))
}

fn dispatch(cli: &Cli, out: &mut dyn Write) -> Result<Exit, CommandError> {
    let global = &cli.global;
    let repository = || Repository::find(global);
    match &cli.command {
        Command::Run(args) => command::run::run(global, &repository()?, args),
        Command::Resume(args) => command::resume::resume(global, &repository()?, args),
        Command::Rerun(args) => command::run::rerun(global, &repository()?, args),
        Command::Rollback(args) => command::rollback::rollback(global, &repository()?, args, out),
        Command::Cancel(args) => command::cancel::cancel(global, &repository()?, args, out),
        Command::Plan(args) => command::plan::plan(global, &repository()?, args, out),
        Command::Validate(args) => command::validate::validate(global, &repository()?, args, out),
        Command::Lock(args) => command::lock::lock(global, &repository()?, args, out),
        Command::Graph(args) => command::graph::graph(global, &repository()?, args, out),
        Command::Runs(args) => command::history::runs(&repository()?, args, out),
        Command::Explain(args) => command::explain::explain(&repository()?, args, out),
        Command::Logs(args) => command::history::logs(&repository()?, args, out),
        Command::Approve(args) => command::decide::decide(&repository()?, args, true, out),
        Command::Reject(args) => command::decide::decide(&repository()?, args, false, out),
        Command::Settle(args) => command::decide::settle(&repository()?, args, out),
        Command::Env(args) => command::environment::environment(&repository()?, args, out),
        Command::Gc(args) => command::gc::gc(&repository()?, args, out),
        Command::Show(args) => command::history::show(&repository()?, args),
        Command::Service(args) => command::service::service(&repository()?, args, out),
        Command::Plugin(args) => plugin::run(args, out).map(|()| Exit::Success).map_err(CommandError::from),
        Command::Completions { shell } => {
            clap_complete::generate(*shell, &mut Cli::command(), "stagewright", out);
            Ok(Exit::Success)
        }
        Command::Supervise { directory } => command::service::supervise(directory),
    }
}

/// `RUST_LOG` has the last word; `-v` and `-vv` are for those who don't know the crates' names.
fn trace(global: &Global) {
    let default = match global.verbose {
        0 => "error",
        1 => "stagewright=info,warn",
        _ => "stagewright=debug,info",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(true).init();
}
