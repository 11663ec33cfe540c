//! Finds the files of a workspace that globs name, and reads them.
//!
//! Wildcards don't match files that a `.gitignore` of the workspace excludes. A glob that names an ignored folder, such as
//! `node_modules/**`, does match the files there.

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::sync::mpsc;

use ignore::{WalkBuilder, WalkState};

use crate::content;
use crate::digest::Digest;
use crate::globs::{Globs, is_within};
use crate::index::FileIndex;
use crate::stamp::Stamp;
use crate::tree::{Tree, TreeNode, mode};

/// A further thread is used for each multiple of this many files.
const FEW: usize = 16;

/// A workspace whose files are scanned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WorkspaceScan<'a> {
    pub(crate) root: &'a Path,
    /// Paths that are never inputs or outputs, such as `.git`.
    pub(crate) reserved: &'a [String],
    pub(crate) index: &'a FileIndex,
}

/// A file, link or folder whose content has not been read yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ScannedEntry {
    pub(crate) path: String,
    pub(crate) kind: EntryKind,
    /// Permission bits, as in [`TreeNode`].
    pub(crate) mode: u32,
    pub(crate) stamp: Stamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    File,
    Link,
    Folder,
    /// A pipe, socket or device, which can't be cached; the text names it with its article.
    Special(&'static str),
}

