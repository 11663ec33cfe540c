//! Removes folders with content that untrusted code created.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Removes the file, link or folder at `path`, a folder with all of its content. Links are removed and not followed.
///
/// Unlike [`std::fs::remove_dir_all`], this is not limited by the stack, the number of descriptors or the length of paths,
/// and it removes folders whose owner has no permissions for them. Stages can leave both kinds.
///
/// # Errors
/// When `path` does not exist, and when an entry can't be removed. Entries that were removed before stay removed.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path has no name"))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let parent = rustix::fs::open(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    remove_tree_at(&parent, name)
}

/// Like [`remove_tree`], for a name in an open folder.
///
/// # Errors
/// As for [`remove_tree`].
pub fn remove_tree_at(folder: impl AsFd, name: &OsStr) -> io::Result<()> {
    let folder = folder.as_fd();
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        removed => return Ok(removed?),
    }
    let mut here = open_with_permissions(folder, name)?;
    // The folders from `name` down to `here`. Only the deepest is open: its parent is opened through `..` when it is empty,
    // so the depth is not limited by the number of descriptors. Another process may move a folder meanwhile, which would
    // make `..` lead elsewhere; therefore the parent's identity is compared before anything is removed there.
    let mut levels = vec![PendingFolder::read(&here, name.to_owned())?];
    while let Some(level) = levels.last_mut() {
        if let Some(next) = level.subfolders.pop() {
            here = open_with_permissions(here.as_fd(), &next)?;
            levels.push(PendingFolder::read(&here, next)?);
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

/// A folder whose files have been removed, and whose subfolders remain.
struct PendingFolder {
    /// Its name in the folder above.
    name: OsString,
    /// Device and inode.
    identity: (u64, u64),
    subfolders: Vec<OsString>,
}

impl PendingFolder {
    /// Removes the files and links in an open folder, and lists its subfolders.
    fn read(folder: &OwnedFd, name: OsString) -> io::Result<PendingFolder> {
        let mut subfolders = Vec::new();
        for entry in Dir::read_from(folder)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            if entry.file_type() == FileType::Directory {
                subfolders.push(name.to_owned());
                continue;
            }
            match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
                // Some file systems don't report the type of an entry.
                Err(Errno::ISDIR) => subfolders.push(name.to_owned()),
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(PendingFolder { name, identity: identity(folder)?, subfolders })
    }
}

fn identity(folder: &OwnedFd) -> Result<(u64, u64), Errno> {
    let stat = rustix::fs::fstat(folder)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// Opens a folder for listing, after giving its owner all permissions, which are needed to list it and to remove entries.
fn open_with_permissions(parent: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Errno> {
    let handle = rustix::fs::openat(parent, name, OFlags::PATH | FOLDER, Mode::empty())?;
    let mode = Mode::from_raw_mode(rustix::fs::fstat(&handle)?.st_mode);
    if !mode.contains(Mode::RWXU) {
        // Through the descriptor, because the name may refer to another file by now. An error is ignored: a folder of
        // another user can be removed even though its mode can't be changed, if it is empty.
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

    /// The folder has more levels than a process can have descriptors, and a longer path than the kernel accepts.
    #[test]
    fn a_folder_of_any_depth_is_removed() {
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
        // Root could read and remove them anyway, so this thread drops the capabilities that allow it.
        let mut capabilities = rustix::thread::capabilities(None).unwrap();
        capabilities.effective -= CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
        rustix::thread::set_capabilities(None, capabilities).unwrap();
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
