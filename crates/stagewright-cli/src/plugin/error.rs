//! The errors of `stagewright plugin`.

use std::io;
use std::path::PathBuf;

use stagewright_model::count;
use stagewright_plugin_build::PluginBuildError;

use crate::error::CommandError;
use crate::exit::Exit;

#[derive(Debug, thiserror::Error)]
pub(crate) enum PluginCommandError {
    #[error(transparent)]
    Build(#[from] PluginBuildError),
    #[error("can't read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("can't write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
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

impl PluginCommandError {
    fn hints(&self) -> Vec<String> {
        let hint = match self {
            PluginCommandError::Build(error) => return error.hints(),
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
            PluginCommandError::Read { .. } | PluginCommandError::Write { .. } | PluginCommandError::Output(_) => {
                return Vec::new();
            }
        };
        vec![hint]
    }

    fn exit(&self) -> Exit {
        match self {
            PluginCommandError::Name(_) | PluginCommandError::Exists(_) => Exit::Usage,
            PluginCommandError::Read { .. } | PluginCommandError::Write { .. } | PluginCommandError::Output(_) => {
                Exit::Internal
            }
            PluginCommandError::Build(
                PluginBuildError::Read { .. } | PluginBuildError::Write { .. } | PluginBuildError::Output(_),
            ) => Exit::Internal,
            PluginCommandError::Build(_)
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
            PluginCommandError::Build(error) => match error {
                PluginBuildError::Read { source, .. }
                | PluginBuildError::Write { source, .. }
                | PluginBuildError::Output(source) => Some(source.into()),
                PluginBuildError::Tool { source, .. } => Some(source.into()),
                _ => None,
            },
            _ => None,
        };
        failed
    }
}
