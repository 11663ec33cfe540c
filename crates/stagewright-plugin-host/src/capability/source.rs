//! `source`: the files that differ from a commit, as far as the stage may read them, and the commits that lead to the run's.

use std::sync::Arc;

use stagewright_model::WorkspacePath;

use super::workspace::WorkspaceFiles;
use crate::attempt::AttemptContext;
use crate::blocking::blocking;
use crate::changes::{ChangeSource, ChangesUnknown};
use crate::error::{CapabilityError, ErrorCode};

/// The most commits of one answer.
const MOST_COMMITS: u32 = 10_000;

/// The changes that a stage may learn of.
#[derive(Clone)]
pub(crate) struct Changes {
    source: Arc<dyn ChangeSource>,
    files: WorkspaceFiles,
}

impl Changes {
    pub(crate) fn for_attempt(context: &AttemptContext<'_>) -> Changes {
        Changes { source: context.config().changes.clone(), files: context.workspace.clone() }
    }

    /// The files that the stage may read and that differ from the commit `since`, sorted. `base`: the run's, for when the
    /// plugin names none.
    pub(crate) async fn since(
        &self,
        since: Option<String>,
        base: Option<String>,
    ) -> Result<Vec<String>, CapabilityError> {
        let commit = match since {
            Some(commit) if is_full_id(&commit) => commit,
            Some(name) => {
                let message = format!("`{name}` is not the full id of a commit");
                return Err(CapabilityError::new(ErrorCode::InvalidArgument, message).with_help(
                    "names of branches and tags can change their meaning: pass what `git rev-parse` prints",
                ));
            }
            None => base.ok_or_else(|| {
                let message = "could not list the changed files: there is no main branch to compare with";
                CapabilityError::new(ErrorCode::FailedPrecondition, message).with_help("pass the full id of a commit")
            })?,
        };
        let Changes { source, files } = self.clone();
        blocking(move || {
            let changed = source.changed_files(&commit).map_err(|ChangesUnknown { message, help }| {
                let message = format!("could not list the changed files: {message}");
                CapabilityError { help, ..CapabilityError::new(ErrorCode::FailedPrecondition, message) }
            })?;
            let is_known = |path: &String| WorkspacePath::parse(path).is_ok_and(|path| files.may_learn_of(&path));
            Ok(changed.into_iter().filter(is_known).collect())
        })
        .await?
    }

    /// The newest commits that lead to `head`, as JSON. They show no files, so no grant is needed.
    pub(crate) async fn commits(
        &self,
        head: Option<String>,
        since: Option<String>,
        most: u32,
    ) -> Result<String, CapabilityError> {
        let invalid = |message: String| CapabilityError::new(ErrorCode::InvalidArgument, message);
        if !(1..=MOST_COMMITS).contains(&most) {
            return Err(invalid(format!("between 1 and {MOST_COMMITS} commits can be listed, not {most}")));
        }
        if let Some(name) = since.as_ref().filter(|name| !is_full_id(name) && !name.starts_with("refs/tags/")) {
            return Err(invalid(format!("`{name}` is neither the full id of a commit nor the full name of a tag"))
                .with_help("pass what `git rev-parse` prints, or the name as in `refs/tags/v1.0`"));
        }
        let unknown = |ChangesUnknown { message, help }| {
            let message = format!("could not list the commits: {message}");
            CapabilityError { help, ..CapabilityError::new(ErrorCode::FailedPrecondition, message) }
        };
        let head = head.ok_or_else(|| {
            unknown(ChangesUnknown { message: "the run is for no commit".to_owned(), help: None })
                .with_help("run it in a git repository that has a commit")
        })?;
        let source = Arc::clone(&self.source);
        let found = blocking(move || source.commits(&head, since.as_deref(), most as usize)).await?;
        serde_json::to_string(&found.map_err(unknown)?)
            .map_err(|error| CapabilityError::new(ErrorCode::Internal, "could not serialize commits").caused_by(&error))
    }

    /// The web address of the repository.
    pub(crate) async fn repository(&self) -> Result<Option<String>, CapabilityError> {
        let source = Arc::clone(&self.source);
        blocking(move || source.repository()).await?.map_err(|ChangesUnknown { message, help }| {
            let message = format!("could not read the repository's remote: {message}");
            CapabilityError { help, ..CapabilityError::new(ErrorCode::FailedPrecondition, message) }
        })
    }
}

/// Whether the text is an id of SHA-1 or SHA-256.
fn is_full_id(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
