//! Options of a run that learns.

use clap::Args;

/// Whether and how the stages learn.
#[derive(Clone, Debug, Args)]
pub(crate) struct LearnArgs {
    /// Observe what the stages use, on a copy of the workspace, and propose the permissions for it
    ///
    /// Programs may read, write and start all files of the copy and start all programs of this machine, and reach package
    /// hosts. Otherwise this is a rehearsal: secrets are stand-ins, and stages that act on an environment are left out. At
    /// the end the smallest permissions with which the stages would have worked are shown, and written into the pipeline
    /// file after a confirmation.
    #[arg(long, conflicts_with_all = ["rehearse", "affected", "watch", "locked", "wait"])]
    pub(crate) learn: bool,
    /// Let programs that learn reach this host, too; may be repeated
    #[arg(long, value_name = "HOST", requires = "learn")]
    pub(crate) allow_host: Vec<String>,
    /// Learn, and write the permissions, without asking
    #[arg(short, long, requires = "learn")]
    pub(crate) yes: bool,
}
