//! Reads a repository with libgit2, which starts no program.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Once;

use git2::{
    AttrCheckFlags, Delta, DescribeOptions, DiffOptions, ErrorCode, FileMode, IndexEntry, IndexEntryExtendedFlag,
    IndexEntryFlag, Oid, Repository, Sort, Status, StatusOptions,
};
use stagewright_plugin_host::Commit;

use super::{Differences, GitReader, RepositoryState, Unanswered, content, digest, files, working_tree};

/// Attributes that make git transform content before it compares it, and that libgit2 doesn't support.
const NOT_FOLLOWED: [&str; 2] = ["filter", "working-tree-encoding"];

/// A repository that libgit2 has opened.
pub(super) struct GitLibrary {
    repository: Repository,
    root: PathBuf,
}

/// Opens a repository, regardless of its owner.
///
/// Like git, libgit2 refuses repositories of other users by default, because their configuration names programs to run.
/// libgit2 runs none of these programs, and in a container the workspace usually belongs to another user.
pub(super) fn open(root: &Path) -> Result<Repository, git2::Error> {
    static OWNERS: Once = Once::new();
    // SAFETY: this sets a global of libgit2 without synchronisation, so it must not race with a call that opens a
    // repository. All repositories of this process are opened through this function, and the `Once` makes each call
    // wait until the option is set.
    OWNERS.call_once(|| unsafe {
        // Setting this option can't fail.
        let _ = git2::opts::set_verify_owner_validation(false);
    });
    Repository::open(root)
}

impl GitLibrary {
    /// Opens the repository at `root`; none outside a repository. Its git directory must have been
    /// [checked](files::check_directory).
    pub(super) fn open(root: &Path) -> Result<Option<GitLibrary>, Unanswered> {
        if working_tree(root) != Some(root) {
            return Ok(None);
        }
        let repository = open(root)?;
        files::check(&repository, root)?;
        Ok(Some(GitLibrary { repository, root: root.to_owned() }))
    }

    /// Opens a submodule; none if it isn't checked out.
    fn submodule_at(&self, path: &Path) -> Result<Option<GitLibrary>, Unanswered> {
        let root = self.root.join(path);
        if working_tree(&root) == Some(&*root) {
            files::check_directory(&root)?;
        }
        GitLibrary::open(&root)
    }

    fn branch(&self) -> Result<Option<String>, git2::Error> {
        let head = self.repository.head()?;
        Ok(head.is_branch().then(|| head.shorthand().ok().map(str::to_owned)).flatten())
    }

    fn exact_tag(&self) -> Option<String> {
        let mut options = DescribeOptions::new();
        options.describe_tags().max_candidates_tags(0);
        self.repository.describe(&options).ok()?.format(None).ok()
    }

    /// The differences between HEAD, the index and the working tree.
    fn changes(&self, recurse_untracked: bool) -> Result<Changed, Unanswered> {
        let mut options = StatusOptions::new();
        options.include_untracked(true).recurse_untracked_dirs(recurse_untracked);
        let index = self.repository.index()?;
        let mut changed = Changed { is_exact: true, ..Changed::default() };
        for entry in self.repository.statuses(Some(&mut options))?.iter() {
            let path = PathBuf::from(OsStr::from_bytes(entry.path_bytes()));
            let status = entry.status();
            if status == Status::WT_NEW {
                changed.untracked.insert(path);
                continue;
            }
            let place = self.root.join(&path);
            let recorded = index.get_path(&path, 0);
            if let Some(recorded) = recorded.as_ref().filter(|recorded| is_submodule(recorded)) {
                // A submodule that only has untracked files of its own counts as unchanged.
                let status = status & !Status::WT_MODIFIED;
                if let Some(now) = self.submodule(recorded, status, &path, &mut changed) {
                    changed.tracked.insert(path, now);
                }
            } else if !recorded.is_some_and(|recorded| is_left_out(&recorded, &place)) {
                changed.is_exact &= !status.is_wt_modified() || self.is_compared_as_git_does(&path)?;
                changed.tracked.insert(path, content(&place));
            } else if status.bits() & !Status::WT_DELETED.bits() != 0 {
                // Staged, but not checked out.
                changed.tracked.insert(path, "staged".to_owned());
            }
        }
        self.add_overlooked(&index, &mut changed)?;
        // On a case-insensitive file system, libgit2 treats names as different that git treats as the same.
        let ignores_case = self.repository.config()?.get_bool("core.ignorecase").unwrap_or(false);
        changed.is_exact &= !ignores_case || changed.untracked.is_empty();
        Ok(changed)
    }

