//! `run --watch`: waits until files that stages read change.
//!
//! ```text
//! FolderWatch (inotify) ── paths ──> WatchRules ── those that count ──> FileWatch
//! ```
//!
//! What stages may write counts only while no run is under way: during a run it is what they made, and a run that
//! followed it would never end. For the same reason the engine's own files, git directories and what git ignores don't
//! count, unless a grant or an input names the ignored files.

mod folders;
mod rules;

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use stagewright_model::{EffectClass, count, list};
use tokio::time::{Instant, timeout};

use crate::blocking::blocking;
use crate::error::SessionError;
use crate::host::Host;
use crate::load::Pipeline;
use crate::select;
use crate::session::Session;
use crate::start::RunRequest;

use folders::{FolderChange, FolderWatch};
use rules::WatchRules;

/// How long nothing must change before a run starts. Editors and git change several files, one after the other.
const QUIET: Duration = Duration::from_millis(100);
/// After this time a run starts although files still change.
const LONGEST: Duration = Duration::from_secs(2);

/// Watches the files that the stages of a run read. Changes since it was created are never lost.
pub struct FileWatch {
    folders: FolderWatch,
    rules: WatchRules,
    pending: BTreeSet<String>,
}

/// The files that have changed, relative to the workspace; at least one. `Display` names the first ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedPaths(BTreeSet<String>);

impl fmt::Display for ChangedPaths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMED: usize = 3;
        let named = list(self.0.iter().take(NAMED));
        match self.0.len().saturating_sub(NAMED) {
            0 => f.write_str(&named),
            more => write!(f, "{named} and {}", count(more, "other file")),
        }
    }
}

impl Session {
    /// Watches the files of the stages that `request` runs. `except` are paths that this process itself writes.
    ///
    /// # Errors
    /// If one of the stages acts beyond this machine, which must not happen because a file was saved; and if files can't
    /// be watched.
    pub async fn watch(
        &self,
        pipeline: &Pipeline,
        request: &RunRequest,
        except: &[PathBuf],
    ) -> Result<FileWatch, SessionError> {
        let Pipeline { file, plan } = pipeline;
        let left_out = select::left_out(plan, &request.only, &request.skip)?;
        let host = Host::open(self, plan, 1, request.mode, None).await?;
        let facts = host.facts(plan).await?;
        let included = plan.indices().filter(|index| !left_out.contains_key(index)).collect::<Vec<_>>();
        let external = included.iter().filter(|index| facts[index.get()].effect >= EffectClass::External);
        let external = external.map(|index| format!("`{}`", plan.stage(*index).id)).collect::<Vec<_>>();
        if !external.is_empty() {
            let verb = if external.len() == 1 { "acts" } else { "act" };
            return Err(SessionError::not_ready(format!(
                "`--watch` runs only stages that stay on this machine, and {} {verb} beyond it",
                list(&external)
            ))
            .hint("choose stages with `--only` or `--skip`, or rehearse them with `--rehearse`"));
        }
        let stages = included.iter().map(|index| plan.stage(*index));
        let rules = WatchRules::new(&self.repository, &file.name, stages, host.closed_paths()?, except)?;
        let root = Arc::clone(&self.repository);
        blocking(move || {
            let folders = FolderWatch::new(&root.root, &rules)?;
            Ok(FileWatch { folders, rules, pending: BTreeSet::new() })
        })
        .await
    }
}

impl FileWatch {
    /// Waits for a change while a run is under way. What its stages may write doesn't count.
    ///
    /// # Errors
    /// If files can't be watched any more.
    pub async fn changed_during_run(&mut self) -> Result<ChangedPaths, SessionError> {
        self.next_changes(true).await
    }

    /// Ends a run: what its stages have written by now doesn't count later.
    ///
    /// # Errors
    /// If files can't be watched any more.
    pub fn run_ended(&mut self) -> Result<(), SessionError> {
        let changes = self.folders.read()?;
        self.note(changes, true)
    }

    /// Waits for a change while no run is under way.
    ///
    /// # Errors
    /// If files can't be watched any more.
    pub async fn changed(&mut self) -> Result<ChangedPaths, SessionError> {
        self.next_changes(false).await
    }

    async fn next_changes(&mut self, is_running: bool) -> Result<ChangedPaths, SessionError> {
        while self.pending.is_empty() {
            let changes = self.folders.next().await?;
            self.note(changes, is_running)?;
        }
        let deadline = Instant::now() + LONGEST;
        while Instant::now() < deadline
            && let Ok(changes) = timeout(QUIET, self.folders.next()).await
        {
            self.note(changes?, is_running)?;
        }
        Ok(ChangedPaths(std::mem::take(&mut self.pending)))
    }

    /// Keeps the changes that count, and watches new folders.
    fn note(&mut self, changes: Vec<FolderChange>, is_running: bool) -> Result<(), SessionError> {
        for change in changes {
            match change {
                FolderChange::File(path) if self.rules.count(&path, is_running) => drop(self.pending.insert(path)),
                FolderChange::File(_) => {}
                FolderChange::NewFolder(path) => {
                    self.folders.add_tree(&path, &self.rules)?;
                    // It may have got files before it was watched.
                    if self.rules.reach_into(&path) && !(is_running && self.rules.may_create(&path)) {
                        self.pending.insert(path);
                    }
                }
                FolderChange::Lost => drop(self.pending.insert(".".to_owned())),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_many_paths_are_named() {
        let shown = |paths: &[&str]| ChangedPaths(paths.iter().map(ToString::to_string).collect()).to_string();
        assert_eq!(shown(&["a"]), "a");
        assert_eq!(shown(&["a", "b", "c", "d", "e"]), "a, b, c and 2 other files");
    }
}
