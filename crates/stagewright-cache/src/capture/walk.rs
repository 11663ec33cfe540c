//! Finds and opens the chosen files of a folder without ever following a link.
//!
//! A stage may replace folders with links during a walk. Therefore the kernel resolves every path beneath the root, and a
//! path with a link among its folders counts as missing.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, openat2, readlinkat, statat};
use rustix::io::Errno;

use super::content::{Chosen, as_path};
use crate::stamp::Stamp;
use stagewright_model::{PathPattern, WorkspacePath};

/// The most characters of a path that messages show.
const SHOWN: usize = 300;

/// The most links that are followed for the globs of a gate.
const LINKS: usize = 1000;

/// An entry that the walk found.
#[derive(Clone, Debug)]
pub(crate) struct WalkedEntry {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: WalkedKind,
    /// Permission bits.
    pub(crate) mode: u32,
    pub(crate) stamp: Stamp,
    /// The modification time: seconds and nanoseconds.
    pub(crate) modified: (i64, i64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WalkedKind {
    Folder,
    File,
    Link,
    /// A folder that can't be listed.
    Unreadable,
}

/// An open folder, to which paths are relative.
#[derive(Debug)]
pub(crate) struct Root(OwnedFd);

impl Root {
    pub(crate) fn open(path: &Path) -> io::Result<Root> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Root(openat2(CWD, path, flags, Mode::empty(), ResolveFlags::empty())?))
    }

    /// Opens a plain file. Links, pipes and devices are refused.
    pub(crate) fn file(&self, path: &[u8]) -> io::Result<File> {
        // `NONBLOCK`, because opening a pipe would otherwise wait for its other end.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = File::from(self.beneath(path, flags)?);
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(io::Error::new(io::ErrorKind::NotFound, "it is no longer a plain file")),
        }
    }

    /// The target of a link, unresolved.
    pub(crate) fn link(&self, path: &[u8]) -> io::Result<Vec<u8>> {
        let (folder, name) = self.parent(path)?;
        Ok(readlinkat(folder, as_path(name), Vec::new())?.into_bytes())
    }

    /// The metadata of a path; a link is not followed.
    pub(crate) fn stat(&self, path: &[u8]) -> io::Result<Stat> {
        let (folder, name) = self.parent(path)?;
        Ok(statat(folder, as_path(name), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// The folder that contains a path, opened, and the path's last name.
    pub(crate) fn parent<'a>(&self, path: &'a [u8]) -> io::Result<(OwnedFd, &'a [u8])> {
        let (folder, name) = match path.iter().rposition(|&byte| byte == b'/') {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&b"."[..], path),
        };
        Ok((self.beneath(folder, OFlags::PATH | OFlags::DIRECTORY)?, name))
    }

    /// For globs that lead through links before their first wildcard: patterns for these links, and the globs with the
    /// links replaced by their targets.
    pub(crate) fn targets(&self, globs: &[PathPattern]) -> Vec<PathPattern> {
        let mut found = Vec::new();
        let mut open: Vec<PathPattern> = globs.to_vec();
        // The limit also ends cycles of links.
        while let Some(glob) = open.pop().filter(|_| found.len() < LINKS) {
            let names: Vec<&str> = glob.normal().split('/').filter(|name| !name.is_empty()).collect();
            let literal = glob.base().names().count();
            let first = (1..=literal).find_map(|count| {
                let path = names[..count].join("/");
                let target = self.link(path.as_bytes()).ok()?;
                Some((count, path, String::from_utf8(target).ok()?))
            });
            let Some((count, link, target)) = first else { continue };
            let base = link.rsplit_once('/').map_or("", |(folder, _)| folder);
            if let Some(target) = within(base, &target) {
                let rest = [&[target.as_str()], &names[count..]].concat().join("/");
                let Ok(link) = WorkspacePath::parse(&link) else { continue };
                found.push(PathPattern::literally(&link));
                if let Ok(rest) = PathPattern::parse(&rest) {
                    found.push(rest.clone());
                    open.push(rest);
                }
            }
        }
        found
    }

    fn beneath(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { Path::new(".") } else { as_path(path) };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        loop {
            // With `BENEATH`, the kernel fails with EAGAIN if a folder is renamed anywhere during the resolution, since it
            // can't exclude that `..` led out of the root. Try again.
            match openat2(&self.0, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Err(Errno::AGAIN) => {}
                opened => return opened,
            }
        }
    }

    /// All chosen entries, sorted by path. Pipes, sockets and devices can't be captured and are left out.
    pub(crate) fn walk(&self, chosen: &Chosen) -> io::Result<Vec<WalkedEntry>> {
        let queue = FolderQueue::new();
        let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get().min(8));
        let mut found = std::thread::scope(|scope| {
            let workers: Vec<_> = (1..threads).map(|_| scope.spawn(|| self.work(&queue, chosen))).collect();
            let mut found = self.work(&queue, chosen)?;
            for worker in workers {
                found
                    .extend(worker.join().unwrap_or_else(|_| Err(io::Error::other("scanning files was interrupted")))?);
            }
            io::Result::Ok(found)
        })?;
        // A folder that can't be listed appears twice, because the folder that contains it listed it, too. The entry that
        // says that it can't be listed comes first and remains.
        let order = |one: &WalkedEntry| one.kind != WalkedKind::Unreadable;
        found.sort_unstable_by(|left, right| left.path.cmp(&right.path).then(order(left).cmp(&order(right))));
        found.dedup_by(|next, first| next.path == first.path);
        Ok(found)
    }

    fn work(&self, queue: &FolderQueue, chosen: &Chosen) -> io::Result<Vec<WalkedEntry>> {
        let mut found = Vec::new();
        while let Some(folder) = queue.next() {
            let folders = self.list(&folder, chosen, &mut found);
            // Called also after an error: the other threads wait until no thread is listing a folder any more, and would
            // otherwise wait forever.
            queue.done(folders.as_ref().map_or_else(|_| Vec::new(), Clone::clone));
            folders?;
        }
        Ok(found)
    }

    /// Adds the chosen entries of a folder to `found`. Returns the folders in it that can contain more.
    fn list(&self, folder: &[u8], chosen: &Chosen, found: &mut Vec<WalkedEntry>) -> io::Result<Vec<Vec<u8>>> {
        let opened = match self.beneath(folder, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(opened) => opened,
            // The folder was removed, or replaced with a link.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => return Ok(Vec::new()),
            Err(Errno::ACCESS | Errno::PERM) if !folder.is_empty() => {
                found.push(unreadable(folder));
                return Ok(Vec::new());
            }
            Err(error) => return Err(named(folder, error.into())),
        };
        let mut folders = Vec::new();
        for entry in Dir::read_from(&opened)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let path = if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() };
            let (selects, enters) = (chosen.selects(&path), chosen.enters(&path));
            if !selects && !enters {
                continue;
            }
            let stat = match statat(opened.as_fd(), as_path(name), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(named(&path, error.into())),
            };
            let kind = match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => WalkedKind::Folder,
                FileType::RegularFile => WalkedKind::File,
                FileType::Symlink => WalkedKind::Link,
                _ => continue,
            };
            if kind == WalkedKind::Folder && enters {
                folders.push(path.clone());
            }
            if selects {
                found.push(found_at(path, kind, &stat));
            }
        }
        Ok(folders)
    }
}

