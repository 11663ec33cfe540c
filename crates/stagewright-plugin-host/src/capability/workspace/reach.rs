//! Files and folders reached name by name, following no link.
//!
//! A path is checked before it is used, and a program of the stage may exchange a folder for a link in between. What is
//! opened here is at the very path that was checked, or nothing is. What is reserved is refused once more by what it is, for
//! a mount may show it under a path that isn't.

use std::io;
use std::os::fd::AsFd;

use cap_std::fs::{Dir, File};
use rustix::fs::{FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use stagewright_model::WorkspacePath;

use crate::policy::Policy;

/// Whence files are reached, and for what.
#[derive(Clone, Copy)]
pub(super) struct Reach<'a> {
    pub(super) root: &'a Dir,
    pub(super) policy: &'a Policy,
    pub(super) writing: bool,
}

impl Reach<'_> {
    /// The folder at `path`, which holds no link.
    pub(super) fn folder(self, path: &WorkspacePath) -> io::Result<Dir> {
        path.names().try_fold(self.root.try_clone()?, |folder, name| self.enter(&folder, name))
    }

    /// The same; makes what is missing.
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

    /// The plain file `name` in `folder`. `how`: as in `open(2)`.
    ///
    /// # Errors
    /// When it is anything else: a link, a folder, a pipe, a socket, a device.
    pub(super) fn file(self, folder: &Dir, name: &str, how: OFlags) -> io::Result<File> {
        // Without `NONBLOCK`, opening a pipe waits for whoever opens the other end.
        let how = how | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = openat(folder, name, how, Mode::from_raw_mode(0o666)).map_err(|error| match error {
            Errno::LOOP => {
                io::Error::new(io::ErrorKind::PermissionDenied, "it is a link that leads somewhere else by now")
            }
            // A pipe without a reader, a socket, a device without a driver.
            Errno::NXIO | Errno::NODEV => not_a_file(),
            error => error.into(),
        })?;
        self.admit(&opened)?;
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
    io::Error::new(io::ErrorKind::InvalidInput, "it is no plain file")
}
