//! Which files of the workspace count.

use std::collections::BTreeSet;
use std::path::PathBuf;

use stagewright_cache::Globs;
use stagewright_model::{PathPattern, Stage, WorkspacePath};

use crate::changed_files::plugin_file;
use crate::error::SessionError;
use crate::git::IgnoreRules;
use crate::repository::Repository;

/// What stages read and write.
pub(super) struct WatchRules {
    read: Globs,
    written: Globs,
    /// The paths without wildcards at which what is read begins.
    bases: BTreeSet<String>,
    /// Those of them that git ignores: naming them says that they count.
    named: Vec<String>,
    /// Paths that no stage can reach, and those that this process writes.
    closed: Vec<String>,
    ignored: IgnoreRules,
}

impl WatchRules {
    pub(super) fn new<'a>(
        repository: &Repository,
        pipeline: &str,
        stages: impl Iterator<Item = &'a Stage> + Clone,
        mut closed: Vec<String>,
        except: &[PathBuf],
    ) -> Result<WatchRules, SessionError> {
        let own_file = WorkspacePath::parse(pipeline).ok().map(|path| PathPattern::literally(&path));
        let read = stages.clone().flat_map(files_of).chain(own_file).collect::<Vec<_>>();
        let written = stages.flat_map(|stage| stage.permissions.writable()).collect::<Vec<_>>();
        let globs = |patterns: &[PathPattern]| {
            Globs::new(patterns).map_err(|error| SessionError::internal("invalid globs of stages").caused_by(error))
        };
        let except = except.iter().filter_map(|path| path.strip_prefix(&repository.root).ok()?.to_str());
        closed.extend(except.map(str::to_owned));
        let ignored = IgnoreRules::open(&repository.root)?;
        let bases = read.iter().map(|pattern| pattern.base().as_str().to_owned()).collect::<BTreeSet<_>>();
        let named = bases.iter().filter(|base| !base.is_empty() && ignored.ignores(base)).cloned().collect();
        Ok(WatchRules { read: globs(&read)?, written: globs(&written)?, bases, named, closed, ignored })
    }

    pub(super) fn bases(&self) -> impl Iterator<Item = &str> {
        self.bases.iter().map(String::as_str)
    }

    /// Whether a change of this path is a reason to run.
    pub(super) fn count(&self, path: &str, is_running: bool) -> bool {
        self.read.name(path) && !(is_running && self.is_written(path)) && self.is_open(path)
    }

    /// Whether a stage may write this path.
    fn is_written(&self, path: &str) -> bool {
        self.written.name(path)
    }

    /// Whether a stage may have created this folder: it may write it, or something in it.
    pub(super) fn may_create(&self, folder: &str) -> bool {
        self.is_written(folder) || self.written.reach_into(folder)
    }

    /// Whether a file below this folder can count.
    pub(super) fn reach_into(&self, folder: &str) -> bool {
        self.read.reach_into(folder) && self.is_open(folder)
    }

    /// Whether to watch a folder.
    pub(super) fn enters(&self, folder: &str) -> bool {
        folder.is_empty() || self.reach_into(folder)
    }

    fn is_open(&self, path: &str) -> bool {
        let is_closed = self.closed.iter().any(|closed| is_within(path, closed));
        let is_git = path.split('/').any(|part| part == ".git");
        let is_named = self.named.iter().any(|named| is_within(path, named));
        // A report that this process writes.
        let is_draft = path.rsplit('/').next().is_some_and(stagewright_files::is_draft);
        !is_closed && !is_git && !is_draft && (is_named || !self.ignored.ignores(path))
    }
}

/// The files that a stage reads: its inputs, or everything that it may read if it declares none, and its plugin.
fn files_of(stage: &Stage) -> Vec<PathPattern> {
    let own = match stage.inputs.is_empty() {
        true => stage.permissions.readable().collect(),
        false => stage.inputs.clone(),
    };
    own.into_iter().chain(plugin_file(stage)).collect()
}

fn is_within(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
