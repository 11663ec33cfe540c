//! Reads and copies the files that a walk found.
//!
//! A copied file is digested in the same pass, so the digest is always that of the copy, even if the file changes
//! afterwards. A file that changes while it is read is read again.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::fd::AsFd as _;

use rustix::fs::{
    AtFlags, Mode, OFlags, Timespec, Timestamps, fchmod, fstat, futimens, ioctl_ficlone, linkat, openat, unlinkat,
};

use super::content::{Chosen, FileList, ListedItem, as_path};
use super::walk::{Root, WalkedEntry, WalkedKind, found_at, is_absent, named};
use crate::content::{is_quiet, shows_mapped_stores};
use crate::digest::{Digest, Hashing};
use crate::index::FileIndex;
use crate::stamp::now;

/// How many times a file that keeps changing is read.
const TRIES: usize = 5;

/// The number of bytes that are copied at a time.
const BUFFER: usize = 64 * 1024;

/// Threads per processor. More than one, because they mostly wait for the disk.
const THREADS: usize = 4;

/// A further thread is used for each multiple of this many files.
const FEW: usize = 16;

/// A root with an index of the digests of its files.
pub(crate) struct Scanned<'a> {
    pub(crate) root: &'a Root,
    pub(crate) index: &'a FileIndex,
    /// Distinguishes the files of this root from those of other roots in the index.
    pub(crate) name: &'a str,
}

impl Scanned<'_> {
    /// The list of the chosen files.
    pub(crate) fn content(&self, chosen: &Chosen) -> io::Result<FileList> {
        let found = self.root.walk(chosen)?;
        let known = self.known(&found);
        self.content_of(&found, known)
    }

    /// The digests of the files that are in the index and unchanged since.
    pub(crate) fn known(&self, found: &[WalkedEntry]) -> Vec<Option<Digest>> {
        let keys: Vec<String> = found.iter().map(|one| self.key(&one.path)).collect();
        let known = self.index.get_all(keys.iter().map(String::as_str).zip(found.iter().map(|one| &one.stamp)));
        known.into_iter().zip(found).map(|(digest, one)| digest.filter(|_| one.kind == WalkedKind::File)).collect()
    }

    /// The list of the found files. Files without a known digest are read.
    pub(crate) fn content_of(&self, found: &[WalkedEntry], known: Vec<Option<Digest>>) -> io::Result<FileList> {
        let unknown: Vec<usize> = (0..found.len()).filter(|&at| known[at].is_none()).collect();
        let read = in_parallel(&unknown, |&at| self.item(&found[at]))?;
        let mut items: Vec<Option<ListedItem>> =
            found.iter().zip(known).map(|(one, digest)| item_of(one, digest)).collect();
        for (at, item) in unknown.into_iter().zip(read) {
            items[at] = item;
        }
        let items = found.iter().zip(items).filter_map(|(one, item)| Some((one.path.clone(), item?)));
        Ok(FileList { items: items.collect() })
    }

    /// Reads an entry; none if it no longer exists.
    fn item(&self, found: &WalkedEntry) -> io::Result<Option<ListedItem>> {
        let item = match found.kind {
            WalkedKind::Folder => return Ok(Some(ListedItem::Folder(found.mode))),
            WalkedKind::Unreadable => return Ok(Some(ListedItem::Unreadable)),
            WalkedKind::Link => self.root.link(&found.path).map(|target| ListedItem::Link(Digest::of(target))),
            WalkedKind::File => self.read(found, None).map(|(item, _)| item),
        };
        absent_or_unreadable(item, found)
    }

    /// The current content of a path; none if it does not exist.
    pub(crate) fn item_at(&self, path: &[u8]) -> io::Result<Option<ListedItem>> {
        let stat = match self.root.stat(path) {
            Ok(stat) => stat,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(named(path, error)),
        };
        let kind = match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
            rustix::fs::FileType::Directory => WalkedKind::Folder,
            rustix::fs::FileType::Symlink => WalkedKind::Link,
            rustix::fs::FileType::RegularFile => WalkedKind::File,
            _ => return Ok(Some(ListedItem::Unreadable)),
        };
        let found = found_at(path.to_vec(), kind, &stat);
        let known = self.known(std::slice::from_ref(&found));
        match item_of(&found, known[0]) {
            Some(item) => Ok(Some(item)),
            None => self.item(&found),
        }
    }

    /// Records the digest of a file that the engine wrote. Enough time must have passed since for every later change to
    /// be detected.
    pub(crate) fn learn(&self, found: &WalkedEntry, digest: Digest) {
        self.index.put(&self.key(&found.path), found.stamp, digest);
    }

    /// Copies an entry to the same path of another root, which must not exist there, and returns what was copied. None
    /// if the entry no longer exists.
    pub(crate) fn copy(&self, found: &WalkedEntry, to: &Root) -> io::Result<Option<ListedItem>> {
        self.copy_as(found, to, &found.path)
    }

    /// Like [`copy`](Self::copy), but to another path.
    pub(crate) fn copy_as(&self, found: &WalkedEntry, to: &Root, path: &[u8]) -> io::Result<Option<ListedItem>> {
        let item = (|| {
            let (folder, name) = to.parent(path)?;
            match found.kind {
                WalkedKind::Folder | WalkedKind::Unreadable => Ok(ListedItem::Unreadable),
                WalkedKind::Link => {
                    let target = self.root.link(&found.path)?;
                    rustix::fs::symlinkat(as_path(&target), &folder, as_path(name))?;
                    Ok(ListedItem::Link(Digest::of(target)))
                }
                WalkedKind::File => {
                    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    let mut target = File::from(openat(&folder, as_path(name), flags, Mode::from_raw_mode(0o600))?);
                    let (item, modified) = self.read(found, Some(&mut target)).inspect_err(|_| {
                        // The source is gone or can't be read, so the incomplete copy is removed.
                        let _ = unlinkat(&folder, as_path(name), AtFlags::empty());
                    })?;
                    if let ListedItem::File { mode, .. } = item {
                        let modified = Timespec { tv_sec: modified.0, tv_nsec: modified.1 };
                        futimens(&target, &Timestamps { last_access: modified, last_modification: modified })?;
                        fchmod(&target, Mode::from_raw_mode(mode))?;
                    }
                    Ok(item)
                }
            }
        })();
        absent_or_unreadable(item, found)
    }

    /// Reads a file until it doesn't change while it is read, and copies it to `copy` if given. Returns the item and the
    /// file's modification time in seconds and nanoseconds.
    fn read(&self, found: &WalkedEntry, mut copy: Option<&mut File>) -> io::Result<(ListedItem, (i64, i64))> {
        for _ in 0..TRIES {
            let begun = now();
            let mut file = self.root.file(&found.path)?;
            let before = found_at(Vec::new(), WalkedKind::File, &fstat(&file)?);
            let is_lasting = before.stamp.shows_changes_after(begun) && is_quiet(&file) && shows_mapped_stores(&file);
            let digest = match &mut copy {
                Some(copy) => copied(&mut file, copy)?,
                None => crate::digest::copy(&mut file, &mut io::sink())?,
            };
            let stat = fstat(&file)?;
            let after = found_at(Vec::new(), WalkedKind::File, &stat);
            if before.stamp == after.stamp {
                if is_lasting {
                    self.index.put(&self.key(&found.path), after.stamp, digest);
                }
                let size = u64::try_from(stat.st_size).unwrap_or_default();
                return Ok((ListedItem::File { mode: after.mode, size, digest }, after.modified));
            }
        }
        Err(io::Error::other("it keeps changing while it is read"))
    }

    fn key(&self, path: &[u8]) -> String {
        format!("{}:{}", self.name, String::from_utf8_lossy(path))
    }
}

