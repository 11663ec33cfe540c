//! Verifies that nothing a stage could read changed while it ran.
//!
//! Before the stage starts, a witness records the inode, size, modification time and `ctime` of every input. The `ctime`
//! can't be set back. After the stage has ended, all of these must be the same, not only the content: a file that was
//! changed and changed back, or replaced and restored, has another `ctime`.
//!
//! Folders are recorded as well, to detect files that appear in one and disappear again. If a stage may list a folder but
//! not write to it, the folder's times must not change. The times of other folders change with every file that is created
//! beside the inputs, so these must only not be renamed or replaced. A file that exists for a moment in a folder that the
//! stage writes to itself is therefore not detected, and neither is what the stage's own programs do there.
//!
//! Working on a snapshot would need no witness. But without reflinks a snapshot is a copy, of 50,000 files for one that
//! changed. An overlay is not available to an unprivileged sandbox on every kernel, and changes of its lower files in
//! place remain visible.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::content;
use crate::globs::{Globs, is_within};
use crate::scan::{EntryKind, ScannedEntry, WorkspaceScan};
use crate::stamp::{Stamp, TICK, now};
use crate::tree::Tree;

/// Inputs with more bytes in total are not read a second time.
const REREAD: u64 = 64 << 20;

/// A change time that is further in the future than this, in nanoseconds, can't be explained by differing clocks.
const AHEAD: i128 = 1_000_000_000;

/// What is checked or enforced while an attempt runs.
pub(crate) struct AttemptWatch {
    pub(crate) witness: Witness,
    /// An input that another process had open for writing when the attempt started.
    pub(crate) written: Option<String>,
    /// Held for as long as the attempt runs; none if another run of the stage was under way when it started, or if the stage
    /// writes nothing.
    pub(crate) claim: Option<File>,
    /// The paths that the attempt may read; none if they are too many to restrict it to them.
    pub(crate) cover: Option<Vec<String>>,
}

/// Files of others in the paths that the stage may write, and programs of the workspace.
///
/// If one of them changes, it can't be determined whether the stage or another process changed it, so the result is not
/// stored. Files that the stage changed are its own leftovers in the next attempt, and are not included any more.
#[derive(Debug)]
pub(crate) struct ForeignFiles(Vec<ScannedEntry>);

impl ForeignFiles {
    /// Leaves out folders and `outputs`. Folders enter the key by name and mode only, and the files that are created in
    /// them are the stage's own.
    pub(crate) fn of(
        left: &[ScannedEntry],
        outputs: &Globs,
        programs: impl IntoIterator<Item = ScannedEntry>,
    ) -> ForeignFiles {
        let left = left.iter().filter(|file| file.kind != EntryKind::Folder && !outputs.matches(&file.path)).cloned();
        ForeignFiles(left.chain(programs).collect())
    }

    /// The first of these files that changed.
    pub(crate) fn first_changed(&self, root: &Path) -> Option<&str> {
        let is_same = |file: &ScannedEntry| {
            let now = root.join(&file.path).symlink_metadata();
            now.is_ok_and(|now| ScannedEntry::new(file.path.clone(), &now) == *file)
        };
        self.0.iter().find(|file| !is_same(file)).map(|file| file.path.as_str())
    }
}

/// The state of the inputs before the stage started.
#[derive(Debug)]
pub(crate) struct Witness(Vec<WitnessedEntry>);

#[derive(Debug)]
struct WitnessedEntry {
    path: String,
    kind: EntryKind,
    stamp: Stamp,
    /// Whether this is a folder to which entries may be added and from which they may be removed.
    is_open: bool,
}

impl Witness {
    /// `found`: the inputs, after [`wait_until_changes_show`]. `cover`: the paths that the stage can read; none if it can
    /// read more than its inputs. `writes`: the paths that it may write.
    pub(crate) fn of(found: &[ScannedEntry], cover: Option<&[String]>, writes: &Globs) -> Witness {
        let is_given = |folder: &str| cover.is_none_or(|paths| paths.iter().any(|path| is_within(folder, path)));
        let is_written =
            |folder: &str| writes.matches(folder) || writes.bases().iter().any(|base| is_within(base, folder));
        let noted = found.iter().map(|file| WitnessedEntry {
            path: file.path.clone(),
            kind: file.kind,
            stamp: file.stamp,
            is_open: file.kind == EntryKind::Folder && (!is_given(&file.path) || is_written(&file.path)),
        });
        Witness(noted.collect())
    }

    /// The first input that was changed, added or removed. `found` must be sorted by path.
    pub(crate) fn first_changed<'a>(&'a self, found: &'a [ScannedEntry]) -> Option<&'a str> {
        let is_same = |noted: &WitnessedEntry, file: &ScannedEntry| {
            noted.path == file.path
                && noted.kind == file.kind
                && if noted.is_open { !noted.stamp.was_moved(&file.stamp) } else { noted.stamp == file.stamp }
        };
        let differing = self.0.iter().zip(found).find(|(noted, file)| !is_same(noted, file));
        let differing = differing.map(|(noted, file)| noted.path.as_str().min(&file.path));
        let more = || match self.0.len().cmp(&found.len()) {
            std::cmp::Ordering::Equal => None,
            std::cmp::Ordering::Less => found.get(self.0.len()).map(|file| file.path.as_str()),
            std::cmp::Ordering::Greater => self.0.get(found.len()).map(|noted| noted.path.as_str()),
        };
        differing.or_else(more)
    }
}

/// Waits until every further change of these files is certain to change their stamps. Returns whether it had to wait: the
/// files may have changed meanwhile, so the caller must examine them again.
///
/// # Errors
/// When a file's `ctime` is so far in the future that the wait would not end.
pub(crate) fn wait_until_changes_show(found: &[ScannedEntry], others: &ForeignFiles) -> io::Result<bool> {
    let mut waited = false;
    while let Some(file) = found.iter().chain(&others.0).find(|file| !file.stamp.shows_changes_after(now())) {
        if !file.stamp.shows_changes_after(now() + AHEAD) {
            return Err(io::Error::other(format!("the change time of `{}` is in the future", file.path)));
        }
        std::thread::sleep(TICK);
        waited = true;
    }
    Ok(waited)
}

/// The first file that a process has open for writing. Writes through a mapping may not update its times.
pub(crate) fn open_for_writing<'a>(root: &Path, found: &'a [ScannedEntry]) -> Option<&'a str> {
    let files = found.iter().filter(|file| file.kind == EntryKind::File);
    let mut open = files
        .filter(|file| content::open(&root.join(&file.path), &file.stamp).is_ok_and(|file| !content::is_quiet(&file)));
    open.next().map(|file| file.path.as_str())
}

/// Reads all files again, including those that the index knows, and returns whether their content is the same. This
/// detects stores through a mapping where these never update the times of a file. Returns true without reading if the
/// files have more than [`REREAD`] bytes in total.
pub(crate) fn is_unchanged_when_reread(
    workspace: &WorkspaceScan<'_>,
    found: &[ScannedEntry],
    tree: &Tree,
) -> io::Result<bool> {
    let files = || found.iter().filter(|file| file.kind == EntryKind::File);
    if files().map(|file| file.stamp.size()).sum::<u64>() > REREAD {
        return Ok(true);
    }
    for file in files() {
        let read = workspace.content(file)?;
        if tree.0.get(&file.path).and_then(crate::tree::TreeNode::digest) != Some(read) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests;
