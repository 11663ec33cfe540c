//! The arguments of `artifacts`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

pub(crate) const ARTIFACTS_EXAMPLES: &str = "\
Examples:
  stagewright artifacts
  stagewright artifacts get report --to out/report.html
  stagewright artifacts 20260301-1200 get site --force";

#[derive(Debug, Args)]
#[command(subcommand_precedence_over_arg = true)]
pub(crate) struct ArtifactsArgs {
    /// The run: its id, the beginning of its id, or `latest`
    #[arg(default_value = "latest")]
    pub(crate) run: String,
    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Option<ArtifactsCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ArtifactsCommand {
    /// List the artifacts, with the stages that published them
    List,
    /// Save an artifact: a file as a file, a folder as a folder
    ///
    /// Its content is checked against its digest, and appears at its path only when it is complete. Links that a stage may
    /// have made in the repository aren't followed.
    Get {
        /// The artifact's name
        name: String,
        /// The file or folder to make [default: the artifact's name, in the current folder]
        #[arg(long, value_name = "PATH")]
        to: Option<PathBuf>,
        /// Replace what is at the path; a folder is replaced as a whole
        #[arg(long)]
        force: bool,
    },
}
