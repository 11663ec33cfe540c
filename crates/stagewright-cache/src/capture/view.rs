//! The files that stages behind a gate work on: a capture, with the changes that the run's own stages make.
//!
//! A view is a separate folder. Files that no stage behind the gate may write are hard links to those of the capture;
//! files that a stage may write are copies. When a stage has ended, the files that it wrote are copied to the workspace
//! too, except those that were changed there meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, Mode, mkdirat, renameat, unlinkat};
use serde::{Deserialize, Serialize};
use stagewright_engine::RunId;
use stagewright_files::private_folder;

use super::content::{Chosen, FileList, ListedItem, as_path, shown};
use super::scan::{Scanned, in_parallel, link};
use super::store::{CaptureStore, folders_of, parent, remove_all};
use super::walk::{Root, WalkedEntry, WalkedKind, found_at, is_absent, named};
use stagewright_model::PathPattern;

use crate::digest::Digest;
use crate::globs::Globs;
use crate::index::FileIndex;

/// After this time, every change of a file that was just written is certain to change its times.
const TICK: Duration = Duration::from_millis(25);

/// A folder that takes the place of the workspace for the stages behind a gate.
#[derive(Debug)]
pub(crate) struct CaptureView {
    /// The folder of [`CaptureStore::view`].
    place: PathBuf,
    /// The folder with the files: in `place`, or the capture itself.
    pub(crate) folder: PathBuf,
    /// The list of the captured files.
    captured: FileList,
    /// The digests of the view's files.
    index: FileIndex,
}

/// The files in the workspace that the run put there, by path; none for a path that it removed.
#[derive(Debug, Default, Serialize, Deserialize)]
struct PublishedItems(BTreeMap<Vec<u8>, Option<ListedItem>>);

impl CaptureView {
    /// Opens or creates the view of a capture. If no stage may write and the engine isn't about to change the view either
    /// (`is_changed`), the view is the capture itself.
    pub(crate) fn of(
        store: &CaptureStore,
        run: &RunId,
        opening: u64,
        digest: &Digest,
        writable: &[PathPattern],
        is_changed: bool,
    ) -> io::Result<CaptureView> {
        let place = store.view(run, opening);
        let captured = store.content(digest)?;
        let (files, index) = (place.join("files"), FileIndex::new(place.join("index")));
        let is_there = files.is_dir();
        if !is_there && !store.is_sound(digest, &captured)? {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its files are damaged"));
        }
        if !is_there && !is_changed && writable.is_empty() {
            return Ok(CaptureView { place, folder: store.tree(digest), captured, index });
        }
        if !is_there {
            private_folder(&place)?;
            // An engine that was killed may have left an incomplete draft. The final rename makes a view visible only
            // once it is complete.
            let draft = place.join("draft");
            remove_all(&draft)?;
            fs::create_dir(&draft)?;
            fill(&store.tree(digest), &draft, writable, &index)?;
            index.save()?;
            fs::rename(&draft, &files)?;
        }
        Ok(CaptureView { place, folder: files, captured, index })
    }

    /// The view's files with their index.
    pub(crate) fn scanned<'a>(&'a self, root: &'a Root) -> Scanned<'a> {
        Scanned { root, index: &self.index, name: "" }
    }

    /// Whether the view is a separate folder rather than the capture itself.
    pub(crate) fn is_own(&self) -> bool {
        self.folder.starts_with(&self.place)
    }

