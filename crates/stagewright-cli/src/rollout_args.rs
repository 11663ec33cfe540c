//! The arguments of `rollout`.

use clap::{Args, Subcommand};

use crate::drive_args::DriveArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum RolloutCommand {
    /// Show how far rollouts are
    Status {
        /// A key of `[environments]` [default: all]
        environment: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// End the pause of a rollout: it continues with its next step
    ///
    /// If the environment has approvers, only they may do it.
    Promote {
        /// Give the new version all requests now, without further pauses
        #[arg(long)]
        full: bool,
        #[command(flatten)]
        decide: DecideRolloutArgs,
    },
    /// Give all requests to the earlier version again, and remove the new one
    ///
    /// Neither a freeze nor missing approvals prevent it. If the run of the rollout has ended, a new run deploys the current
    /// release again.
    Abort(DecideRolloutArgs),
    /// Continue a rollout whose run failed or was interrupted
    Retry(DecideRolloutArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DecideRolloutArgs {
    /// A key of `[environments]`
    pub(crate) environment: String,
    /// Who decides it [default: the name in git's configuration, else $USER]
    #[arg(long, value_name = "NAME")]
    pub(crate) by: Option<String>,
    #[command(flatten)]
    pub(crate) drive: DriveArgs,
}
