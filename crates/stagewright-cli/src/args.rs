//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use stagewright_model::range;

use crate::artifact_args::{ARTIFACTS_EXAMPLES, ArtifactsArgs};
use crate::drive_args::{DriveArgs, OutputFormat, within};
use crate::environment_args::EnvCommand;
use crate::error::CommandError;
use crate::global::Global;
use crate::plugin::PluginArgs;
use crate::rollout_args::RolloutCommand;
use crate::run_args::{PipelineArgs, RerunArgs, RunArgs};

/// Runs build and deploy pipelines whose stages are WASM plugins that can touch only what the pipeline grants.
#[derive(Debug, Parser)]
#[command(name = "stagewright", version, max_term_width = 100, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: CliCommand,
}

/// The first steps are last, because the help is longer than most screens.
const AFTER_HELP: &str = "\
Exit codes: 0 success, 1 the run failed, 2 wrong command line, 3 mistakes in the pipeline file, 4 not ready (a plugin, \
input, secret or permission is missing), 5 the run is suspended at a gate, 6 rejected, 7 an internal error or a fault \
of the machine, 8 an environment differs from its release, 130 cancelled.

First steps, in a repository:
  stagewright init   writes a pipeline with the checks that the repository uses
  stagewright plan   shows its stages, and what each of them may do
  stagewright run    runs them";

