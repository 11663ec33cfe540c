//! That nothing which a stage could read was another thing while it ran.
//!
//! Before the work begins, a witness notes what identifies every input: inode, size, modification time and the time of
//! the inode's last change, which nothing can set back. Afterwards the files have to be the same in all of that, not
//! only in content: a file that was changed and changed back, or replaced and put back, has another `ctime`.
//!
//! Folders are noted as well, for what appears in one and goes again. Where a stage may list a folder and not write to
//! it, its times have to stay; other folders, whose times move with every file that is made beside the inputs, must not
//! have been renamed or replaced. So a file that appears for a moment in a folder that the stage writes to itself isn't
//! noticed, and neither is what a stage's own programs do there.
//!
//! Work on a snapshot would need no witness. But it is a copy where the file system has no reflinks, of 50,000 files for
//! one that changed, or an overlay, which a sandbox without privileges can't have on every kernel, and whose lower files
//! show through when they are written in place.

use std::io;
use std::path::Path;

use crate::content;
use crate::globs::{Globs, is_within};
use crate::scan::{EntryKind, ScannedEntry, WorkspaceScan};
use crate::stamp::{Stamp, TICK, now};
use crate::tree::Tree;

/// Inputs that come to more bytes are not read a second time.
const REREAD: u64 = 64 << 20;

/// Times that are further ahead than clocks differ.
const AHEAD: i128 = 1_000_000_000;

/// What an attempt is held to while it works.
pub(crate) struct AttemptWatch {
    pub(crate) witness: Witness,
    /// An input that another process could write to when it began.
    pub(crate) written: Option<String>,
    /// The paths that it may read; none when they are too many.
    pub(crate) cover: Option<Vec<String>>,
}

/// Files that count, and that lie where the stage may write or are named one by one.
///
/// Whether another process changed one of them or the stage itself can't be told: neither result is kept. What the stage
/// changed is its own the next time, and doesn't count any more.
#[derive(Debug)]
pub(crate) struct ForeignFiles(Vec<ScannedEntry>);

impl ForeignFiles {
    /// Folders count by their name and mode alone, and what is made in them is the stage's, as its `outputs` are.
    pub(crate) fn of(
        left: &[ScannedEntry],
        outputs: &Globs,
        programs: impl IntoIterator<Item = ScannedEntry>,
    ) -> ForeignFiles {
        let left = left.iter().filter(|file| file.kind != EntryKind::Folder && !outputs.matches(&file.path)).cloned();
        ForeignFiles(left.chain(programs).collect())
    }

    /// The first one that isn't what it was.
    pub(crate) fn first_changed(&self, root: &Path) -> Option<&str> {
        let is_same = |file: &ScannedEntry| {
            let now = root.join(&file.path).symlink_metadata();
            now.is_ok_and(|now| ScannedEntry::new(file.path.clone(), &now) == *file)
        };
        self.0.iter().find(|file| !is_same(file)).map(|file| file.path.as_str())
    }
}

/// What the inputs were before the work began.
#[derive(Debug)]
pub(crate) struct Witness(Vec<Noted>);

#[derive(Debug)]
struct Noted {
    path: String,
    kind: EntryKind,
    stamp: Stamp,
    /// Of a folder: whether it may get and lose entries.
    is_open: bool,
}

impl Witness {
    /// `found`: the inputs, settled. `cover`: the paths that the stage is given; none when it sees more than its inputs.
    /// `writes`: where it may write.
    pub(crate) fn of(found: &[ScannedEntry], cover: Option<&[String]>, writes: &Globs) -> Witness {
        let is_given = |folder: &str| cover.is_none_or(|paths| paths.iter().any(|path| is_within(folder, path)));
        let is_written =
            |folder: &str| writes.matches(folder) || writes.bases().iter().any(|base| is_within(base, folder));
        let noted = found.iter().map(|file| Noted {
            path: file.path.clone(),
            kind: file.kind,
            stamp: file.stamp,
            is_open: file.kind == EntryKind::Folder && (!is_given(&file.path) || is_written(&file.path)),
        });
        Witness(noted.collect())
    }

    /// The first input that isn't what it was; both in the order of their paths.
    pub(crate) fn first_changed<'a>(&'a self, found: &'a [ScannedEntry]) -> Option<&'a str> {
        let is_same = |noted: &Noted, file: &ScannedEntry| {
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

/// Waits until any further change of these files would show; whether that took a wait, so that they have to be looked at
/// again.
///
/// # Errors
/// When the file system's clock is so far ahead that it never will.
pub(crate) fn wait_until_changes_show(found: &[ScannedEntry], others: &ForeignFiles) -> io::Result<bool> {
    let mut waited = false;
    while let Some(file) = found.iter().chain(&others.0).find(|file| !file.stamp.shows_changes_after(now())) {
        if !file.stamp.shows_changes_after(now() + AHEAD) {
            return Err(io::Error::other(format!("`{}` has been changed in the future", file.path)));
        }
        std::thread::sleep(TICK);
        waited = true;
    }
    Ok(waited)
}

/// A file that some process can still write to: through a mapping, changes of it need not show.
pub(crate) fn open_for_writing<'a>(root: &Path, found: &'a [ScannedEntry]) -> Option<&'a str> {
    let files = found.iter().filter(|file| file.kind == EntryKind::File);
    let mut written = files
        .filter(|file| content::open(&root.join(&file.path), &file.stamp).is_ok_and(|file| !content::is_quiet(&file)));
    written.next().map(|file| file.path.as_str())
}

/// Whether what is read once more, whatever is known of it, is the same: where stores through a mapping never show in
/// the times of a file. Of very much, nothing is.
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
