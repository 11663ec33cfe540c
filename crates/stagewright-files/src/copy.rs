//! Copies folders with content that untrusted code created.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, FileTimes, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, Mode, OFlags};

use crate::beneath::{Links, open_beneath};
use crate::reopen_regular;

/// The permission bits that a copy keeps: none with which a program would run as its owner.
const MODE: u32 = 0o777;

/// The result of [`copy_tree`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// The files and links that were copied, relative to the folder.
    pub files: Vec<PathBuf>,
    /// The size of all files.
    pub bytes: u64,
    /// Whether the copies of all files share their blocks with the originals until either is changed, so that they take no
    /// space of their own.
    pub shares_blocks: bool,
}

/// The device and inode of a file, which all of its names share.
type Identity = (u64, u64);

/// Copies a folder to `to`, which must not exist, and whose parent folder must. Copies share blocks with the originals where
/// the file system supports it. Links stay links, with the same target; times of files and permissions are kept. Left out
/// are pipes, sockets and devices, whatever can't be read, and what `skips` says, which gets each path relative to the
/// folder, with the device and inode of the file. What a program puts in the place of a file or folder while it is copied is
/// left out, too, so that no link leads the copy elsewhere.
///
/// # Errors
/// When something can't be written.
pub fn copy_tree(from: &Path, to: &Path, skips: impl Fn(&Path, Identity) -> bool) -> io::Result<Copied> {
    let root = rustix::fs::open(from, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut copied = Copied { shares_blocks: true, ..Copied::default() };
    let mut folders = vec![(PathBuf::new(), 0o700)];
    // Folders get their permissions last, because their owner may not have the right to write to them.
    let mut modes = Vec::new();
    while let Some((folder, mode)) = folders.pop() {
        DirBuilder::new().mode(0o700).create(to.join(&folder))?;
        modes.push((folder.clone(), mode));
        let Ok(opened) = open_beneath(from, &root, &folder, Links::None) else { continue };
        let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(entries) = rustix::fs::openat(&opened, ".", how, Mode::empty()).and_then(Dir::new) else { continue };
        for entry in entries.flatten() {
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let path = folder.join(name);
            // It may have been removed meanwhile.
            let how = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let Ok(named) = rustix::fs::openat(&opened, name, how, Mode::empty()) else { continue };
            let named = File::from(named);
            let Ok(metadata) = named.metadata() else { continue };
            if skips(&path, (metadata.dev(), metadata.ino())) {
                continue;
            }
            if metadata.is_dir() {
                folders.push((path, metadata.mode() & MODE));
                continue;
            }
            if metadata.is_symlink() {
                let Ok(target) = rustix::fs::readlinkat(&named, "", Vec::new()) else { continue };
                symlink(OsStr::from_bytes(target.to_bytes()), to.join(&path))?;
            } else if metadata.is_file() {
                let Ok(file) = reopen_regular(&named) else { continue };
                copied.shares_blocks &= copy_file(file, &to.join(&path), &metadata)?;
                copied.bytes = copied.bytes.saturating_add(metadata.len());
            } else {
                continue;
            }
            copied.files.push(path);
        }
    }
    for (folder, mode) in modes.into_iter().rev() {
        fs::set_permissions(to.join(folder), fs::Permissions::from_mode(mode))?;
    }
    Ok(copied)
}

/// Returns whether the copy shares the blocks of the original.
fn copy_file(from: File, to: &Path, metadata: &Metadata) -> io::Result<bool> {
    let mut copy = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    let shares_blocks = rustix::fs::ioctl_ficlone(&copy, &from).is_ok();
    if !shares_blocks {
        // Of a file that keeps growing, only what it had.
        io::copy(&mut from.take(metadata.len()), &mut copy)?;
    }
    // Build tools compare times to find out what has changed.
    copy.set_times(FileTimes::new().set_modified(metadata.modified()?))?;
    copy.set_permissions(fs::Permissions::from_mode(metadata.mode() & MODE))?;
    Ok(shares_blocks || metadata.len() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_the_files_links_and_times_of_the_original_and_is_independent_of_it() {
        let root = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| root.path().join(name));
        fs::create_dir_all(from.join("a/closed")).unwrap();
        fs::create_dir_all(from.join("skipped")).unwrap();
        for file in ["a/one", "a/closed/two", "skipped/three"] {
            fs::write(from.join(file), file).unwrap();
        }
        symlink("/etc/passwd", from.join("link")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, from.join("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        fs::set_permissions(from.join("a/one"), fs::Permissions::from_mode(0o4755)).unwrap();
        fs::set_permissions(from.join("a/closed"), fs::Permissions::from_mode(0o555)).unwrap();
        let mut copied = copy_tree(&from, &to, |path, _| path.ends_with("skipped")).unwrap();
        copied.files.sort();
        assert_eq!(copied.files, ["a/closed/two", "a/one", "link"].map(PathBuf::from));
        assert_eq!(copied.bytes, 17);
        assert_eq!(to.join("link").read_link().unwrap(), Path::new("/etc/passwd"));
        let mode = |path: &str| to.join(path).metadata().unwrap().mode() & 0o7777;
        assert_eq!((mode("a/one"), mode("a/closed")), (0o755, 0o555));
        let modified = |path: &Path| path.metadata().unwrap().modified().unwrap();
        assert_eq!(modified(&from.join("a/one")), modified(&to.join("a/one")));
        fs::write(to.join("a/one"), "changed").unwrap();
        assert_eq!(crate::read(&from.join("a/one"), 100).unwrap(), b"a/one");
        assert!(copy_tree(&from, &to, |_, _| false).is_err(), "nothing is replaced");
        // Otherwise only root could remove what is in them.
        for root in [&from, &to] {
            fs::set_permissions(root.join("a/closed"), fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    #[test]
    fn a_link_put_in_the_place_of_a_folder_leads_the_copy_nowhere() {
        let root = tempfile::tempdir().unwrap();
        let [from, to, outside] = ["from", "to", "outside"].map(|name| root.path().join(name));
        for folder in [from.join("a"), outside.clone()] {
            fs::create_dir_all(folder).unwrap();
        }
        fs::write(outside.join("key"), "key").unwrap();
        // What is asked of `skips` comes between finding the folder and opening it.
        let copied = copy_tree(&from, &to, |path, _| {
            if path == Path::new("a") {
                fs::remove_dir(from.join("a")).unwrap();
                symlink(&outside, from.join("a")).unwrap();
            }
            false
        });
        assert_eq!(copied.unwrap().files, Vec::<PathBuf>::new());
        assert!(!to.join("a/key").exists());
    }
}
