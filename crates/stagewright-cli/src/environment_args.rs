//! The arguments of `env`.

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum EnvCommand {
    /// List environments with their current releases
    List {
        /// List the stand-ins that rehearsals use
        #[arg(long)]
        rehearsal: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one environment: its release, the run that deploys to it now, its freeze
    Status {
        /// A key of `[environments]`
        environment: String,
        /// Show the stand-in that rehearsals use
        #[arg(long)]
        rehearsal: bool,
        /// Ask the target how what is in place differs from the release; exit code 8 if it does
        #[arg(long, conflicts_with = "rehearsal")]
        live: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List an environment's releases, newest first
    History {
        /// A key of `[environments]`
        environment: String,
        /// Show the stand-in that rehearsals use
        #[arg(long)]
        rehearsal: bool,
        /// The most releases to list
        #[arg(long, default_value_t = 20)]
        limit: u32,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Freeze an environment: runs wait instead of deploying to it
    Freeze {
        /// A key of `[environments]`
        environment: String,
        /// The reason, which is shown to runs that wait
        #[arg(long)]
        reason: String,
        /// How long the freeze lasts, as in `90m` or `3d` [default: until `env unfreeze`]
        #[arg(long = "for", value_name = "DURATION")]
        duration: Option<String>,
        /// Who freezes it [default: the name in git's configuration, else $USER]
        #[arg(long)]
        by: Option<String>,
    },
    /// End the freeze of an environment
    Unfreeze {
        /// A key of `[environments]`
        environment: String,
    },
}