impl WorkspaceScan<'_> {
    /// Everything that the globs name, with the folders above; sorted by path.
    pub(crate) fn find(&self, globs: &Globs) -> io::Result<Vec<ScannedEntry>> {
        self.find_beside(globs, globs)
    }

    /// Like [`find`](Self::find), and in addition everything that `more` names and no `.gitignore` excludes. `more` must
    /// include all of `globs`.
    pub(crate) fn find_beside(&self, globs: &Globs, more: &Globs) -> io::Result<Vec<ScannedEntry>> {
        if more.bases().is_empty() {
            return Ok(Vec::new());
        }
        let mut found = self.walk("", true, more)?;
        let seen: BTreeSet<&str> = found.iter().map(|file| file.path.as_str()).collect();
        let is_missing = |base: &&String| !base.is_empty() && !seen.contains(base.as_str());
        let missing: Vec<&String> = globs.bases().iter().filter(is_missing).collect();
        let ignored = self.walk_each(&missing, globs)?;
        found.extend(ignored);
        Ok(sorted(found))
    }

    /// Everything that the globs name, ignored or not.
    pub(crate) fn find_all(&self, globs: &Globs) -> io::Result<Vec<ScannedEntry>> {
        let bases: Vec<&String> = globs.bases().iter().collect();
        Ok(sorted(self.walk_each(&bases, globs)?))
    }

    /// Walks from each base, and adds the folders above it, which such a walk doesn't visit.
    fn walk_each(&self, bases: &[&String], globs: &Globs) -> io::Result<Vec<ScannedEntry>> {
        let mut found = Vec::new();
        for base in bases {
            if self.is_reserved(base) || self.root.join(base).symlink_metadata().is_err() {
                continue;
            }
            for (end, _) in base.match_indices('/') {
                let folder =
                    ScannedEntry::new(base[..end].to_owned(), &self.root.join(&base[..end]).symlink_metadata()?);
                if folder.kind != EntryKind::Folder {
                    let why = format!("`{}` is a link: name what it leads to", folder.path);
                    return Err(io::Error::new(io::ErrorKind::Unsupported, why));
                }
                found.push(folder);
            }
            found.extend(self.walk(base, false, globs)?);
        }
        Ok(found)
    }

    /// Everything below `base` that the globs name, and the folders that can contain such files.
    fn walk(&self, base: &str, ignoring: bool, globs: &Globs) -> io::Result<Vec<ScannedEntry>> {
        let (root, reserved, leads) = (self.root.to_owned(), self.reserved.to_vec(), globs.clone());
        let (sender, receiver) = mpsc::channel();
        let faults = sender.clone();
        if ignoring {
            check_ignore_file(&self.root.join(base))?;
        }
        let walk = WalkBuilder::new(self.root.join(base))
            .standard_filters(false)
            .git_ignore(ignoring)
            .require_git(false)
            .filter_entry(move |entry| {
                let Ok(path) = entry.path().strip_prefix(&root) else { return false };
                let path = path.to_string_lossy();
                let is_folder = entry.file_type().is_some_and(|kind| kind.is_dir());
                if ignoring
                    && is_folder
                    && let Err(error) = check_ignore_file(entry.path())
                {
                    // The error fails the whole walk, so the folder can be skipped.
                    let _ = faults.send(Err(error));
                    return false;
                }
                path.is_empty()
                    || (!reserved.iter().any(|reserved| *reserved == path) && (!is_folder || leads.reach_into(&path)))
            })
            .threads(std::thread::available_parallelism().map_or(1, |threads| threads.get().min(8)))
            .build_parallel();
        walk.run(|| {
            let sender = sender.clone();
            Box::new(move |entry| {
                let examined = match entry {
                    Ok(entry) => look(&entry, self.root, globs),
                    Err(error) => Some(Err(error.into_io_error().unwrap_or_else(vanished))),
                };
                let is_received = examined.is_none_or(|examined| sender.send(examined).is_ok());
                if is_received { WalkState::Continue } else { WalkState::Quit }
            })
        });
        drop(sender);
        let mut found = Vec::new();
        for examined in receiver {
            match examined {
                Ok(file) => found.push(file),
                // The file was removed after its folder was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    pub(crate) fn is_reserved(&self, path: &str) -> bool {
        self.reserved.iter().any(|reserved| is_within(path, reserved))
    }

    /// The tree of the found files. Only files that the index doesn't know are read.
    ///
    /// # Errors
    /// When a file can't be read, changes while it is read, or is a pipe, socket or device.
    pub(crate) fn read(&self, found: &[ScannedEntry]) -> io::Result<Tree> {
        if let Some((path, what)) = found.iter().find_map(|file| match file.kind {
            EntryKind::Special(what) => Some((&file.path, what)),
            _ => None,
        }) {
            return Err(io::Error::new(io::ErrorKind::Unsupported, format!("`{path}` is {what}")));
        }
        let is_read = |file: &&ScannedEntry| file.kind != EntryKind::Folder;
        let mut known =
            self.index.get_all(found.iter().filter(is_read).map(|file| (file.path.as_str(), &file.stamp))).into_iter();
        let known: Vec<Option<Digest>> =
            found.iter().map(|file| if is_read(&file) { known.next().flatten() } else { None }).collect();
        let unknown: Vec<usize> = (0..found.len()).filter(|&at| known[at].is_none() && is_read(&&found[at])).collect();
        let read = self.contents(found, &unknown)?;
        let mut digests = known;
        for (&at, digest) in unknown.iter().zip(read) {
            digests[at] = Some(digest);
        }
        let nodes =
            found.iter().zip(digests).filter_map(|(file, digest)| Some((file.path.clone(), file.node(digest)?)));
        Ok(Tree(nodes.collect()))
    }

    /// The digests of the files at these positions, read by several threads.
    fn contents(&self, found: &[ScannedEntry], positions: &[usize]) -> io::Result<Vec<Digest>> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(positions.len() / FEW + 1);
        let part = positions.len().div_ceil(threads).max(1);
        let read = |some: &[usize]| some.iter().map(|&at| self.content(&found[at])).collect::<io::Result<Vec<_>>>();
        if threads == 1 {
            return read(positions);
        }
        let parts = std::thread::scope(|scope| {
            let parts: Vec<_> = positions.chunks(part).map(|some| scope.spawn(move || read(some))).collect();
            let broken_off = |_| Err(io::Error::other("reading files was interrupted"));
            parts.into_iter().map(|part| part.join().unwrap_or_else(broken_off)).collect::<io::Result<Vec<_>>>()
        });
        Ok(parts?.concat())
    }

    /// Reads the content even if the index knows it.
    pub(crate) fn content(&self, file: &ScannedEntry) -> io::Result<Digest> {
        let path = self.root.join(&file.path);
        let content = match file.kind {
            EntryKind::Link => content::target(&path, &file.stamp).map(|target| Digest::of(target.as_encoded_bytes())),
            _ => content::read(&path, &file.stamp).map(|read| {
                if read.is_lasting {
                    self.index.put(&file.path, file.stamp, read.digest);
                }
                read.digest
            }),
        };
        content.map_err(|error| io::Error::new(error.kind(), format!("`{}` can't be read: {error}", file.path)))
    }

    /// Whether `path` holds exactly this node. The file is read only if the index doesn't know it.
    pub(crate) fn holds(&self, path: &str, node: &TreeNode) -> bool {
        let Ok(metadata) = self.root.join(path).symlink_metadata() else { return false };
        let found = ScannedEntry::new(path.to_owned(), &metadata);
        if matches!(node, TreeNode::Folder { .. }) {
            return found.node(None) == Some(*node);
        }
        let digest = self.index.get(path, &found.stamp).map_or_else(|| self.content(&found), Ok);
        digest.is_ok_and(|digest| found.node(Some(digest)) == Some(*node))
    }
}

