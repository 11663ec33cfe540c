//! Finds what is in places of a folder, and opens it, without ever following a link.
//!
//! A stage may exchange folders for links while others are looked at: every path is resolved beneath the root by the
//! kernel, and one with a link on the way isn't there.

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

/// Characters of a path in messages.
const SHOWN: usize = 300;

/// Links that are followed for all globs of a gate.
const LINKS: usize = 1000;

/// Something that was found.
#[derive(Clone, Debug)]
pub(crate) struct WalkedEntry {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: WalkedKind,
    /// Permission bits.
    pub(crate) mode: u32,
    pub(crate) stamp: Stamp,
    /// When its content changed last: seconds and nanoseconds.
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

/// A folder, opened.
#[derive(Debug)]
pub(crate) struct Root(OwnedFd);

impl Root {
    pub(crate) fn open(path: &Path) -> io::Result<Root> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Root(openat2(CWD, path, flags, Mode::empty(), ResolveFlags::empty())?))
    }

    /// A file's content, never that of a link, a pipe or a device.
    pub(crate) fn file(&self, path: &[u8]) -> io::Result<File> {
        // What isn't a plain file must not make anyone wait.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = File::from(self.beneath(path, flags)?);
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(io::Error::new(io::ErrorKind::NotFound, "it is not a file any more")),
        }
    }

    /// Where a link leads, as it is written.
    pub(crate) fn link(&self, path: &[u8]) -> io::Result<Vec<u8>> {
        let (folder, name) = self.parent(path)?;
        Ok(readlinkat(folder, as_path(name), Vec::new())?.into_bytes())
    }

    /// What is at the path.
    pub(crate) fn stat(&self, path: &[u8]) -> io::Result<Stat> {
        let (folder, name) = self.parent(path)?;
        Ok(statat(folder, as_path(name), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// The folder that a path is in, and its name there.
    pub(crate) fn parent<'a>(&self, path: &'a [u8]) -> io::Result<(OwnedFd, &'a [u8])> {
        let (folder, name) = match path.iter().rposition(|&byte| byte == b'/') {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&b"."[..], path),
        };
        Ok((self.beneath(folder, OFlags::PATH | OFlags::DIRECTORY)?, name))
    }

    /// Where globs lead whose path before the first wildcard goes through links: the links, and what the globs stand for.
    pub(crate) fn targets(&self, globs: &[PathPattern]) -> Vec<PathPattern> {
        let mut found = Vec::new();
        let mut open: Vec<PathPattern> = globs.to_vec();
        // A link that leads to itself ends here, too.
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
            // It is refused for the time of a rename elsewhere.
            match openat2(&self.0, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Err(Errno::AGAIN) => {}
                opened => return opened,
            }
        }
    }

    /// All that is chosen, sorted by path. What isn't a file, a folder or a link can't be captured, and is left out.
    pub(crate) fn walk(&self, chosen: &Chosen) -> io::Result<Vec<WalkedEntry>> {
        let queue = FolderQueue::new();
        let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get().min(8));
        let mut found = std::thread::scope(|scope| {
            let workers: Vec<_> = (1..threads).map(|_| scope.spawn(|| self.work(&queue, chosen))).collect();
            let mut found = self.work(&queue, chosen)?;
            for worker in workers {
                found.extend(worker.join().unwrap_or_else(|_| Err(io::Error::other("looking at files broke off")))?);
            }
            io::Result::Ok(found)
        })?;
        // A folder that can't be listed was found in the folder that it is in, too.
        let order = |one: &WalkedEntry| one.kind != WalkedKind::Unreadable;
        found.sort_unstable_by(|left, right| left.path.cmp(&right.path).then(order(left).cmp(&order(right))));
        found.dedup_by(|next, first| next.path == first.path);
        Ok(found)
    }

    fn work(&self, queue: &FolderQueue, chosen: &Chosen) -> io::Result<Vec<WalkedEntry>> {
        let mut found = Vec::new();
        while let Some(folder) = queue.next() {
            let folders = self.list(&folder, chosen, &mut found);
            // Also after an error: the other threads wait for this one.
            queue.done(folders.as_ref().map_or_else(|_| Vec::new(), Clone::clone));
            folders?;
        }
        Ok(found)
    }

    /// Adds what is in a folder; gives the folders in it that are to be entered.
    fn list(&self, folder: &[u8], chosen: &Chosen, found: &mut Vec<WalkedEntry>) -> io::Result<Vec<Vec<u8>>> {
        let opened = match self.beneath(folder, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(opened) => opened,
            // It went away, or was exchanged for a link.
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
            let (takes, enters) = (chosen.takes(&path), chosen.enters(&path));
            if !takes && !enters {
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
            if takes {
                found.push(found_at(path, kind, &stat));
            }
        }
        Ok(folders)
    }
}

/// What `stat` says of a path.
pub(crate) fn found_at(path: Vec<u8>, kind: WalkedKind, stat: &Stat) -> WalkedEntry {
    let mode = stat.st_mode & 0o777;
    // A folder that its owner can't enter could be neither filled nor removed.
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

/// Where a link in the folder `base` leads, relative to the root; none when that is outside.
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

/// An error that says where.
#[expect(clippy::needless_pass_by_value, reason = "callers have an error to give away")]
pub(crate) fn named(path: &[u8], error: io::Error) -> io::Error {
    // A path can be as long as a stage makes it.
    let shown: String = as_path(path).display().to_string().chars().take(SHOWN).collect();
    io::Error::new(error.kind(), format!("`{shown}`: {error}"))
}

/// Whether the error says that a path isn't there, or not without a link on the way.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    error.kind() == io::ErrorKind::NotFound
        || matches!(errno, Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV))
}

/// Folders that are still to be listed.
struct FolderQueue {
    state: Mutex<(Vec<Vec<u8>>, usize)>,
    changed: Condvar,
}

impl FolderQueue {
    fn new() -> FolderQueue {
        FolderQueue { state: Mutex::new((vec![Vec::new()], 0)), changed: Condvar::new() }
    }

    /// None when all are listed.
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
