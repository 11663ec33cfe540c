//! Removes folders whose content others made.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Removes what is at `path`, whatever it is, with all below. Links are removed and not followed.
///
/// In contrast to [`std::fs::remove_dir_all`], the depth is bounded by neither the stack nor the number of descriptors nor
/// the longest path, and a folder without permissions doesn't stop its owner: a stage can leave either.
///
/// # Errors
/// When there is nothing at `path`; when something can't be removed. What was removed by then is gone.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path has no name"))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let parent = rustix::fs::open(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    remove_tree_at(&parent, name)
}

/// The same for a name in an open folder.
///
/// # Errors
/// As [`remove_tree`].
pub fn remove_tree_at(folder: impl AsFd, name: &OsStr) -> io::Result<()> {
    let folder = folder.as_fd();
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        removed => return Ok(removed?),
    }
    let mut here = opened(folder, name)?;
    // From the one that is asked for down to `here`.
    let mut levels = vec![Level::of(&here, name.to_owned())?];
    while let Some(level) = levels.last_mut() {
        if let Some(next) = level.left.pop() {
            here = opened(here.as_fd(), &next)?;
            levels.push(Level::of(&here, next)?);
            continue;
        }
        let name = std::mem::take(&mut level.name);
        levels.pop();
        let Some(above) = levels.last() else {
            return Ok(rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR)?);
        };
        here = rustix::fs::openat(&here, "..", OFlags::RDONLY | FOLDER, Mode::empty())?;
        if identity(&here)? != above.identity {
            return Err(io::Error::other("a folder was moved while it was removed"));
        }
        rustix::fs::unlinkat(&here, name, AtFlags::REMOVEDIR)?;
    }
    Ok(())
}

/// A folder in which nothing is left but folders.
struct Level {
    /// In the folder above.
    name: OsString,
    identity: (u64, u64),
    left: Vec<OsString>,
}

impl Level {
    fn of(folder: &OwnedFd, name: OsString) -> io::Result<Level> {
        let mut left = Vec::new();
        for entry in Dir::read_from(folder)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            if entry.file_type() == FileType::Directory {
                left.push(name.to_owned());
                continue;
            }
            match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
                // Not all file systems say what an entry is.
                Err(Errno::ISDIR) => left.push(name.to_owned()),
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Level { name, identity: identity(folder)?, left })
    }
}

fn identity(folder: &OwnedFd) -> Result<(u64, u64), Errno> {
    let stat = rustix::fs::fstat(folder)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// Open, and with all permissions for its owner: to list it, to change it, to go through it.
fn opened(parent: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Errno> {
    let handle = rustix::fs::openat(parent, name, OFlags::PATH | FOLDER, Mode::empty())?;
    let mode = Mode::from_raw_mode(rustix::fs::fstat(&handle)?.st_mode);
    if !mode.contains(Mode::RWXU) {
        // By its descriptor: what has its name may be something else by now. It may belong to another user, and be
        // removable all the same.
        let _ = rustix::fs::chmod(format!("/proc/self/fd/{}", handle.as_raw_fd()), mode | Mode::RWXU);
    }
    rustix::fs::openat(&handle, ".", OFlags::RDONLY | FOLDER, Mode::empty())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use rustix::thread::CapabilitySet;

    use super::*;

    /// More levels than a process has descriptors, and a path longer than the kernel takes.
    #[test]
    fn depth_does_not_matter() {
        let root = tempfile::tempdir().unwrap();
        let top = root.path().join("top");
        fs::create_dir(&top).unwrap();
        let mut folder = rustix::fs::open(&top, OFlags::PATH | FOLDER, Mode::empty()).unwrap();
        for _ in 0..2_500 {
            rustix::fs::mkdirat(&folder, "a-long-name-of-a-folder", Mode::RWXU).unwrap();
            folder =
                rustix::fs::openat(&folder, "a-long-name-of-a-folder", OFlags::PATH | FOLDER, Mode::empty()).unwrap();
        }
        drop(folder);
        remove_tree(&top).unwrap();
        assert!(!top.exists());
        assert_eq!(remove_tree(&top).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn folders_without_permissions_are_removed_by_their_owner() {
        let root = tempfile::tempdir().unwrap();
        let top = root.path().join("top");
        for below in ["a/b/c", "a/d", "e"] {
            fs::create_dir_all(top.join(below)).unwrap();
            fs::write(top.join(below).join("file"), "").unwrap();
        }
        for (path, mode) in [("a/b/c", 0o000), ("a/b", 0o500), ("a/d", 0o300), ("e", 0o444), ("a", 0), ("", 0o100)] {
            fs::set_permissions(top.join(path), fs::Permissions::from_mode(mode)).unwrap();
        }
        // For this thread only: root may do all that.
        let mut powers = rustix::thread::capabilities(None).unwrap();
        powers.effective -= CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
        rustix::thread::set_capabilities(None, powers).unwrap();
        fs::read_dir(&top).unwrap_err();
        remove_tree(&top).unwrap();
        assert!(!top.exists());
    }

    #[test]
    fn links_are_removed_and_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let (top, other) = (root.path().join("top"), root.path().join("other"));
        fs::create_dir_all(top.join("a")).unwrap();
        fs::create_dir(&other).unwrap();
        fs::write(other.join("file"), "kept").unwrap();
        symlink(&other, top.join("a/link")).unwrap();
        symlink(&other, root.path().join("link")).unwrap();
        remove_tree(&top).unwrap();
        remove_tree(&root.path().join("link")).unwrap();
        assert!(!top.exists() && other.join("file").exists() && root.path().join("link").symlink_metadata().is_err());
        remove_tree(&other.join("file")).unwrap();
        assert!(!other.join("file").exists());
    }
}
