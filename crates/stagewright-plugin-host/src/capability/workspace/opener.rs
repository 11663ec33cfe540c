//! Opens files and folders name by name, without following links.
//!
//! A path is checked before it is used, and a program of the stage may exchange a folder for a link in between. Opening
//! each name relative to the handle of its parent, without following links, reaches exactly the path that was checked, or
//! fails. Reserved files are also refused here by device and inode, since a bind mount can make one appear under a path
//! that isn't reserved.

use std::io;
use std::os::fd::AsFd;

use cap_std::fs::{Dir, File};
use rustix::fs::{FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use stagewright_model::WorkspacePath;

use crate::policy::Policy;

/// Opens files below a root.
#[derive(Clone, Copy)]
pub(super) struct PathOpener<'a> {
    pub(super) root: &'a Dir,
    pub(super) policy: &'a Policy,
    pub(super) writing: bool,
}

impl PathOpener<'_> {
    /// Opens the folder at `path`, none of whose names may be a link.
    pub(super) fn folder(self, path: &WorkspacePath) -> io::Result<Dir> {
        path.names().try_fold(self.root.try_clone()?, |folder, name| self.enter(&folder, name))
    }

    /// Like [`PathOpener::folder`], but creates missing folders.
    pub(super) fn made_folder(self, path: &WorkspacePath) -> io::Result<Dir> {
        path.names().try_fold(self.root.try_clone()?, |folder, name| match self.enter(&folder, name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match folder.create_dir(name) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                    _ => {}
                }
                self.enter(&folder, name)
            }
            entered => entered,
        })
    }

    /// Opens the plain file `name` in `folder`. `how`: the flags of `open(2)`.
    ///
    /// # Errors
    /// When it is a link, a folder, a pipe, a socket or a device.
    pub(super) fn file(self, folder: &Dir, name: &str, how: OFlags) -> io::Result<File> {
        // Without `NONBLOCK`, opening a named pipe would block until another process opens its other end.
        let how = how | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = openat(folder, name, how, Mode::from_raw_mode(0o666)).map_err(|error| match error {
            Errno::LOOP => io::Error::new(io::ErrorKind::PermissionDenied, "it has been replaced by a link"),
            // A pipe without a reader, a socket, a device without a driver.
            Errno::NXIO | Errno::NODEV => not_a_file(),
            error => error.into(),
        })?;
        self.admit(&opened)?;
        // The kind is checked on the open file, since a program can exchange the file between a check of its path and the
        // opening. So a pipe or a device may be opened here for a moment: `NONBLOCK` keeps that from blocking, and `NOCTTY`
        // from making a terminal the engine's own.
        let file = File::from_std(opened.into());
        if file.metadata()?.is_file() { Ok(file) } else { Err(not_a_file()) }
    }

    fn enter(self, folder: &Dir, name: &str) -> io::Result<Dir> {
        let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let entered = openat(folder, name, how, Mode::empty())?;
        self.admit(&entered)?;
        Ok(Dir::from_std_file(entered.into()))
    }

    fn admit(self, opened: impl AsFd) -> io::Result<()> {
        let found = fstat(opened)?;
        match self.policy.reserved_as((found.st_dev, found.st_ino), self.writing) {
            None => Ok(()),
            Some(purpose) => {
                let kind = FileType::from_raw_mode(found.st_mode);
                let what = if kind == FileType::Directory { "it is" } else { "it is a file of" };
                Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("{what} {}", purpose.described())))
            }
        }
    }
}

fn not_a_file() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it isn't a plain file")
}