fn sorted(mut found: Vec<ScannedEntry>) -> Vec<ScannedEntry> {
    found.sort_unstable_by(|left, right| left.path.cmp(&right.path));
    found.dedup_by(|left, right| left.path == right.path);
    found
}

impl ScannedEntry {
    pub(crate) fn new(path: String, metadata: &Metadata) -> ScannedEntry {
        ScannedEntry { path, kind: kind(metadata), mode: mode(metadata), stamp: Stamp::of(metadata) }
    }

    fn node(&self, digest: Option<Digest>) -> Option<TreeNode> {
        match self.kind {
            EntryKind::File => Some(TreeNode::File { mode: self.mode, digest: digest? }),
            EntryKind::Link => Some(TreeNode::Link { digest: digest? }),
            EntryKind::Folder => Some(TreeNode::Folder { mode: self.mode }),
            EntryKind::Special(_) => None,
        }
    }
}

fn kind(metadata: &Metadata) -> EntryKind {
    let kind = metadata.file_type();
    match () {
        () if kind.is_file() => EntryKind::File,
        () if kind.is_symlink() => EntryKind::Link,
        () if kind.is_dir() => EntryKind::Folder,
        () if kind.is_fifo() => EntryKind::Special("a pipe"),
        () if kind.is_socket() => EntryKind::Special("a socket"),
        () => EntryKind::Special("a device"),
    }
}

/// Examines an entry of the walk; none if the globs don't name it.
fn look(entry: &ignore::DirEntry, root: &Path, globs: &Globs) -> Option<io::Result<ScannedEntry>> {
    let path = entry.path().strip_prefix(root).ok()?;
    let is_folder = entry.file_type()?.is_dir();
    let is_named = |path: &str| (is_folder && !path.is_empty()) || globs.matches(path);
    let Some(path) = path.to_str() else {
        // Converted to text, the name could equal that of another file.
        let shown = path.to_string_lossy();
        let unnamed = || io::Error::new(io::ErrorKind::Unsupported, format!("the name of `{shown}` is not UTF-8"));
        return is_named(&shown).then(|| Err(unnamed()));
    };
    if !is_named(path) {
        return None;
    }
    match entry.metadata() {
        Ok(metadata) => Some(Ok(ScannedEntry::new(path.to_owned(), &metadata))),
        Err(error) => Some(Err(error.into_io_error().unwrap_or_else(vanished))),
    }
}

/// Rejects a `.gitignore` that is not a plain file of reasonable size. The walk opens it by itself, and would block on a
/// pipe or read a device without end.
fn check_ignore_file(folder: &Path) -> io::Result<()> {
    let path = folder.join(".gitignore");
    match stagewright_files::open(&path).and_then(|file| file.metadata()) {
        Ok(found) if found.len() <= stagewright_files::CONFIGURATION => Ok(()),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(()),
        Ok(_) => Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("{} is too large", path.display()))),
        Err(error) => {
            Err(io::Error::new(io::ErrorKind::InvalidData, format!("can't read {}: {error}", path.display())))
        }
    }
}

fn vanished() -> io::Error {
    io::Error::other("could not read a folder")
}

/// The entries for which `is_named` is true, and the folders above them.
pub(crate) fn with_folders(found: Vec<ScannedEntry>, is_named: impl Fn(&ScannedEntry) -> bool) -> Vec<ScannedEntry> {
    let named: Vec<bool> = found.iter().map(is_named).collect();
    let (mut above, mut last): (BTreeSet<String>, &str) = (BTreeSet::new(), "");
    for (file, _) in found.iter().zip(&named).filter(|(_, named)| **named) {
        let Some((parent, _)) = file.path.rsplit_once('/') else { continue };
        // The entries are sorted, so most files follow one of the same folder.
        if parent == last {
            continue;
        }
        last = parent;
        let mut folder = Some(parent);
        while let Some(path) = folder {
            // If a folder is in the set, all folders above it are too.
            if !above.insert(path.to_owned()) {
                break;
            }
            folder = path.rsplit_once('/').map(|(parent, _)| parent);
        }
    }
    let is_kept =
        |file: &ScannedEntry, named: bool| named || (file.kind == EntryKind::Folder && above.contains(&file.path));
    let kept: Vec<bool> = found.iter().zip(&named).map(|(file, &named)| is_kept(file, named)).collect();
    found.into_iter().zip(kept).filter_map(|(file, kept)| kept.then_some(file)).collect()
}

#[cfg(test)]
mod tests;
