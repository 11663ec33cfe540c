//! The `stagewright` command: the only place where the crates are put together.
//!
//! In flow arguments, the environment and files; out flow an exit code (see [`exit::Exit`]), results on standard output
//! and everything else on standard error.
//!
//! Architecture invariant: no rule of what a pipeline means and no scheduling lives here. What a server would need
//! too belongs below.

#[path = "../../stagewright-session/src/preflight.rs"]
mod admission;
#[path = "../../stagewright-session/src/affected.rs"]
mod affected;
mod answers;
mod args;
#[path = "../../stagewright-session/src/run_fingerprint.rs"]
mod binding;
#[path = "../../stagewright-session/src/cache.rs"]
mod cache;
#[path = "../../stagewright-session/src/clock.rs"]
mod clock;
mod command;
#[path = "../../stagewright-session/src/drive.rs"]
mod conduct;
mod console;
mod diagnostics;
mod error;
mod exit;
#[path = "../../stagewright-session/src/git/mod.rs"]
mod git;
#[path = "../../stagewright-session/src/host.rs"]
mod host;
#[path = "../../stagewright-session/src/load.rs"]
mod load;
#[path = "../../stagewright-session/src/lock_file.rs"]
mod lock_file;
#[path = "../../stagewright-session/src/packages.rs"]
mod packages;
mod plugin;
#[path = "../../stagewright-session/src/policy.rs"]
mod policy;
#[path = "../../stagewright-session/src/repository.rs"]
mod repository;
#[path = "../../stagewright-session/src/reserved.rs"]
mod reserved;
mod screen;
#[path = "../../stagewright-session/src/secrets.rs"]
mod secrets;
#[path = "../../stagewright-session/src/select.rs"]
mod select;
mod signals;
#[path = "../../stagewright-session/src/unmatched.rs"]
mod unmatched;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use stagewright_process::sandbox;
use stagewright_report::{Block, Printer};
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
    console::hook_panics();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Success };
            return finish(console::show_usage(error).map_err(CommandError::from).map(|()| exit));
        }
    };
    trace(&cli.global);
    let mut out = console::out();
    let result = protect(&cli).and_then(|()| dispatch(&cli, &mut out)).and_then(|exit| {
        out.flush()?;
        Ok(exit)
    });
    finish(result)
}

/// The exit code, after an error was shown.
fn finish(result: Result<Exit, CommandError>) -> ExitCode {
    match result {
        Ok(exit) => exit.into(),
        // Whoever read the output has seen enough, as `head` does.
        Err(error) if error.is_broken_pipe() => Exit::Success.into(),
        Err(error) => {
            console::show(&error.render());
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

fn dispatch(cli: &Cli, out: &mut Printer) -> Result<Exit, CommandError> {
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
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "stagewright", &mut script);
            out.verbatim(&Block::of(&String::from_utf8_lossy(&script)))?;
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
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| console::LineWriter).with_target(true).init();
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn completions_are_printed_as_they_are() {
        for shell in clap_complete::Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "stagewright", &mut script);
            let script = String::from_utf8(script).unwrap();
            assert_eq!(Block::of(&script).as_str().trim_end(), script.trim_end(), "{shell}");
        }
    }
}
