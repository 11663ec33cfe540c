//! Stores captures.
//!
//! ```text
//! <root>/contents/<digest>              a list of files: those of a capture, or those that a stage made
//! <root>/trees/<digest>/                the files of a capture, never changed
//! <root>/trees/<digest>.boot            the boot of the machine in which they were last known to be intact
//! <root>/views/<run>/<opening>/files/   the files of a capture with the changes of the stages behind its gate
//! <root>/views/<run>/<opening>/known    the changes that were copied to the workspace
//! <root>/runs/<run>                     the digests that a run needs
//! <root>/latest                         the latest capture
//! <root>/files                          digests of files when they were last read
//! <root>/lock                           locked shared while files are captured, exclusively while captures are removed
//! ```
//!
//! A tree is renamed to its final name after all of its files are complete. Nothing is flushed to the disk, because that
//! would take longer than everything else. Instead, a tree from before the last boot is read and verified once.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use stagewright_engine::RunId;
use stagewright_files::private_folder;

use super::content::{Chosen, FileList, ListedItem, as_path};
use super::scan::{Scanned, in_parallel, link};
use super::walk::{Root, WalkedEntry, WalkedKind, named};
use crate::digest::{Digest, Hashing};
use crate::index::FileIndex;

/// The folder of captures.
#[derive(Debug)]
pub(crate) struct CaptureStore {
    root: PathBuf,
    pub(crate) index: FileIndex,
}

/// A capture that a new one may share files with.
struct Base {
    tree: Root,
    content: FileList,
}

impl CaptureStore {
    pub(crate) fn new(root: &Path) -> CaptureStore {
        CaptureStore { root: root.to_owned(), index: FileIndex::new(root.join("files")) }
    }

    /// Locks the store until the file is dropped.
    pub(crate) fn lock(&self, how: fn(&File) -> io::Result<()>) -> io::Result<File> {
        private_folder(&self.root)?;
        let file = File::options().create(true).append(true).open(self.root.join("lock"))?;
        how(&file)?;
        Ok(file)
    }

    pub(crate) fn tree(&self, digest: &Digest) -> PathBuf {
        self.root.join("trees").join(digest.hex())
    }

    pub(crate) fn content(&self, digest: &Digest) -> io::Result<FileList> {
        FileList::load(&self.list(digest), digest)
    }

    fn list(&self, digest: &Digest) -> PathBuf {
        self.root.join("contents").join(digest.hex())
    }

    /// Stores a list of files for the run.
    pub(crate) fn keep(&self, run: &RunId, content: &FileList) -> io::Result<Digest> {
        let digest = content.digest();
        if !self.list(&digest).is_file() {
            content.save(&self.list(&digest))?;
        }
        self.note(run, &digest)?;
        Ok(digest)
    }

    /// Records that the run needs the capture or list with this digest.
    fn note(&self, run: &RunId, digest: &Digest) -> io::Result<()> {
        let notes = self.root.join("runs");
        private_folder(&notes)?;
        let mut file = File::options().create(true).append(true).open(notes.join(name_of(run)))?;
        file.write_all(format!("{}\n", digest.hex()).as_bytes())
    }

    /// The folder of a view.
    pub(crate) fn view(&self, run: &RunId, opening: u64) -> PathBuf {
        self.root.join("views").join(name_of(run)).join(opening.to_string())
    }

    pub(super) fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    /// Captures the chosen files of a root. Nothing is copied if there is a capture with the same content.
    pub(crate) fn capture(&self, run: &RunId, source: &Scanned<'_>, chosen: &Chosen) -> io::Result<(Digest, FileList)> {
        let _shared = self.lock(File::lock_shared)?;
        let found = source.root.walk(chosen)?;
        let mut known = source.known(&found);
        // If there is an earlier capture, most files will be the same as there. These are digested first, and only those
        // that differ are copied. Without one all files must be copied, and they are digested while they are copied, which
        // saves reading them twice.
        let is_known = known.iter().zip(&found).all(|(digest, one)| digest.is_some() || one.kind != WalkedKind::File);
        if is_known || self.latest().is_some() {
            let content = source.content_of(&found, known)?;
            let digest = content.digest();
            if self.tree(&digest).is_dir() && self.is_sound(&digest, &content)? {
                self.note(run, &digest)?;
                return Ok((digest, content));
            }
            let digest_at = |one: &WalkedEntry| match content.items.get(&one.path) {
                Some(ListedItem::File { digest, .. }) => Some(*digest),
                _ => None,
            };
            known = found.iter().map(digest_at).collect();
        }
        let base = self.base();
        let draft = tempfile::Builder::new().prefix(".draft-").tempdir_in(self.trees()?)?;
        let content = self.fill(draft.path(), source, &found, &known, base.as_ref())?;
        let digest = self.keep(run, &content)?;
        self.install(&draft.keep(), &digest)?;
        Ok((digest, content))
    }