/// The item, if no content has to be read for it.
fn item_of(found: &WalkedEntry, digest: Option<Digest>) -> Option<ListedItem> {
    match (found.kind, digest) {
        (WalkedKind::Folder, _) => Some(ListedItem::Folder(found.mode)),
        (WalkedKind::Unreadable, _) => Some(ListedItem::Unreadable),
        (WalkedKind::File, Some(digest)) => {
            Some(ListedItem::File { mode: found.mode, size: found.stamp.size(), digest })
        }
        (WalkedKind::File, None) | (WalkedKind::Link, _) => None,
    }
}

fn absent_or_unreadable(item: io::Result<ListedItem>, found: &WalkedEntry) -> io::Result<Option<ListedItem>> {
    match item {
        Ok(item) => Ok(Some(item)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(Some(ListedItem::Unreadable)),
        Err(error) => Err(named(&found.path, error)),
    }
}

/// Copies a whole file, sharing its blocks if the file system supports that, and returns the digest of the copy.
fn copied(source: &mut File, target: &mut File) -> io::Result<Digest> {
    use std::io::Seek as _;
    target.set_len(0)?;
    target.rewind()?;
    if ioctl_ficlone(target.as_fd(), source.as_fd()).is_ok() {
        return crate::digest::copy(target, &mut io::sink());
    }
    let size = usize::try_from(source.metadata()?.len()).unwrap_or(BUFFER).clamp(1, BUFFER);
    let (mut hashing, mut buffer) = (Hashing::default(), vec![0; size]);
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return Ok(hashing.finish()),
            Ok(read) => {
                hashing.update(&buffer[..read]);
                target.write_all(&buffer[..read])?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Creates a hard link to a file of another root at the same path. Returns `false` if the file system doesn't allow it.
pub(crate) fn link(from: &Root, to: &Root, path: &[u8]) -> io::Result<bool> {
    let (old, name) = from.parent(path)?;
    let (new, _) = to.parent(path)?;
    match linkat(old, as_path(name), new, as_path(name), AtFlags::empty()) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::MLINK | rustix::io::Errno::XDEV | rustix::io::Errno::PERM) => Ok(false),
        Err(error) => Err(named(path, error.into())),
    }
}

/// Calls `work` for each item on several threads, and returns the results in the order of the items.
pub(crate) fn in_parallel<I: Sync, T: Send>(
    items: &[I],
    work: impl Fn(&I) -> io::Result<T> + Sync,
) -> io::Result<Vec<T>> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = (processors * THREADS).min(items.len() / FEW + 1);
    if threads == 1 {
        return items.iter().map(work).collect();
    }
    // Threads take small pieces in turn. Large files are often next to each other, so with one large piece for each thread
    // a single thread could get most of the work.
    let next = std::sync::atomic::AtomicUsize::new(0);
    let piece = (items.len() / (threads * 16)).max(FEW);
    let done = std::thread::scope(|scope| {
        let worker = || {
            let mut done = Vec::new();
            loop {
                let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed) * piece;
                if at >= items.len() {
                    return Ok(done);
                }
                let some = items[at..items.len().min(at + piece)].iter().map(&work).collect::<io::Result<Vec<_>>>()?;
                done.push((at, some));
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let broken_off = |_| Err(io::Error::other("reading files was interrupted"));
        workers.into_iter().map(|worker| worker.join().unwrap_or_else(broken_off)).collect::<io::Result<Vec<_>>>()
    })?;
    let mut done: Vec<(usize, Vec<T>)> = done.into_iter().flatten().collect();
    done.sort_unstable_by_key(|(at, _)| *at);
    Ok(done.into_iter().flat_map(|(_, some)| some).collect())
}
