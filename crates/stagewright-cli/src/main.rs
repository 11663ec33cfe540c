//! The `stagewright` command: a front end of sessions.
//!
//! The input is arguments, the environment and files. The output is an exit code (see [`exit::Exit`]), results on
//! standard output and everything else on standard error. A command parses its arguments, calls a session, and shows the
//! result.
//!
//! Architecture invariant: this crate contains neither the semantics of pipelines nor scheduling, nor anything else that
//! another front end would need: that belongs in `stagewright-session` or below.

mod answers;
mod args;
mod artifact_args;
mod command;
mod console;
mod diagnostics;
mod drive;
mod drive_args;
mod environment_args;
mod error;
mod exit;
mod global;
mod learn_args;
mod man;
mod plugin;
mod rollout_args;
mod run_args;
mod screen;
mod session;
mod signals;
mod time;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use stagewright_report::{Block, Printer};
use tracing_subscriber::EnvFilter;

use crate::args::{Cli, CliCommand};
use crate::error::CommandError;
use crate::exit::Exit;
use crate::global::Global;
use crate::session::block_on;

fn main() -> ExitCode {
    console::hook_panics();
    // The program also serves as the helper inside of sandboxes. A helper creates namespaces and forks, which takes a
    // process with a single thread, so this must come before anything that could start one.
    if let Some(code) = stagewright_session::helper_main(std::env::args_os()) {
        return code;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Success };
            return finish(console::show_usage(error).map_err(CommandError::from).map(|()| exit));
        }
    };
    trace(&cli.global);
    let mut out = console::out();
    let result = protect().and_then(|()| dispatch(&cli, &mut out)).and_then(|exit| {
        out.flush()?;
        Ok(exit)
    });
    finish(result)
}

/// Shows the error, if there is one, and returns the exit code.
fn finish(result: Result<Exit, CommandError>) -> ExitCode {
    match result {
        Ok(exit) => exit.into(),
        // A reader such as `head` closes the pipe when it has read enough, which isn't a failure.
        Err(error) if error.is_broken_pipe() => Exit::Success.into(),
        Err(error) => {
            console::show(&error.render());
            error.exit.into()
        }
    }
}

/// Keeps other processes of the user, stages included, from reading the memory of this one: it holds the environment and
/// the values of resolved secrets.
fn protect() -> Result<(), CommandError> {
    stagewright_process::protect()
        .map_err(|error| CommandError::internal("can't keep this process from being dumped").caused_by(error))
}

fn dispatch(cli: &Cli, out: &mut Printer) -> Result<Exit, CommandError> {
    let global = &cli.global;
    let session = || session::open(global);
    match &cli.command {
        CliCommand::Run(args) if args.learning.learn => block_on(command::learn::learn(global, &session()?, args, out)),
        CliCommand::Run(args) => block_on(command::run::run(global, &session()?, args)),
        CliCommand::Resume(args) => block_on(command::resume::resume(global, &session()?, args)),
        CliCommand::Rerun(args) => block_on(command::run::rerun(global, &session()?, args)),
        CliCommand::Rollback(args) => block_on(command::rollback::rollback(global, &session()?, args, out)),
        CliCommand::Promote(args) => block_on(command::promote::promote(global, &session()?, args, out)),
        CliCommand::Rollout(command) => block_on(command::rollout::rollout(global, &session()?, command, out)),
        CliCommand::Init(args) => command::init::init(&session()?, args, out),
        CliCommand::Cancel(args) => block_on(command::cancel::cancel(global, &session()?, args, out)),
        CliCommand::Plan(args) => block_on(command::plan::plan(&session()?, args, out)),
        CliCommand::Validate(args) => block_on(command::validate::validate(global, &session()?, args, out)),
        CliCommand::Grant(args) => block_on(command::grant::grant(&session()?, args, out)),
        CliCommand::Lock(args) => block_on(command::lock::lock(&session()?, args, out)),
        CliCommand::Graph(args) => command::graph::graph(&session()?, args, out),
        CliCommand::Runs(args) => command::history::runs(&session()?, args, out),
        CliCommand::Explain(args) => command::explain::explain(&session()?, args, out),
        CliCommand::Why(args) => command::why::why(&session()?, args, out),
        CliCommand::Logs(args) => command::logs::logs(&session()?, args, out),
        CliCommand::Artifacts(args) => command::artifacts::artifacts(&session()?, args, out),
        CliCommand::Approve(args) => command::decide::decide(&session()?, args, true, out),
        CliCommand::Reject(args) => command::decide::decide(&session()?, args, false, out),
        CliCommand::Settle(args) => command::decide::settle(&session()?, args, out),
        CliCommand::Signal(args) => command::signal::signal(&session()?, args, out),
        CliCommand::Env(args) => block_on(command::environment::environment(&session()?, args, out)),
        CliCommand::Gc(args) => command::gc::gc(&session()?, args, out),
        CliCommand::Show(args) => command::history::show(&session()?, args),
        CliCommand::Service(args) => block_on(command::service::service(global, &session()?, args, out)),
        CliCommand::Plugin(args) => plugin::run(args, session, out).map(|()| Exit::Success),
        CliCommand::Schema(args) => block_on(command::schema::schema(&session()?, args, out)),
        CliCommand::Man { folder } => man::write(Cli::command(), folder, out),
        CliCommand::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "stagewright", &mut script);
            out.verbatim(&Block::of(&String::from_utf8_lossy(&script)))?;
            Ok(Exit::Success)
        }
    }
}

/// Sets up tracing. `RUST_LOG` overrides `-v` and `-vv`, which need no knowledge of the crates' names.
fn trace(global: &Global) {
    let default = match global.verbose {
        0 => "error",
        1 => "stagewright=info,warn",
        _ => "stagewright=debug,info",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| console::TraceWriter).with_target(true).init();
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn completion_scripts_are_not_changed_by_escaping() {
        for shell in clap_complete::Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "stagewright", &mut script);
            let script = String::from_utf8(script).unwrap();
            assert_eq!(Block::of(&script).as_str().trim_end(), script.trim_end(), "{shell}");
        }
    }
}