    fn trees(&self) -> io::Result<PathBuf> {
        let trees = self.root.join("trees");
        private_folder(&trees)?;
        Ok(trees)
    }

    fn latest(&self) -> Option<Digest> {
        Digest::parse(read_line(&self.root.join("latest"))?.trim())
    }

    /// The latest capture, if it is intact.
    fn base(&self) -> Option<Base> {
        let digest = self.latest()?;
        let content = self.content(&digest).ok()?;
        let is_sound = self.tree(&digest).is_dir() && self.is_sound(&digest, &content).unwrap_or(false);
        let tree = Root::open(&self.tree(&digest)).ok().filter(|_| is_sound)?;
        Some(Base { tree, content })
    }

    /// Creates the files of a new capture: hard links to those of an earlier one if they are the same, otherwise copies.
    fn fill(
        &self,
        draft: &Path,
        source: &Scanned<'_>,
        found: &[WalkedEntry],
        known: &[Option<Digest>],
        base: Option<&Base>,
    ) -> io::Result<FileList> {
        let to = Root::open(draft)?;
        for folder in folders_of(found) {
            fs::DirBuilder::new().recursive(true).create(draft.join(as_path(&folder)))?;
        }
        let files: Vec<usize> = (0..found.len()).filter(|&at| found[at].kind != WalkedKind::Folder).collect();
        let made = in_parallel(&files, |&at| {
            let one = &found[at];
            if let (Some(base), Some(digest)) = (base, known[at]) {
                let item = ListedItem::File { mode: one.mode, size: one.stamp.size(), digest };
                if base.content.items.get(&one.path) == Some(&item)
                    && is_of_the_same_time(&base.tree, one)
                    && link(&base.tree, &to, &one.path)?
                {
                    return Ok(Some(item));
                }
            }
            source.copy(one, &to)
        })?;
        let mut items: Vec<Option<ListedItem>> = vec![None; found.len()];
        for (at, item) in files.into_iter().zip(made) {
            items[at] = match found[at].kind {
                WalkedKind::Unreadable => Some(ListedItem::Unreadable),
                _ => item,
            };
        }
        // A folder gets its mode after its content is complete, because the mode may forbid adding files. The reverse
        // order handles inner folders first.
        for (one, item) in found.iter().zip(&mut items).rev().filter(|(one, _)| one.kind == WalkedKind::Folder) {
            fs::set_permissions(
                draft.join(as_path(&one.path)),
                std::os::unix::fs::PermissionsExt::from_mode(one.mode),
            )?;
            *item = Some(ListedItem::Folder(one.mode));
        }
        let items = found.iter().zip(items).filter_map(|(one, item)| Some((one.path.clone(), item?)));
        Ok(FileList { items: items.collect() })
    }

    /// Renames a complete tree to its final name. If a tree with this name exists, it is damaged or another process has
    /// created it meanwhile; it is replaced in both cases.
    fn install(&self, draft: &Path, digest: &Digest) -> io::Result<()> {
        let tree = self.tree(digest);
        if let Err(error) = fs::rename(draft, &tree) {
            if !tree.is_dir() {
                return Err(error);
            }
            let damaged = tempfile::Builder::new().prefix(".draft-").tempdir_in(self.trees()?)?.keep();
            fs::rename(&tree, damaged.join("damaged"))?;
            fs::rename(draft, &tree)?;
            remove_all(&damaged)?;
        }
        self.mark_sound(digest)?;
        write(&self.root.join("latest"), &format!("{digest}\n"))
    }