/// The entry for a path with this metadata.
pub(crate) fn found_at(path: Vec<u8>, kind: WalkedKind, stat: &Stat) -> WalkedEntry {
    let mode = stat.st_mode & 0o777;
    // The copy of a folder that its owner can't enter could be neither filled nor removed.
    let mode = if kind == WalkedKind::Folder { mode | 0o700 } else { mode };
    WalkedEntry {
        path,
        kind,
        mode,
        stamp: Stamp::of_stat(stat),
        modified: (stat.st_mtime, stat.st_mtime_nsec.cast_signed()),
    }
}

fn unreadable(folder: &[u8]) -> WalkedEntry {
    WalkedEntry {
        path: folder.to_vec(),
        kind: WalkedKind::Unreadable,
        mode: 0,
        stamp: Stamp::default(),
        modified: (0, 0),
    }
}

/// The path that a link in the folder `base` leads to, relative to the root; none if that is outside.
fn within(base: &str, target: &str) -> Option<String> {
    let mut names: Vec<&str> = base.split('/').filter(|name| !name.is_empty()).collect();
    if target.starts_with('/') {
        return None;
    }
    for name in target.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()?),
            name => names.push(name),
        }
    }
    Some(names.join("/")).filter(|path| !path.is_empty())
}

/// Adds the path to an error's message.
#[expect(clippy::needless_pass_by_value, reason = "callers have an error to give away")]
pub(crate) fn named(path: &[u8], error: io::Error) -> io::Error {
    // Stages choose the names of files, so paths can be of any length.
    let shown: String = as_path(path).display().to_string().chars().take(SHOWN).collect();
    io::Error::new(error.kind(), format!("`{shown}`: {error}"))
}

/// Whether the error says that a path does not exist, or exists only through a link.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    error.kind() == io::ErrorKind::NotFound
        || matches!(errno, Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV))
}

/// The folders that remain to be listed, shared by the threads of a walk.
struct FolderQueue {
    /// The folders, and the number of folders that threads are listing now and that may add more.
    state: Mutex<(Vec<Vec<u8>>, usize)>,
    changed: Condvar,
}

impl FolderQueue {
    fn new() -> FolderQueue {
        FolderQueue { state: Mutex::new((vec![Vec::new()], 0)), changed: Condvar::new() }
    }

    /// Waits for the next folder. None when all folders have been listed.
    fn next(&self) -> Option<Vec<u8>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(folder) = state.0.pop() {
                state.1 += 1;
                return Some(folder);
            }
            if state.1 == 0 {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn done(&self, folders: Vec<Vec<u8>>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0.extend(folders);
        state.1 -= 1;
        self.changed.notify_all();
    }
}
