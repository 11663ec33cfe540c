//! Options of every command.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Act as if started in this folder
    #[arg(short = 'C', long, global = true, value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,
    /// Folder for runs, artifacts and local environments [default: .stagewright in the repository]
    #[arg(long, global = true, value_name = "DIR", env = "STAGEWRIGHT_STATE")]
    pub(crate) state: Option<PathBuf>,
    /// Policy file: the most any pipeline may be granted [default: /etc/stagewright/policy.toml, if it exists]
    #[arg(long, global = true, value_name = "FILE", env = "STAGEWRIGHT_POLICY")]
    pub(crate) policy: Option<PathBuf>,
    /// Show more detail; twice for the engine's own trace (RUST_LOG gives finer control)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// When to use colours and live progress
    #[arg(long, global = true, value_enum, default_value_t = ColorChoice::Auto)]
    pub(crate) color: ColorChoice,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    /// When standard error is a terminal, TERM is set and not `dumb`, and NO_COLOR isn't set
    Auto,
    Always,
    Never,
}