    /// Whether the files of a tree match its list.
    ///
    /// The files are read once after each boot. A write that has not reached the disk is lost only if the machine crashes;
    /// until then the kernel returns it from memory. So a tree that was verified or created since the last boot is known
    /// to be intact.
    pub(crate) fn is_sound(&self, digest: &Digest, content: &FileList) -> io::Result<bool> {
        let boot = boot();
        let mark = self.tree(digest).with_extension("boot");
        if boot.is_some() && read_line(&mark) == boot {
            return Ok(true);
        }
        let tree = Root::open(&self.tree(digest))?;
        let everything = Chosen::everything()?;
        let scanned = Scanned { root: &tree, index: &FileIndex::new(PathBuf::new()), name: "" };
        let mut there = scanned.content(&everything)?;
        // Unreadable entries were not copied, and folders that were not chosen exist only because chosen files are in
        // them.
        let expected = content.items.iter().filter(|(_, item)| **item != ListedItem::Unreadable);
        let expected: std::collections::BTreeMap<_, _> = expected.map(|(path, item)| (path.clone(), *item)).collect();
        there.items.retain(|path, item| !matches!(item, ListedItem::Folder(_)) || expected.contains_key(path));
        let is_sound = there.items == expected;
        if is_sound {
            self.mark_sound(digest)?;
        }
        Ok(is_sound)
    }

    fn mark_sound(&self, digest: &Digest) -> io::Result<()> {
        match boot() {
            Some(boot) => write(&self.tree(digest).with_extension("boot"), &boot),
            None => Ok(()),
        }
    }
}

/// The folders that must be created for the found entries, sorted so that each follows the one that contains it.
pub(super) fn folders_of(found: &[WalkedEntry]) -> std::collections::BTreeSet<Vec<u8>> {
    let mut folders = std::collections::BTreeSet::new();
    for one in found {
        let mut path = match one.kind {
            WalkedKind::Folder => Some(&one.path[..]),
            _ => parent(&one.path),
        };
        while let Some(folder) = path.filter(|folder| !folders.contains(*folder)) {
            folders.insert(folder.to_vec());
            path = parent(folder);
        }
    }
    folders
}

pub(super) fn parent(path: &[u8]) -> Option<&[u8]> {
    path.iter().rposition(|&byte| byte == b'/').map(|at| &path[..at])
}

/// Whether the captured file has the same modification time as the found one. Tools such as make depend on it.
fn is_of_the_same_time(tree: &Root, found: &WalkedEntry) -> bool {
    tree.stat(&found.path).is_ok_and(|stat| (stat.st_mtime, stat.st_mtime_nsec.cast_signed()) == found.modified)
}

/// The id of the machine's current boot; none if the kernel doesn't provide it.
fn boot() -> Option<String> {
    let uuid = rustix::fs::open("/proc/sys/kernel/random/boot_id", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let mut text = String::new();
    io::Read::read_to_string(&mut File::from(uuid.ok()?), &mut text).ok()?;
    Some(text)
}

fn read_line(file: &Path) -> Option<String> {
    stagewright_files::read_text(file, 1000).ok()
}

/// A file name for a run's id, whatever characters the id has.
fn name_of(run: &RunId) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
    if !run.0.is_empty() && run.0.len() < 100 && run.0.chars().all(plain) {
        return run.0.clone();
    }
    let mut hashing = Hashing::default();
    hashing.field(run.0.as_bytes());
    hashing.finish().hex()
}

fn write(file: &Path, text: &str) -> io::Result<()> {
    let mut draft = tempfile::NamedTempFile::new_in(file.parent().unwrap_or(Path::new(".")))?;
    draft.write_all(text.as_bytes())?;
    draft.persist(file)?;
    Ok(())
}

/// Removes a folder if it exists.
pub(super) fn remove_all(folder: &Path) -> io::Result<()> {
    match stagewright_files::remove_tree(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(|error| named(folder.as_os_str().as_encoded_bytes(), error)),
    }
}
