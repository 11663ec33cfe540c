//! Options of `run` and `rerun`.

use clap::{ArgGroup, Args, ValueEnum};
use stagewright_session::RepositoryEvent;

use crate::drive_args::DriveArgs;
use crate::learn_args::LearnArgs;

/// The pipeline and its inputs.
#[derive(Clone, Debug, Args)]
pub(crate) struct PipelineArgs {
    /// A file by its path (with a `/`, or ending in `.toml`), or the name of one in `pipelines/` [default:
    /// stagewright.toml, else the only one in `pipelines/`]
    pub(crate) pipeline: Option<String>,
    /// A value for one of the pipeline's inputs; may be repeated
    #[arg(short, long = "input", value_name = "NAME=VALUE")]
    pub(crate) inputs: Vec<String>,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("compared").args(["affected", "event"]).multiple(true))]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) pipeline: PipelineArgs,
    /// Act on stand-ins; report what has none instead of doing it
    ///
    /// Gates are approved automatically, secrets are stand-ins, images are pushed to a registry in the state folder, and
    /// services get a network and a port of their own. Programs that could reach beyond their stage, and requests other
    /// than to services of the rehearsal and package hosts, are reported as "would run …" and "would send …" instead of
    /// being started and sent; the stage then ends as rehearsed.
    /// `[stages.X.rehearse]` grants exceptions. Two uses of the network remain, both without credentials: programs fetch
    /// packages from the hosts of `cargo`, `npm` and `pip`, and plugins are pulled by digest.
    #[arg(long)]
    pub(crate) rehearse: bool,
    /// Rehearse without any network: no packages, no pulled plugins, no grants of `[stages.X.rehearse]`
    #[arg(long, requires = "rehearse")]
    pub(crate) offline: bool,
    /// Leave the services of this rehearsal running until `service stop --rehearsal`
    #[arg(long, requires = "rehearse")]
    pub(crate) keep_services: bool,
    #[command(flatten)]
    pub(crate) learning: LearnArgs,
    /// Run only these stages and what they need; may be repeated
    #[arg(long, value_name = "STAGE")]
    pub(crate) only: Vec<String>,
    /// Skip these stages and continue as if they had succeeded; may be repeated
    #[arg(long, value_name = "STAGE")]
    pub(crate) skip: Vec<String>,
    /// Run only the stages whose files have changed since a commit, what needs them, and what these need
    ///
    /// A stage's files are its `inputs`, or else all that it may read and write.
    #[arg(long, conflicts_with = "only")]
    pub(crate) affected: bool,
    /// Run again whenever files change that the stages read, until Ctrl-C
    ///
    /// A change during a run cancels it, and a new one starts. Files that git ignores don't count unless a grant or `inputs`
    /// names them, and neither does what stages write while they run. Only stages that stay on this machine can be
    /// watched.
    #[arg(short, long, conflicts_with_all = ["affected", "event"])]
    pub(crate) watch: bool,
    /// Run only if the pipeline's `on` says so for this event at HEAD; say why if it doesn't
    ///
    /// A push is that of the branch or tag that is checked out, a pull request one of this branch into the main one, or
    /// into that of `--base`. Changes that aren't committed count as if they were. `event.name` is the event's name.
    #[arg(long, value_name = "EVENT")]
    pub(crate) event: Option<EventName>,
    /// The number of the pull request of `--event pull-request`: `event.ref` is then `refs/pull/N/head`
    ///
    /// HEAD needn't be a branch then, as it often isn't in a CI system.
    #[arg(long, value_name = "N", requires = "event", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) pull_request: Option<u64>,
    /// The commit, branch or tag that `--affected` and `--event` look back to [default: where the branch left the main
    /// one, or for a push its upstream]
    #[arg(long, value_name = "REF", requires = "compared")]
    pub(crate) base: Option<String>,
    #[command(flatten)]
    pub(crate) drive: DriveArgs,
}

/// What may start a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum EventName {
    Push,
    PullRequest,
}

impl EventName {
    pub(crate) fn event(self) -> RepositoryEvent {
        match self {
            EventName::Push => RepositoryEvent::Push,
            EventName::PullRequest => RepositoryEvent::PullRequest,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct RerunArgs {
    /// The earlier run: its id, the beginning of its id, or `latest`
    pub(crate) run: String,
    /// Run only the tests that failed, in the last attempts of their stages
    ///
    /// Stages without failed tests are left out, except for those that are needed and for `finally`. `cargo-test` selects
    /// the tests itself; `command` needs `with.rerun`, which says how its program selects tests. A stage that
    /// can't select tests runs all of them.
    #[arg(long)]
    pub(crate) failed_tests: bool,
    /// Run although a plugin, the commit or the working tree has changed since the earlier run started
    #[arg(long)]
    pub(crate) accept_changes: bool,
    #[command(flatten)]
    pub(crate) drive: DriveArgs,
}
