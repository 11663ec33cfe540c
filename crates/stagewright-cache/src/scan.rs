//! Looks at the files of a workspace that globs name.
//!
//! What a `.gitignore` of the workspace leaves out is not named by a wildcard. A glob that leads into an ignored folder
//! by name, as `node_modules/**` does, names what is there all the same.

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

/// Files that are hashed by one thread before others help.
const FEW: usize = 16;

/// A workspace, as its files are looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WorkspaceScan<'a> {
    pub(crate) root: &'a Path,
    /// Paths that are never inputs or outputs, as `.git`.
    pub(crate) reserved: &'a [String],
    pub(crate) index: &'a FileIndex,
}

/// What is there, and not yet what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ScannedEntry {
    pub(crate) path: String,
    pub(crate) kind: EntryKind,
    /// As in [`TreeNode`].
    pub(crate) mode: u32,
    pub(crate) stamp: Stamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    File,
    Link,
    Folder,
    /// Nothing that can be kept: what it is.
    Special(&'static str),
}

impl WorkspaceScan<'_> {
    /// All that the globs name, with the folders that lead there; sorted by path.
    pub(crate) fn find(&self, globs: &Globs) -> io::Result<Vec<ScannedEntry>> {
        self.find_beside(globs, globs)
    }

    /// The same, and of what no `.gitignore` leaves out all that `more` names, which has to name what `globs` does.
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

    /// All that the globs name, whether it is ignored or not.
    pub(crate) fn find_all(&self, globs: &Globs) -> io::Result<Vec<ScannedEntry>> {
        let bases: Vec<&String> = globs.bases().iter().collect();
        Ok(sorted(self.walk_each(&bases, globs)?))
    }

    /// With the folders above each base, which no walk from there comes by.
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

    /// Everything below `base` that the globs name, and the folders that they lead into.
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
                    // Nothing of the folder counts once that is read.
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
                let said = match entry {
                    Ok(entry) => look(&entry, self.root, globs),
                    Err(error) => Some(Err(error.into_io_error().unwrap_or_else(vanished))),
                };
                let is_heard = said.is_none_or(|said| sender.send(said).is_ok());
                if is_heard { WalkState::Continue } else { WalkState::Quit }
            })
        });
        drop(sender);
        let mut found = Vec::new();
        for said in receiver {
            match said {
                Ok(file) => found.push(file),
                // What went away since the folder was read isn't there.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    pub(crate) fn is_reserved(&self, path: &str) -> bool {
        self.reserved.iter().any(|reserved| is_within(path, reserved))
    }

    /// The same with content, read only if need be.
    ///
    /// # Errors
    /// When one of them can't be read, is changed at the same moment, or is nothing that can be kept.
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

    /// The digests of some of the files, read by several threads.
    fn contents(&self, found: &[ScannedEntry], wanted: &[usize]) -> io::Result<Vec<Digest>> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(wanted.len() / FEW + 1);
        let part = wanted.len().div_ceil(threads).max(1);
        let read = |some: &[usize]| some.iter().map(|&at| self.content(&found[at])).collect::<io::Result<Vec<_>>>();
        if threads == 1 {
            return read(wanted);
        }
        let parts = std::thread::scope(|scope| {
            let parts: Vec<_> = wanted.chunks(part).map(|some| scope.spawn(move || read(some))).collect();
            let broken_off = |_| Err(io::Error::other("reading files broke off"));
            parts.into_iter().map(|part| part.join().unwrap_or_else(broken_off)).collect::<io::Result<Vec<_>>>()
        });
        Ok(parts?.concat())
    }

    /// Reads the content, whatever is known of it.
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

    /// Whether what is at `path` is just this, read only if need be.
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

/// What there is to say of an entry; none of what is passed over.
fn look(entry: &ignore::DirEntry, root: &Path, globs: &Globs) -> Option<io::Result<ScannedEntry>> {
    let path = entry.path().strip_prefix(root).ok()?;
    let is_folder = entry.file_type()?.is_dir();
    let is_named = |path: &str| (is_folder && !path.is_empty()) || globs.matches(path);
    let Some(path) = path.to_str() else {
        // It may be like another one to all that compare text.
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

/// Refuses a `.gitignore` that the walk, which opens it by itself, would wait for or never come to the end of.
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
    io::Error::other("a folder can't be read")
}

/// Of what was found, what `is_named`, and the folders that lead there.
pub(crate) fn with_folders(found: Vec<ScannedEntry>, is_named: impl Fn(&ScannedEntry) -> bool) -> Vec<ScannedEntry> {
    let named: Vec<bool> = found.iter().map(is_named).collect();
    let (mut above, mut last): (BTreeSet<String>, &str) = (BTreeSet::new(), "");
    for (file, _) in found.iter().zip(&named).filter(|(_, named)| **named) {
        let Some((parent, _)) = file.path.rsplit_once('/') else { continue };
        // Sorted, most files come after one of the same folder.
        if parent == last {
            continue;
        }
        last = parent;
        let mut folder = Some(parent);
        while let Some(path) = folder {
            // A folder that is known has all of its own above it known, too.
            if !above.insert(path.to_owned()) {
                break;
            }
            folder = path.rsplit_once('/').map(|(parent, _)| parent);
        }
    }
    let is_wanted =
        |file: &ScannedEntry, named: bool| named || (file.kind == EntryKind::Folder && above.contains(&file.path));
    let wanted: Vec<bool> = found.iter().zip(&named).map(|(file, &named)| is_wanted(file, named)).collect();
    found.into_iter().zip(wanted).filter_map(|(file, wanted)| wanted.then_some(file)).collect()
}

#[cfg(test)]
mod tests;
