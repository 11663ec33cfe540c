//! Files and folders reached name by name, following no link.
//!
//! A path is checked before it is used, and a program of the stage may exchange a folder for a link in between. What is
//! opened here is at the very path that was checked, or nothing is.

use std::io;

use cap_std::fs::{Dir, File};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use crate::path::WorkspacePath;

/// The folder at `path`, which holds no link.
pub(super) fn folder(root: &Dir, path: &WorkspacePath) -> io::Result<Dir> {
    path.names().try_fold(root.try_clone()?, |folder, name| enter(&folder, name))
}

/// The same; makes what is missing.
pub(super) fn made_folder(root: &Dir, path: &WorkspacePath) -> io::Result<Dir> {
    path.names().try_fold(root.try_clone()?, |folder, name| match enter(&folder, name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            match folder.create_dir(name) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            enter(&folder, name)
        }
        entered => entered,
    })
}

/// The plain file `name` in `folder`. `how`: as in `open(2)`.
///
/// # Errors
/// When it is anything else: a link, a folder, a pipe, a socket, a device.
pub(super) fn file(folder: &Dir, name: &str, how: OFlags) -> io::Result<File> {
    // Without `NONBLOCK`, opening a pipe waits for whoever opens the other end.
    let how = how | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = openat(folder, name, how, Mode::from_raw_mode(0o666)).map_err(|error| match error {
        Errno::LOOP => io::Error::new(io::ErrorKind::PermissionDenied, "it is a link that leads somewhere else by now"),
        // A pipe that nobody reads, a socket, a device without a driver.
        Errno::NXIO | Errno::NODEV => not_a_file(),
        error => error.into(),
    })?;
    let file = File::from_std(opened.into());
    if file.metadata()?.is_file() { Ok(file) } else { Err(not_a_file()) }
}

fn not_a_file() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is no plain file")
}

fn enter(folder: &Dir, name: &str) -> io::Result<Dir> {
    let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(Dir::from_std_file(openat(folder, name, how, Mode::empty())?.into()))
}
