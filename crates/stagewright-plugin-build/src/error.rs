//! The errors of building plugins.

use std::io;
use std::path::PathBuf;

use stagewright_process::{ExitStatus, SpawnError};

/// Why plugins could not be found or built.
#[derive(Debug, thiserror::Error)]
pub enum PluginBuildError {
    /// No folder at this path builds a plugin.
    #[error("{} contains no plugin", .0.display())]
    NoPlugin(PathBuf),
    /// A file or folder can't be read.
    #[error("can't read {}", path.display())]
    Read {
        /// Its path.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file can't be written.
    #[error("can't write {}", path.display())]
    Write {
        /// Its path.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A `Cargo.toml` is invalid.
    #[error("{} isn't a valid Cargo manifest of a plugin: {reason}", path.display())]
    Manifest {
        /// Its path.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The machine has no compiler for wasm.
    #[error("found no Rust compiler for `wasm32-unknown-unknown`")]
    NoToolchain {
        /// What was tried, each with the reason why it didn't work.
        tried: Vec<String>,
        /// The command that installs a compiler.
        remedy: String,
    },
    /// A program of the toolchain could not be run.
    #[error("can't run `{program}`")]
    Tool {
        /// Its path.
        program: String,
        /// The reason.
        source: ToolError,
    },
    /// Cargo failed.
    #[error("cargo failed to build {}: it ended with {status}", plugins.join(", "))]
    Cargo {
        /// The names of the plugins that it didn't build.
        plugins: Vec<String>,
        /// Its end.
        status: ExitStatus,
    },
    /// A plugin compiled to a module that can't become a component, or to a component that can't be a stage.
    #[error("can't make a component from plugin `{plugin}`: {reason}")]
    Componentize {
        /// Its name.
        plugin: String,
        /// What it lacks.
        reason: String,
    },
    /// Progress can't be written.
    #[error("can't write the output")]
    Output(#[from] io::Error),
}

/// Why a program of the toolchain could not be run.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It could not be started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// The system failed while it ran.
    #[error(transparent)]
    System(#[from] io::Error),
    /// It was stopped after this time, in seconds.
    #[error("it was stopped after {0} s")]
    Timeout(u64),
}

impl PluginBuildError {
    /// What to do about it.
    pub fn hints(&self) -> Vec<String> {
        let hint = match self {
            PluginBuildError::NoPlugin(_) => {
                "name a folder whose Cargo.toml builds a `cdylib`, or a folder that holds such \
                                         folders; `stagewright plugin new NAME` makes one"
            }
            PluginBuildError::NoToolchain { tried, remedy } => {
                return tried.iter().chain([remedy]).cloned().collect();
            }
            PluginBuildError::Tool { source: ToolError::Spawn(error), .. } => error.help(),
            PluginBuildError::Cargo { .. } => "see the compiler's messages above",
            PluginBuildError::Componentize { .. } => {
                "export the stage with `stagewright_sdk::export_stage!`, and use no host interface but the SDK's"
            }
            PluginBuildError::Manifest { .. }
            | PluginBuildError::Read { .. }
            | PluginBuildError::Write { .. }
            | PluginBuildError::Tool { .. }
            | PluginBuildError::Output(_) => return Vec::new(),
        };
        vec![hint.to_owned()]
    }
}
