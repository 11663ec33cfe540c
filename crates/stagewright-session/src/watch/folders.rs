//! The kernel's notifications about folders of the workspace.
//!
//! inotify watches single folders, so that those which nothing reads, such as `node_modules`, cost nothing.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::rules::WatchRules;
use crate::error::SessionError;

/// The bytes that are read at a time; an event takes at most 16 and a file's name.
const BUFFER: usize = 16 * 1024;

/// Something that has changed in a watched folder, with its path in the workspace.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FolderChange {
    /// A file was created, written, replaced or removed, or a folder was removed.
    File(String),
    /// A folder was created, or moved here.
    NewFolder(String),
    /// There were more changes than the kernel keeps.
    Lost,
}

/// The watched folders.
pub(super) struct FolderWatch {
    root: PathBuf,
    inotify: AsyncFd<OwnedFd>,
    /// Paths in the workspace, by the number of their watch.
    folders: HashMap<i32, String>,
}

impl FolderWatch {
    /// Watches the folders that contain files which the rules count. Must be called in a runtime.
    pub(super) fn new(root: &Path, rules: &WatchRules) -> Result<FolderWatch, SessionError> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).map_err(failed)?;
        // SAFETY: an `OwnedFd` stays open for as long as the `AsyncFd` owns it, and nothing takes it out.
        let inotify = unsafe { AsyncFd::register_with_interest(inotify, Interest::READABLE) }
            .map_err(|error| failed(io::Error::from(error)))?;
        let mut watch = FolderWatch { root: root.to_owned(), inotify, folders: HashMap::new() };
        for base in rules.bases() {
            watch.add_base(base, rules)?;
        }
        Ok(watch)
    }

    /// Watches a folder with all below it, or the folder around a file. Of a path that doesn't exist yet, the nearest
    /// folder is watched in which it can be created.
    fn add_base(&mut self, base: &str, rules: &WatchRules) -> Result<(), SessionError> {
        if self.root.join(base).is_dir() {
            return self.add_tree(base, rules);
        }
        let existing = Path::new(base).ancestors().skip(1).find(|folder| self.root.join(folder).is_dir());
        match existing.and_then(Path::to_str) {
            Some(folder) => self.add(folder).map(drop),
            None => Ok(()),
        }
    }

    /// Watches a folder and those of its subfolders that the rules reach into.
    pub(super) fn add_tree(&mut self, top: &str, rules: &WatchRules) -> Result<(), SessionError> {
        let mut folders = vec![top.to_owned()];
        while let Some(folder) = folders.pop() {
            if !rules.enters(&folder) || !self.add(&folder)? {
                continue;
            }
            // A folder that is gone or closed again has nothing to watch.
            let Ok(entries) = self.root.join(&folder).read_dir() else { continue };
            let within = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            folders.extend(within.filter_map(|entry| Some(below(&folder, entry.file_name().to_str()?))));
        }
        Ok(())
    }

    /// Watches one folder. False if it can't be read.
    fn add(&mut self, folder: &str) -> Result<bool, SessionError> {
        let flags = WatchFlags::CREATE
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::ONLYDIR
            | WatchFlags::DONT_FOLLOW;
        match inotify::add_watch(self.inotify.get_ref(), self.root.join(folder), flags) {
            Ok(number) => {
                self.folders.insert(number, folder.to_owned());
                Ok(true)
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::LOOP) => Ok(false),
            Err(error) => Err(failed(error)),
        }
    }

    /// Waits for changes.
    pub(super) async fn next(&mut self) -> Result<Vec<FolderChange>, SessionError> {
        loop {
            let mut ready = self.inotify.readable().await.map_err(failed)?;
            ready.clear_ready();
            drop(ready);
            let changes = self.read()?;
            if !changes.is_empty() {
                return Ok(changes);
            }
        }
    }

    /// The changes so far.
    pub(super) fn read(&mut self) -> Result<Vec<FolderChange>, SessionError> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut reader = Reader::new(self.inotify.get_ref(), &mut buffer);
        let mut changes = Vec::new();
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::WOULDBLOCK) => return Ok(changes),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(failed(error)),
            };
            let kind = event.events();
            if kind.contains(ReadFlags::QUEUE_OVERFLOW) {
                changes.push(FolderChange::Lost);
            }
            let name = event.file_name().and_then(|name| name.to_str().ok());
            let Some((folder, name)) = self.folders.get(&event.wd()).zip(name) else { continue };
            let path = below(folder, name);
            let is_new = kind.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO);
            changes.push(match kind.contains(ReadFlags::ISDIR) && is_new {
                true => FolderChange::NewFolder(path),
                false => FolderChange::File(path),
            });
        }
    }
}

fn below(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

fn failed(error: impl Into<io::Error>) -> SessionError {
    let error = error.into();
    let is_limit = error.raw_os_error() == Some(Errno::NOSPC.raw_os_error())
        || error.raw_os_error() == Some(Errno::MFILE.raw_os_error());
    let failed = SessionError::not_ready("can't watch the files of the workspace").caused_by(error);
    match is_limit {
        true => failed
            .hint("the machine's limit of watches is reached; to raise it: sysctl fs.inotify.max_user_watches=1048576")
            .hint("or watch fewer folders: name the stages' files in `inputs`, or let git ignore folders"),
        false => failed,
    }
}
