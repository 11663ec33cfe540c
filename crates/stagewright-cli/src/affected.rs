//! `--affected`: the stages whose files have changed since a commit.

use std::collections::BTreeSet;
use std::path::Path;

use git2::{Delta, DiffOptions, Oid, Repository as Git};
use stagewright_cache::Globs;
use stagewright_model::{Plan, PluginRef, Stage, StageIndex};

use crate::error::CommandError;
use crate::git_files;
use crate::repository::PipelineFile;

/// Branches that others leave, in the order in which they are looked for.
const MAIN: [&str; 4] = ["origin/HEAD", "origin/main", "main", "master"];

/// What has changed.
#[derive(Debug)]
pub(crate) struct Changes {
    /// The commit, as people write it.
    pub(crate) since: String,
    /// Relative to the repository's root; both names of what was renamed.
    paths: BTreeSet<String>,
}

/// Looks at all commits since `base`, and at what isn't committed.
pub(crate) fn changes(root: &Path, base: Option<&str>) -> Result<Changes, CommandError> {
    let git = Git::open(root).map_err(|error| {
        CommandError::usage("`--affected` needs a git repository")
            .caused_by(error)
            .hint("leave it out, to run everything")
    })?;
    git_files::check(&git, root)?;
    let failed = |error: git2::Error| CommandError::internal("can't tell what has changed").caused_by(error);
    let head = git
        .head()
        .and_then(|head| head.peel_to_commit())
        .map_err(|error| CommandError::usage("`--affected` needs a commit to look back from").caused_by(error))?;
    let (since, base) = base_of(&git, head.id(), base)?;
    let tree = git.find_commit(base).and_then(|commit| commit.tree()).map_err(failed)?;
    let mut options = DiffOptions::new();
    options.include_untracked(true).recurse_untracked_dirs(true).ignore_submodules(true);
    let diff = git.diff_tree_to_workdir_with_index(Some(&tree), Some(&mut options)).map_err(failed)?;
    let mut paths = BTreeSet::new();
    for delta in diff.deltas().filter(|delta| delta.status() != Delta::Unmodified) {
        let files = [delta.old_file(), delta.new_file()];
        paths.extend(files.iter().filter_map(|file| Some(file.path()?.to_string_lossy().into_owned())));
    }
    Ok(Changes { since, paths })
}

/// A commit, and how it is called: where HEAD left `base`, or else the main branch.
fn base_of(git: &Git, head: Oid, base: Option<&str>) -> Result<(String, Oid), CommandError> {
    let find =
        |name: &str| git.revparse_single(name).and_then(|object| object.peel_to_commit()).map(|commit| commit.id());
    let (name, found) = match base {
        Some(name) => {
            let found = find(name)
                .map_err(|error| CommandError::usage(format!("`--base {name}` names no commit")).caused_by(error))?;
            (name, found)
        }
        None => MAIN.iter().find_map(|name| Some((*name, find(name).ok()?))).ok_or_else(|| {
            CommandError::usage("there is no main branch to look back to").hint("name a commit with `--base`")
        })?,
    };
    // Histories that never met have nothing in common to look back to: all of the difference counts.
    let left = git.merge_base(head, found).unwrap_or(found);
    let short: String = left.to_string().chars().take(12).collect();
    Ok((format!("{name} ({short})"), left))
}

impl Changes {
    /// The stages whose own files are among them.
    pub(crate) fn stages(&self, plan: &Plan, file: &PipelineFile) -> Result<BTreeSet<StageIndex>, CommandError> {
        if self.paths.contains(&file.name) {
            return Ok(plan.indices().collect());
        }
        let mut touched = BTreeSet::new();
        for index in plan.indices() {
            let stage = plan.stage(index);
            let globs = Globs::new(&files_of(stage)).map_err(|error| {
                CommandError::internal(format!("the globs of `{}` mean nothing", stage.id)).caused_by(error)
            })?;
            if self.paths.iter().any(|path| globs.matches(path)) {
                touched.insert(index);
            }
        }
        Ok(touched)
    }
}

/// Its inputs, or all that it may read and write; and its plugin, where that is a file of the repository.
fn files_of(stage: &Stage) -> Vec<String> {
    let permissions = &stage.permissions;
    let own = match stage.inputs.is_empty() {
        true => permissions.read.iter().chain(&permissions.write).cloned().collect(),
        false => stage.inputs.clone(),
    };
    let plugin = match &stage.uses {
        PluginRef::Path(path) => Some(path.clone()),
        PluginRef::Builtin(_) | PluginRef::Oci(_) => None,
    };
    own.into_iter().chain(plugin).collect()
}