#[derive(Debug, Subcommand)]
pub(crate) enum CliCommand {
    /// Write a pipeline for this repository
    ///
    /// It has stages for the checks that the repository already uses: those of Cargo, the scripts in package.json, pytest, go
    /// and Dockerfile. What each stage may do is in the file, and `stagewright plan` shows it.
    Init(InitArgs),
    /// Run a pipeline
    Run(RunArgs),
    /// Continue a waiting, failed or interrupted run from its original inputs
    Resume(ResumeArgs),
    /// Start a new run with the inputs of an earlier one
    Rerun(RerunArgs),
    /// Roll an environment back to its last known-good release
    Rollback(RollbackArgs),
    /// Deploy what is known good in one environment to another, by digest
    ///
    /// A new run has the pipeline, the inputs and the outputs of the run that deployed the release. Of its stages, those run
    /// that act on the other environment, with its approvers, freezes and locks, and gates before them that are still
    /// open.
    Promote(PromoteArgs),
    /// Show, promote and abort rollouts: deploys that give a new version its requests step by step
    #[command(subcommand)]
    Rollout(RolloutCommand),
    /// Cancel a run
    Cancel(CancelArgs),
    /// Show the stages in order, the permissions of each, and what isn't sandboxed
    Plan(PlanArgs),
    /// Check pipeline files, and every stage's `with` table with its plugin
    Validate(ValidateArgs),
    /// Add the permissions that stages lack to the pipeline file
    ///
    /// They are those that the stages' plugins say they will use, and those that a run was denied. The change is shown, and
    /// written only after a confirmation; comments and order stay as they are.
    Grant(GrantArgs),
    /// Record what pipelines may do in stagewright.lock
    Lock(LockArgs),
    /// Draw the stages and their needs
    Graph(GraphArgs),
    /// List runs
    Runs(RunsArgs),
    /// Replay a run's output
    Show(ShowArgs),
    /// Explain why a stage ran or came from the cache
    Explain(ExplainArgs),
    /// Show how a stage ended, why it ran, and what it was granted and refused
    Why(ExplainArgs),
    /// Show the log of a run, or of one of its stages
    Logs(LogsArgs),
    /// List the artifacts of a run, and save them
    ///
    /// `artifacts` lists those of the latest run, `artifacts RUN` those of another one, and `artifacts RUN get NAME` saves
    /// one.
    #[command(after_help = ARTIFACTS_EXAMPLES)]
    Artifacts(ArtifactsArgs),
    /// Approve a waiting stage
    Approve(DecideArgs),
    /// Reject a waiting stage
    Reject(DecideArgs),
    /// Record the outcome of an interrupted attempt that its plugin can't determine
    Settle(SettleArgs),
    /// End a stage's wait for a time or an external event
    ///
    /// A plugin chooses the token that it waits for, such as the id of a remote job; `runs --waiting` lists the tokens. A
    /// signal that arrives before its wait is kept, and ends the wait as soon as it begins.
    Signal(SignalArgs),
    /// Show the releases of environments, and freeze deploys to them
    #[command(subcommand)]
    Env(EnvCommand),
    /// Manage the services that deploys to the `process` target left running
    #[command(subcommand)]
    Service(ServiceCommand),
    /// Remove old runs and unused cache entries, but nothing that an environment runs or can be rolled back to
    Gc(GcArgs),
    /// List, describe, create, build, check and upgrade plugins
    Plugin(PluginArgs),
    /// Print the JSON Schema of pipeline files, for editors
    ///
    /// It covers the `with` tables of the built-in plugins, and of the repository's own if they are built.
    Schema(SchemaArgs),
    /// Print the completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write the manual pages, one for each command
    Man {
        /// The folder to write them to, such as `~/.local/share/man/man1`
        folder: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Name of the pipeline
    #[arg(long, default_value = "ci", value_name = "NAME")]
    pub(crate) name: String,
    /// The file to write [default: stagewright.toml at the repository's root]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Print the pipeline instead of writing it
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The stage's name, which includes all cells of a matrix, or the id of one cell
    pub(crate) stage: String,
    /// The run: its id, the beginning of its id, or `latest`
    #[arg(long, value_name = "RUN", default_value = "latest")]
    pub(crate) run: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct GrantArgs {
    /// The stages [default: all]
    pub(crate) stages: Vec<String>,
    /// The pipeline: a file by its path (with a `/`, or ending in `.toml`), or the name of one in `pipelines/` [default: that
    /// of `--run`, else stagewright.toml, else the only one in `pipelines/`]
    #[arg(short, long)]
    pub(crate) pipeline: Option<String>,
    /// The run whose denials count: its id, the beginning of its id, or `latest` [default: the pipeline's last run]
    #[arg(long, value_name = "RUN")]
    pub(crate) run: Option<String>,
    /// Also add permissions without which the stages work
    #[arg(long)]
    pub(crate) optional: bool,
    /// Write the file without asking
    #[arg(short, long, conflicts_with = "dry_run")]
    pub(crate) yes: bool,
    /// Show the change without writing it
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print JSON; writes only with `--yes`
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ResumeArgs {
    /// The run: its id, the beginning of its id, or `latest`
    pub(crate) run: String,
    /// Run this stage and all that needs it again, even if it succeeded; may be repeated
    #[arg(long, value_name = "STAGE")]
    pub(crate) from: Vec<String>,
    /// Continue although a plugin, the commit, the working tree or the pipeline file has changed since the run started
    ///
    /// Approvals given for the earlier state lapse. Of the pipeline file, only stages that haven't succeeded, or that
    /// `--from` runs again, may differ.
    #[arg(long)]
    pub(crate) accept_changes: bool,
    #[command(flatten)]
    pub(crate) drive: DriveArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RollbackArgs {
    /// A key of `[environments]`
    pub(crate) environment: String,
    /// Roll back to this release instead of the last known-good one: its number in `env history`
    #[arg(long, value_name = "NUMBER")]
    pub(crate) to: Option<u64>,
    /// Show what would be done without doing it
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) drive: DriveArgs,
}

#[derive(Debug, Args)]
pub(crate) struct PromoteArgs {
    /// The release: its number in `env history`, or an environment for the release that it runs
    pub(crate) release: String,
    /// The environment to deploy to, a key of `[environments]`
    pub(crate) environment: String,
    /// How long the release must have been in its environment, as in `90m` or `3d`
    #[arg(long, value_name = "DURATION")]
    pub(crate) soak: Option<String>,
    /// Deploy even if plugins, the commit or the working tree have changed since the release was deployed
    #[arg(long)]
    pub(crate) accept_changes: bool,
    /// Show what would be done without doing it
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) drive: DriveArgs,
}

#[derive(Debug, Args)]
pub(crate) struct CancelArgs {
    /// The run: its id, the beginning of its id, or `latest`
    pub(crate) run: String,
    /// The reason, which is shown with the run
    #[arg(long)]
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) pipeline: PipelineArgs,
    /// Show what a rehearsal does with each stage: act for real, act on stand-ins, or only report
    #[arg(long)]
    pub(crate) rehearse: bool,
    /// The same for a rehearsal without any network
    #[arg(long, requires = "rehearse")]
    pub(crate) offline: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ValidateArgs {
    /// Files or names [default: every pipeline of the repository]
    pub(crate) pipelines: Vec<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LockArgs {
    /// Files or names [default: every pipeline of the repository]
    pub(crate) pipelines: Vec<String>,
    /// Write nothing, and fail if stagewright.lock is out of date
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Debug, Args)]
pub(crate) struct GraphArgs {
    /// A file by its path (with a `/`, or ending in `.toml`), or the name of one in `pipelines/`
    pub(crate) pipeline: Option<String>,
    /// The output language
    #[arg(long, value_enum, default_value_t = GraphFormat::Mermaid)]
    pub(crate) format: GraphFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum GraphFormat {
    Dot,
    Mermaid,
    Svg,
}

#[derive(Debug, Args)]
pub(crate) struct RunsArgs {
    /// Only runs of this pipeline
    #[arg(long)]
    pub(crate) pipeline: Option<String>,
    /// Only runs that wait for a person
    #[arg(long)]
    pub(crate) waiting: bool,
    /// The most runs to list
    #[arg(long, default_value_t = 20)]
    pub(crate) limit: u32,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SchemaArgs {
    /// Write it to this file, and say how a pipeline file names it
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// The run: its id, the beginning of its id, or `latest`
    #[arg(default_value = "latest")]
    pub(crate) run: String,
    /// Only this stage
    pub(crate) stage: Option<String>,
    /// Only this attempt [default: the last]
    #[arg(long, requires = "stage")]
    pub(crate) attempt: Option<u32>,
    /// Show further lines as they are written, until the run has ended, or the stage
    ///
    /// Lines of several stages come in the order in which they were written. Ctrl-C ends only the command, not the run.
    #[arg(short, long, conflicts_with = "attempt")]
    pub(crate) follow: bool,
    /// Exit with the code of the run, or that of the stage, instead of 0
    #[arg(long, requires = "follow")]
    pub(crate) exit_status: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DecideArgs {
    /// The run: its id, the beginning of its id, or `latest`
    pub(crate) run: String,
    /// The stage that waits [default: the only one]
    pub(crate) stage: Option<String>,
    /// Who answers [default: the name in git's configuration, else $USER]
    #[arg(long)]
    pub(crate) by: Option<String>,
    /// The reason, which is recorded with the answer
    #[arg(long)]
    pub(crate) reason: Option<String>,
    /// A value for a field of the gate's form; may be repeated
    #[arg(long = "field", value_name = "NAME=VALUE")]
    pub(crate) fields: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct SettleArgs {
    /// The run: its id, the beginning of its id, or `latest`
    pub(crate) run: String,
    /// The stage that waits
    pub(crate) stage: String,
    /// The outcome
    #[arg(value_enum)]
    pub(crate) finding: SettledOutcome,
    /// Who records it [default: the name in git's configuration, else $USER]
    #[arg(long)]
    pub(crate) by: Option<String>,
    /// What was found, and how it was checked
    #[arg(long)]
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct SignalArgs {
    /// The run: its id, the beginning of its id, or `latest`
    pub(crate) run: String,
    /// The token that the stage waits for
    pub(crate) token: String,
    /// What the plugin is given, at most 64 KiB of JSON [default: null]
    #[arg(long, value_name = "JSON")]
    pub(crate) payload: Option<String>,
    /// The stage that waits; required if several wait for the token
    #[arg(long)]
    pub(crate) stage: Option<String>,
    /// Who sends it [default: the name in git's configuration, else $USER]
    #[arg(long, value_name = "NAME")]
    pub(crate) by: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SettledOutcome {
    /// Its effect took place: the stage counts as succeeded
    Applied,
    /// Its effect didn't take place: the stage runs again
    NotStarted,
    /// Its effect took place but doesn't work: the stage counts as failed
    Failed,
}

#[derive(Debug, Args)]
pub(crate) struct GcArgs {
    /// The number of runs to keep of each pipeline
    #[arg(long, default_value_t = 50, value_name = "N")]
    pub(crate) keep: u32,
    /// Keep runs younger than this many days, and cached results and download caches used within them
    #[arg(long, default_value_t = 30, value_name = "N", value_parser = clap::value_parser!(u32).range(within(range::DAYS)))]
    pub(crate) days: u32,
    /// Show what would be removed without removing it
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The run: its id, the beginning of its id, or `latest`
    pub(crate) run: String,
    /// How to show it
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    pub(crate) format: OutputFormat,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ServiceCommand {
    /// List services
    Status {
        /// List the stand-ins that rehearsals use
        #[arg(long)]
        rehearsal: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Stop a service and keep its releases
    Stop {
        /// A key of `[environments]`; with `--rehearsal`, may be left out to stop all services of rehearsals
        #[arg(required_unless_present = "rehearsal", requires = "service")]
        environment: Option<String>,
        /// The service's name
        service: Option<String>,
        /// Stop stand-ins that rehearsals use
        #[arg(long)]
        rehearsal: bool,
    },
    /// Start services again after the machine was restarted
    ///
    /// The current release of each environment whose service was running then is deployed again, as it was deployed. What was
    /// stopped with `service stop`, or has given up, stays as it is. Run it when the machine starts, as from a unit of systemd.
    Restore {
        #[command(flatten)]
        drive: DriveArgs,
    },
    /// Show the end of a service's log
    Logs {
        /// A key of `[environments]`
        environment: String,
        /// The service's name
        service: String,
        /// The number of lines
        #[arg(short = 'n', long, default_value_t = 50)]
        lines: u32,
        /// Show the log of a stand-in that rehearsals use
        #[arg(long)]
        rehearsal: bool,
    },
}

/// Parses the values of an option that takes `NAME=VALUE`.
pub(crate) fn pairs(option: &str, given: &[String]) -> Result<Vec<(String, String)>, CommandError> {
    let pair = |text: &String| match text.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err(CommandError::usage(format!("`{option} {text}` isn't NAME=VALUE"))),
    };
    given.iter().map(pair).collect()
}
