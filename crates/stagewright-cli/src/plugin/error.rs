//! Why a plugin could not be made, built or checked.

use std::io;
use std::path::PathBuf;

use stagewright_process::{ExitStatus, SpawnError};

use crate::error::CommandError;
use crate::exit::Exit;

#[derive(Debug, thiserror::Error)]
pub(crate) enum PluginError {
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

impl PluginError {
    fn hints(&self) -> Vec<String> {
        let hint = match self {
            PluginError::NoPlugin(_) => {
                "name a folder whose Cargo.toml builds a `cdylib`, or a folder that holds such \
                                         folders; `stagewright plugin new NAME` makes one"
                    .to_owned()
            }
            PluginError::NoToolchain { tried, remedy } => {
                return tried.iter().cloned().chain([format!("run: {remedy}")]).collect();
            }
            PluginError::Tool { source: ToolError::Spawn(error), .. } => error.help().to_owned(),
            PluginError::Cargo { .. } => "the compiler's own words stand above".to_owned(),
            PluginError::Componentize { .. } => {
                "export the stage with `stagewright_sdk::export_stage!`, and let it call nothing but the sdk".to_owned()
            }
            PluginError::Unusable { .. } => "build them with `stagewright plugin build`".to_owned(),
            PluginError::Name(_) => {
                "use letters, digits and hyphens, with a letter first, as in `count-lines`".to_owned()
            }
            PluginError::Exists(_) => "choose another name, or another folder with `--path`".to_owned(),
            PluginError::Manifest { .. }
            | PluginError::Read { .. }
            | PluginError::Write { .. }
            | PluginError::Tool { .. }
            | PluginError::Output(_) => return Vec::new(),
        };
        vec![hint]
    }

    fn exit(&self) -> Exit {
        match self {
            PluginError::Name(_) | PluginError::Exists(_) => Exit::Usage,
            PluginError::Read { .. } | PluginError::Write { .. } | PluginError::Output(_) => Exit::Internal,
            PluginError::NoPlugin(_)
            | PluginError::Manifest { .. }
            | PluginError::NoToolchain { .. }
            | PluginError::Tool { .. }
            | PluginError::Cargo { .. }
            | PluginError::Componentize { .. }
            | PluginError::Unusable { .. } => Exit::NotReady,
        }
    }
}

impl From<PluginError> for CommandError {
    fn from(error: PluginError) -> CommandError {
        let mut failed = CommandError::new(error.exit(), error.to_string());
        failed.hints = error.hints();
        failed.source = match error {
            PluginError::Read { source, .. } | PluginError::Write { source, .. } | PluginError::Output(source) => {
                Some(source.into())
            }
            PluginError::Tool { source, .. } => Some(source.into()),
            _ => None,
        };
        failed
    }
}