    fn known(&self) -> io::Result<PublishedItems> {
        match stagewright_files::read(&self.place.join("known"), stagewright_files::RECORD) {
            Ok(bytes) => {
                postcard::from_bytes(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(PublishedItems::default()),
            Err(error) => Err(error),
        }
    }

    fn save(&self, known: &PublishedItems) -> io::Result<()> {
        let mut draft = tempfile::NamedTempFile::new_in(&self.place)?;
        io::Write::write_all(&mut draft, &postcard::to_stdvec(known).map_err(io::Error::other)?)?;
        draft.persist(self.place.join("known"))?;
        Ok(())
    }

    /// Copies what a stage has written to the workspace. Returns the paths that were skipped because they changed in the
    /// workspace since the files were captured.
    pub(crate) fn publish(&self, workspace: &Scanned<'_>, written: &Chosen) -> io::Result<Vec<String>> {
        let root = Root::open(&self.folder)?;
        let own = self.scanned(&root);
        let mut known = self.known()?;
        let now = own.content(written)?;
        let before = |known: &PublishedItems, path: &Vec<u8>| {
            known.0.get(path).copied().unwrap_or_else(|| self.captured.items.get(path).copied())
        };
        let was = self.captured.items.keys().chain(known.0.keys()).filter(|path| written.selects(path));
        let gone: BTreeSet<Vec<u8>> = was.filter(|path| !now.items.contains_key(*path)).cloned().collect();
        let (mut kept, mut changed) = (Vec::new(), false);
        // The content of a folder is removed before the folder, and added after it. Removals come first, so that a folder
        // can replace a file and the reverse.
        let removals = gone.into_iter().rev().map(|path| (path, None));
        let additions = now.items.into_iter().map(|(path, item)| (path, Some(item)));
        for (path, item) in removals.chain(additions) {
            let believed = before(&known, &path);
            if believed == item {
                continue;
            }
            let there = workspace.item_at(&path)?;
            // The workspace's file is replaced only if it is what the run itself put there or what was captured. Any
            // other content is someone else's change, which must not be lost.
            let is_done = there == item || (there == believed && put(&own, workspace, &path, item)?);
            if is_done {
                known.0.insert(path, item);
                changed = true;
            } else {
                kept.push(shown(&path));
            }
        }
        if changed {
            self.save(&known)?;
        }
        self.index.save()?;
        Ok(kept)
    }
}

fn fill(tree: &Path, draft: &Path, writable: &[PathPattern], index: &FileIndex) -> io::Result<()> {
    let (tree, view) = (Root::open(tree)?, Root::open(draft)?);
    let found = tree.walk(&Chosen::everything()?)?;
    for folder in folders_of(&found) {
        fs::create_dir(draft.join(as_path(&folder)))?;
    }
    let writable = Globs::new(writable)?;
    let unremembered = FileIndex::new(PathBuf::new());
    let source = Scanned { root: &tree, index: &unremembered, name: "" };
    let files: Vec<&WalkedEntry> = found.iter().filter(|one| one.kind != WalkedKind::Folder).collect();
    let copied = in_parallel(&files, |one| {
        let is_written = writable.matches(&String::from_utf8_lossy(&one.path));
        if !is_written && link(&tree, &view, &one.path)? {
            return Ok(None);
        }
        let gone = || named(&one.path, io::Error::new(io::ErrorKind::NotFound, "the capture lacks it"));
        Ok(Some((one.path.clone(), source.copy(one, &view)?.ok_or_else(gone)?)))
    })?;
    for one in found.iter().rev().filter(|one| one.kind == WalkedKind::Folder) {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(one.mode);
        fs::set_permissions(draft.join(as_path(&one.path)), mode)?;
    }
    // The digests of the copies are known. Once the current tick is over, they can be recorded in the index, and the
    // copies need not be read again to find out whether a stage has changed them.
    std::thread::sleep(TICK);
    let own = Scanned { root: &view, index, name: "" };
    for (path, item) in copied.into_iter().flatten() {
        if let ListedItem::File { digest, .. } = item {
            own.learn(&found_at(path.clone(), WalkedKind::File, &view.stat(&path)?), digest);
        }
    }
    Ok(())
}

/// Copies an item to the same path of another root, or removes that path. Returns false if something else is in the way.
pub(crate) fn put(from: &Scanned<'_>, to: &Scanned<'_>, path: &[u8], item: Option<ListedItem>) -> io::Result<bool> {
    let placed = (|| {
        let Some(item) = item else { return remove(to.root, path) };
        make_parents(to.root, path)?;
        let (folder, name) = to.root.parent(path)?;
        if let ListedItem::Folder(mode) = item {
            remove_unless_folder(to.root, path)?;
            return match mkdirat(&folder, as_path(name), Mode::from_raw_mode(mode)) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(true),
                Err(error) => Err(error.into()),
            };
        }
        // An empty folder is replaced; for one that isn't empty, `unlinkat` fails.
        let there = to.root.stat(path).ok().map(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode));
        if there == Some(rustix::fs::FileType::Directory) {
            unlinkat(&folder, as_path(name), AtFlags::REMOVEDIR)?;
        }
        let draft = draft_of(path);
        // An engine that was killed may have left a draft.
        let _ = remove(to.root, &draft);
        let kind = if matches!(item, ListedItem::Link(_)) { WalkedKind::Link } else { WalkedKind::File };
        let found = found_at(path.to_vec(), kind, &from.root.stat(path)?);
        let copied = from.copy_as(&found, to.root, &draft)?;
        if copied != Some(item) {
            let _ = remove(to.root, &draft);
            return Ok(false);
        }
        let (_, draft_name) = to.root.parent(&draft)?;
        renameat(&folder, as_path(draft_name), &folder, as_path(name))?;
        Ok(true)
    })();
    match placed {
        Ok(done) => Ok(done),
        // A link in place of a folder, or a folder that isn't empty: others changed the path.
        Err(error) if is_absent(&error) || is_in_the_way(&error) => Ok(false),
        Err(error) => Err(named(path, error)),
    }
}

fn is_in_the_way(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory
    )
}

fn remove(root: &Root, path: &[u8]) -> io::Result<bool> {
    let (folder, name) = match root.parent(path) {
        Err(error) if is_absent(&error) => return Ok(true),
        parent => parent?,
    };
    let removed = match unlinkat(&folder, as_path(name), AtFlags::empty()) {
        Err(rustix::io::Errno::ISDIR | rustix::io::Errno::PERM) => unlinkat(&folder, as_path(name), AtFlags::REMOVEDIR),
        removed => removed,
    };
    match removed {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

fn remove_unless_folder(root: &Root, path: &[u8]) -> io::Result<()> {
    match root.stat(path) {
        Ok(stat) if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::Directory => {
            remove(root, path).map(drop)
        }
        _ => Ok(()),
    }
}

fn make_parents(root: &Root, path: &[u8]) -> io::Result<()> {
    let Some(folder) = parent(path) else { return Ok(()) };
    if root.stat(folder).is_ok() {
        return Ok(());
    }
    make_parents(root, folder)?;
    let (above, name) = root.parent(folder)?;
    match mkdirat(&above, as_path(name), Mode::from_raw_mode(0o777)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The path of a draft in the same folder.
fn draft_of(path: &[u8]) -> Vec<u8> {
    let draft = format!(".stagewright-draft-{}-w", std::process::id());
    match parent(path) {
        Some(folder) => [folder, b"/", draft.as_bytes()].concat(),
        None => draft.into_bytes(),
    }
}
