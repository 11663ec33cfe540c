//! Why a plugin could not be made, built or checked.

use std::io;
use std::path::PathBuf;

use stagewright_process::{ExitStatus, SpawnError};

use crate::error::CommandError;
use crate::exit::Exit;

#[derive(Debug, thiserror::Error)]
pub(crate) enum PluginCommandError {
    #[error("there is no plugin in {}", .0.display())]
    NoPlugin(PathBuf),
    #[error("can't read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("can't write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{} is no Cargo manifest of a plugin: {reason}", path.display())]
    Manifest { path: PathBuf, reason: String },
    #[error("there is no Rust compiler for `wasm32-unknown-unknown` here")]
    NoToolchain { tried: Vec<String>, remedy: String },
    #[error("can't run `{program}`")]
    Tool { program: String, source: ToolError },
    #[error("cargo could not build {}: it ended with {status}", plugins.join(", "))]
    Cargo { plugins: Vec<String>, status: ExitStatus },
    #[error("plugin `{plugin}` can't become a component: {reason}")]
    Componentize { plugin: String, reason: String },
    #[error("{failed} of {checked} plugins can't be used")]
    Unusable { failed: usize, checked: usize },
    #[error("`{0}` is no name for a plugin")]
    Name(String),
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    #[error("can't write the output")]
    Output(#[from] io::Error),
}

/// Why a program of the toolchain did not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ToolError {
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    #[error(transparent)]
    System(#[from] io::Error),
    #[error("it was stopped after {0} s")]
    Timeout(u64),
}

impl PluginCommandError {
    fn hints(&self) -> Vec<String> {
        let hint = match self {
            PluginCommandError::NoPlugin(_) => {
                "name a folder whose Cargo.toml builds a `cdylib`, or a folder that holds such \
                                         folders; `stagewright plugin new NAME` makes one"
                    .to_owned()
            }
            PluginCommandError::NoToolchain { tried, remedy } => {
                return tried.iter().cloned().chain([format!("run: {remedy}")]).collect();
            }
            PluginCommandError::Tool { source: ToolError::Spawn(error), .. } => error.help().to_owned(),
            PluginCommandError::Cargo { .. } => "the compiler's own words stand above".to_owned(),
            PluginCommandError::Componentize { .. } => {
                "export the stage with `stagewright_sdk::export_stage!`, and let it call nothing but the sdk".to_owned()
            }
            PluginCommandError::Unusable { .. } => "build them with `stagewright plugin build`".to_owned(),
            PluginCommandError::Name(_) => {
                "use letters, digits and hyphens, with a letter first, as in `count-lines`".to_owned()
            }
            PluginCommandError::Exists(_) => "choose another name, or another folder with `--path`".to_owned(),
            PluginCommandError::Manifest { .. }
            | PluginCommandError::Read { .. }
            | PluginCommandError::Write { .. }
            | PluginCommandError::Tool { .. }
            | PluginCommandError::Output(_) => return Vec::new(),
        };
        vec![hint]
    }

    fn exit(&self) -> Exit {
        match self {
            PluginCommandError::Name(_) | PluginCommandError::Exists(_) => Exit::Usage,
            PluginCommandError::Read { .. } | PluginCommandError::Write { .. } | PluginCommandError::Output(_) => {
                Exit::Internal
            }
            PluginCommandError::NoPlugin(_)
            | PluginCommandError::Manifest { .. }
            | PluginCommandError::NoToolchain { .. }
            | PluginCommandError::Tool { .. }
            | PluginCommandError::Cargo { .. }
            | PluginCommandError::Componentize { .. }
            | PluginCommandError::Unusable { .. } => Exit::NotReady,
        }
    }
}

impl From<PluginCommandError> for CommandError {
    fn from(error: PluginCommandError) -> CommandError {
        let mut failed = CommandError::new(error.exit(), error.to_string());
        failed.hints = error.hints();
        failed.source = match error {
            PluginCommandError::Read { source, .. }
            | PluginCommandError::Write { source, .. }
            | PluginCommandError::Output(source) => Some(source.into()),
            PluginCommandError::Tool { source, .. } => Some(source.into()),
            _ => None,
        };
        failed
    }
}
