//! Options of the commands that drive a run.

use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{Args, ValueEnum};
use stagewright_model::range::{self, Range};
use stagewright_session::{CacheOptions, RunOptions};

/// How a run is carried out and shown.
#[derive(Debug, Args)]
pub(crate) struct DriveArgs {
    /// The most stages that run concurrently [default: the number of processors]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(within(range::JOBS)))]
    pub(crate) jobs: Option<u16>,
    /// How to show the run
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    pub(crate) format: OutputFormat,
    /// Also write a JUnit report, a test case for each stage
    #[arg(long, value_name = "FILE")]
    pub(crate) junit: Option<PathBuf>,
    /// At a gate, keep running and wait for `stagewright approve` from another terminal
    #[arg(long)]
    pub(crate) wait: bool,
    /// How to use the results of earlier runs
    #[arg(long, value_enum, default_value_t = CacheMode::Use, env = "STAGEWRIGHT_CACHE")]
    pub(crate) cache: CacheMode,
    /// Where to share results with other machines: a folder, s3://BUCKET/PREFIX, or an HTTP(S) URL; `off` to share none
    #[arg(long, value_name = "ADDRESS", env = "STAGEWRIGHT_SHARED_CACHE")]
    pub(crate) shared_cache: Option<String>,
    /// Who may use this run's results: `trusted` for every run, or a name for runs with the same name, which use trusted
    /// results as well [default: use trusted results, share none]
    #[arg(long, value_name = "TIER", env = "STAGEWRIGHT_CACHE_TIER")]
    pub(crate) cache_tier: Option<String>,
    /// Refuse pipelines that may do more than stagewright.lock records, or whose plugins differ from it
    #[arg(long, env = "STAGEWRIGHT_LOCKED", value_parser = FalseyValueParser::new())]
    pub(crate) locked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CacheMode {
    /// Use results whose dependencies haven't changed, and store new ones
    Use,
    /// Use results, but store none
    Read,
    /// Ignore earlier results, and store new ones
    Refresh,
    /// Neither use nor store results; stages may then read everything they are granted, declared or not
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// For people: live in a terminal, plain lines elsewhere
    Text,
    /// One JSON object per line
    Json,
    /// Workflow commands of GitHub Actions
    Github,
}

impl DriveArgs {
    /// Whether only events may be printed, for a program to read.
    pub(crate) fn is_json(&self) -> bool {
        self.format == OutputFormat::Json
    }

    /// The options that the session needs.
    pub(crate) fn options(&self) -> RunOptions {
        let cache =
            CacheOptions { mode: self.cache.into(), shared: self.shared_cache.clone(), tier: self.cache_tier.clone() };
        RunOptions { jobs: self.jobs.map(usize::from), cache, locked: self.locked }
    }
}

impl From<CacheMode> for stagewright_session::CacheMode {
    fn from(mode: CacheMode) -> stagewright_session::CacheMode {
        match mode {
            CacheMode::Use => stagewright_session::CacheMode::Use,
            CacheMode::Read => stagewright_session::CacheMode::Read,
            CacheMode::Refresh => stagewright_session::CacheMode::Refresh,
            CacheMode::Off => stagewright_session::CacheMode::Off,
        }
    }
}

/// Converts a range of the model to one that clap can check.
pub(crate) fn within(range: Range<u64>) -> std::ops::RangeInclusive<i64> {
    let bound = |number| i64::try_from(number).unwrap_or(i64::MAX);
    bound(range.least)..=bound(range.most)
}