    fn is_compared_as_git_does(&self, path: &Path) -> Result<bool, git2::Error> {
        for name in NOT_FOLLOWED {
            if self.repository.get_attr_bytes(path, name, AttrCheckFlags::default())?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Adds differences that a status doesn't list: of files whose changes git was configured to ignore, of files with
    /// unchanged size and time if git is configured to trust these, and of ignored submodules.
    fn add_overlooked(&self, index: &git2::Index, changed: &mut Changed) -> Result<(), git2::Error> {
        let config = self.repository.config()?;
        let trusts_times = config.get_bool("core.trustctime") == Ok(false)
            || config.get_string("core.checkstat").is_ok_and(|mode| mode.eq_ignore_ascii_case("minimal"));
        for entry in index.iter() {
            let unwatched = IndexEntryFlag::from_bits_retain(entry.flags).is_valid();
            if !(is_submodule(&entry) || trusts_times || is_skipped(&entry) || unwatched) {
                continue;
            }
            let path = PathBuf::from(OsStr::from_bytes(&entry.path));
            let place = self.root.join(&path);
            if changed.tracked.contains_key(&path) || is_left_out(&entry, &place) {
                continue;
            }
            if is_submodule(&entry) {
                if let Some(now) = self.submodule(&entry, Status::CURRENT, &path, changed) {
                    changed.tracked.insert(path, now);
                }
            } else if content_id(&place).as_deref() != Some(&entry.id.to_string()) {
                changed.is_exact &= self.is_compared_as_git_does(&path)?;
                changed.tracked.insert(path, content(&place));
            }
        }
        Ok(())
    }

    /// Identifies the checked-out commit of a submodule. None if it isn't checked out, or if it equals the index and
    /// the index equals HEAD (`staged`).
    fn submodule(&self, recorded: &IndexEntry, staged: Status, path: &Path, changed: &mut Changed) -> Option<String> {
        let place = self.root.join(path);
        let is_staged = !staged.is_empty();
        if place.join(".git").symlink_metadata().is_err() {
            return is_staged.then(|| recorded.id.to_string());
        }
        let state = match self.submodule_at(path).map(|opened| opened.map(|opened| opened.state())) {
            Ok(Some(Ok(Some(state)))) => state,
            _ => {
                changed.is_exact = false;
                return Some("unreadable".to_owned());
            }
        };
        changed.is_exact &= state.is_exact;
        if state.has_untracked {
            changed.untracked.insert(path.to_owned());
        }
        let is_same = state.commit == recorded.id.to_string() && state.changed.is_empty();
        (is_staged || !is_same).then(|| format!("{}{}", state.commit, digest(&state.changed).unwrap_or_default()))
    }

    /// Adds the differences between a submodule and the commit that it had, if any.
    fn below(&self, path: &Path, before: Option<Oid>, found: &mut Differences) {
        let below = before.zip(self.submodule_at(path).ok().flatten());
        match below.and_then(|(before, below)| below.differences(&before.to_string()).ok()) {
            Some(below) => found.extend(path, &below),
            None => drop(found.folders.insert(path.to_owned())),
        }
    }
}

impl GitReader for GitLibrary {
    fn state(&self) -> Result<Option<RepositoryState>, Unanswered> {
        let commit = match self.repository.head() {
            Err(error) if error.code() == ErrorCode::UnbornBranch => return Ok(None),
            head => head?.peel_to_commit()?.id().to_string(),
        };
        let Changed { untracked, tracked, is_exact } = self.changes(false)?;
        Ok(Some(RepositoryState {
            commit,
            branch: self.branch()?,
            tag: self.exact_tag(),
            has_untracked: !untracked.is_empty(),
            changed: tracked,
            is_exact,
        }))
    }

    fn commit(&self, revision: &str) -> Result<Option<String>, Unanswered> {
        match self.repository.revparse_single(revision).and_then(|object| object.peel_to_commit()) {
            Ok(commit) => Ok(Some(commit.id().to_string())),
            Err(error) if names_nothing(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn reference(&self, name: &str) -> Result<Option<String>, Unanswered> {
        match self.repository.resolve_reference_from_short_name(name).and_then(|found| found.resolve()) {
            Ok(found) => Ok(found.name().ok().map(str::to_owned)),
            Err(error) if names_nothing(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn merge_base(&self, one: &str, other: &str) -> Result<Option<String>, Unanswered> {
        match self.repository.merge_base(Oid::from_str(one)?, Oid::from_str(other)?) {
            Ok(base) => Ok(Some(base.to_string())),
            Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn files(&self) -> Result<BTreeSet<PathBuf>, Unanswered> {
        let path = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
        let mut options = StatusOptions::new();
        options.include_untracked(true).recurse_untracked_dirs(true);
        let untracked = self.repository.statuses(Some(&mut options))?;
        let untracked = untracked.iter().filter(|entry| entry.status() == Status::WT_NEW);
        let untracked = untracked.map(|entry| path(entry.path_bytes())).collect::<Vec<_>>();
        Ok(self.repository.index()?.iter().map(|entry| path(&entry.path)).chain(untracked).collect())
    }

    fn differences(&self, commit: &str) -> Result<Differences, Unanswered> {
        let tree = self.repository.find_commit(Oid::from_str(commit)?)?.tree()?;
        let mut options = DiffOptions::new();
        let diff = self.repository.diff_tree_to_index(Some(&tree), None, Some(&mut options))?;
        let mut found = Differences::none();
        let mut submodules = BTreeMap::new();
        for delta in diff.deltas().filter(|delta| delta.status() != Delta::Unmodified) {
            for (file, is_old) in [(delta.old_file(), true), (delta.new_file(), false)] {
                let Some(path) = file.path_bytes().map(|path| PathBuf::from(OsStr::from_bytes(path))) else { continue };
                if file.mode() == FileMode::Commit {
                    submodules.entry(path.clone()).or_insert(is_old.then(|| file.id()));
                }
                found.paths.insert(path);
            }
        }
        let Changed { untracked, tracked, is_exact } = self.changes(true)?;
        found.is_exact = is_exact;
        let index = self.repository.index()?;
        for path in tracked.keys().chain(&untracked) {
            if let Some(recorded) = index.get_path(path, 0).filter(is_submodule) {
                submodules.entry(path.clone()).or_insert(Some(recorded.id));
            }
        }
        found.paths.extend(tracked.into_keys().chain(untracked));
        for (path, before) in submodules {
            self.below(&path, before, &mut found);
        }
        Ok(found)
    }

    fn log(&self, head: &str, since: Option<&str>, most: usize) -> Result<Vec<Commit>, Unanswered> {
        let mut walk = self.repository.revwalk()?;
        walk.set_sorting(Sort::TOPOLOGICAL | Sort::TIME)?;
        walk.push(Oid::from_str(head)?)?;
        if let Some(since) = since {
            walk.hide(Oid::from_str(since)?)?;
        }
        let mut commits = Vec::new();
        for id in walk.take(most) {
            let commit = self.repository.find_commit(id?)?;
            commits.push(Commit {
                id: commit.id().to_string(),
                parents: commit.parent_ids().map(|parent| parent.to_string()).collect(),
                author: String::from_utf8_lossy(commit.author().name_bytes()).into_owned(),
                time_ms: u64::try_from(commit.time().seconds()).unwrap_or_default().saturating_mul(1000),
                message: String::from_utf8_lossy(commit.message_bytes()).into_owned(),
            });
        }
        Ok(commits)
    }

    fn is_shallow(&self) -> Result<bool, Unanswered> {
        Ok(self.repository.is_shallow())
    }

    fn remote(&self) -> Result<Option<String>, Unanswered> {
        match self.repository.find_remote("origin") {
            Ok(remote) => Ok(Some(String::from_utf8_lossy(remote.url_bytes()).into_owned())),
            Err(error) if matches!(error.code(), ErrorCode::NotFound | ErrorCode::InvalidSpec) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// The files that differ from HEAD.
#[derive(Default)]
struct Changed {
    /// Includes submodules with untracked files.
    untracked: BTreeSet<PathBuf>,
    /// The changed files with their current content.
    tracked: BTreeMap<PathBuf, String>,
    is_exact: bool,
}

fn names_nothing(error: &git2::Error) -> bool {
    // An ambiguous prefix of an id, and text that isn't a revision at all.
    matches!(error.code(), ErrorCode::NotFound | ErrorCode::InvalidSpec | ErrorCode::Ambiguous | ErrorCode::Peel)
}

fn is_submodule(entry: &IndexEntry) -> bool {
    entry.mode == u32::from(FileMode::Commit)
}

fn is_skipped(entry: &IndexEntry) -> bool {
    IndexEntryExtendedFlag::from_bits_retain(entry.flags_extended).is_skip_worktree()
}

/// Whether a sparse checkout leaves the file out of the working tree.
fn is_left_out(entry: &IndexEntry, place: &Path) -> bool {
    is_skipped(entry) && place.symlink_metadata().is_err()
}

/// The object id of the file or link, without filters.
fn content_id(place: &Path) -> Option<String> {
    Some(content(place).trim_end_matches('x').to_owned())
}
