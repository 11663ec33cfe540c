//! The errors of `stagewright plugin`.

use std::io;
use std::path::PathBuf;

use stagewright_model::count;
use stagewright_process::{ExitStatus, SpawnError};

use crate::error::CommandError;
use crate::exit::Exit;

#[derive(Debug, thiserror::Error)]
pub(crate) enum PluginCommandError {
    #[error("{} contains no plugin", .0.display())]
    NoPlugin(PathBuf),
    #[error("can't read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("can't write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{} isn't a valid Cargo manifest of a plugin: {reason}", path.display())]
    Manifest { path: PathBuf, reason: String },
    #[error("found no Rust compiler for `wasm32-unknown-unknown`")]
    NoToolchain { tried: Vec<String>, remedy: String },
    #[error("can't run `{program}`")]
    Tool { program: String, source: ToolError },
    #[error("cargo failed to build {}: it ended with {status}", plugins.join(", "))]
    Cargo { plugins: Vec<String>, status: ExitStatus },
    #[error("can't make a component from plugin `{plugin}`: {reason}")]
    Componentize { plugin: String, reason: String },
    #[error("{failed} of {} can't be used", count(*checked, "plugin"))]
    Unusable { failed: usize, checked: usize },
    #[error("`{0}` isn't a valid name for a plugin")]
    Name(String),
    #[error("{} already exists", .0.display())]
    Exists(PathBuf),
    #[error("{} is not a copy of the SDK: {reason}", path.display())]
    NoSdk { path: PathBuf, reason: String },
    #[error("{} has SDK {copy}, which is newer than that of this program, {own}", path.display())]
    NewerSdk { path: PathBuf, copy: String, own: String },
    #[error("{} of the SDK {} out of date", count(*copies, "copy"), if *copies == 1 { "is" } else { "are" })]
    Outdated { copies: usize },
    #[error("{} has uncommitted changes, which an upgrade would overwrite", path.display())]
    Uncommitted { path: PathBuf, backup: PathBuf, entries: Vec<String> },
    #[error("can't determine whether {} has uncommitted changes: {reason}", path.display())]
    UnknownState { path: PathBuf, reason: String },
    #[error("{} exists, where the earlier copy of the SDK is to be kept", .0.display())]
    BackupExists(PathBuf),
    #[error("can't write the output")]
    Output(#[from] io::Error),
}

/// Why a program of the toolchain could not be run.
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
                return tried.iter().cloned().chain([remedy.clone()]).collect();
            }
            PluginCommandError::Tool { source: ToolError::Spawn(error), .. } => error.help().to_owned(),
            PluginCommandError::Cargo { .. } => "see the compiler's messages above".to_owned(),
            PluginCommandError::Componentize { .. } => {
                "export the stage with `stagewright_sdk::export_stage!`, and use no host interface but the SDK's"
                    .to_owned()
            }
            PluginCommandError::Unusable { .. } => "build them with `stagewright plugin build`".to_owned(),
            PluginCommandError::Name(_) => {
                "use lower-case letters, digits and hyphens, starting with a letter, as in `count-lines`".to_owned()
            }
            PluginCommandError::Exists(_) => "choose another name, or another folder with `--path`".to_owned(),
            PluginCommandError::NoSdk { .. } => {
                "restore it, or take the folder `sdk` of a plugin that `stagewright plugin new` creates".to_owned()
            }
            PluginCommandError::NewerSdk { .. } => {
                "use the `stagewright` that the copy is from, or a newer one".to_owned()
            }
            PluginCommandError::Outdated { .. } => "upgrade with `stagewright plugin upgrade`".to_owned(),
            PluginCommandError::Uncommitted { backup, .. } => {
                format!("commit them; or use `--allow-dirty`, which keeps the present copy as {}", backup.display())
            }
            PluginCommandError::UnknownState { .. } => {
                "commit the plugin to a git repository; or use `--allow-dirty`, which keeps the present copy".to_owned()
            }
            PluginCommandError::BackupExists(_) => "move or remove it".to_owned(),
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
            | PluginCommandError::Unusable { .. }
            | PluginCommandError::NoSdk { .. }
            | PluginCommandError::NewerSdk { .. }
            | PluginCommandError::Outdated { .. }
            | PluginCommandError::Uncommitted { .. }
            | PluginCommandError::UnknownState { .. }
            | PluginCommandError::BackupExists(_) => Exit::NotReady,
        }
    }
}

impl From<PluginCommandError> for CommandError {
    fn from(error: PluginCommandError) -> CommandError {
        let mut failed = CommandError::new(error.exit(), error.to_string());
        failed.hints = error.hints();
        if let PluginCommandError::Uncommitted { entries, .. } = &error {
            failed.details.clone_from(entries);
        }
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
