//! Replaces files in folders where a stage may have created something else at the same path.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, mkdirat, openat, renameat, renameat_with, unlinkat};
use rustix::io::Errno;

/// Atomically replaces the file, link or pipe at `path` with a file with this content: a concurrent reader sees either the
/// old or the new file. Missing folders are created. Stages may write below `root`, so a link among the folders there is
/// an error.
///
/// # Errors
/// When a folder can't be created or entered, and when the file can't be written. The path is unchanged then.
pub fn replace(root: &Path, path: &Path, content: &[u8]) -> io::Result<()> {
    let (folder, name) = folder_of(root, path)?;
    put(&folder, &name, content, Mode::from_raw_mode(0o666), false)
}

/// A handle of the folder that `path` is in, and the name in that folder. Missing folders are created. Stages may write
/// below `root`, so a link among the folders there is an error.
///
/// # Errors
/// When the path names nothing, and when a folder can't be created or entered.
pub fn folder_of(root: &Path, path: &Path) -> io::Result<(OwnedFd, OsString)> {
    let path = std::path::absolute(path)?;
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it names no file"))?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let below = folder.strip_prefix(root).ok().filter(|below| is_plain(below));
    let folder = match below {
        Some(below) => beneath(root, below)?,
        None => {
            std::fs::create_dir_all(folder)?;
            openat(CWD, folder, FOLDER, Mode::empty())?
        }
    };
    Ok((folder, name.to_owned()))
}

/// Atomically and durably replaces a file: when this returns, the new content is on the disk. Other users can read the
/// file. Links among its folders are followed.
///
/// # Errors
/// When the folder does not exist, and when the file can't be written. The earlier file is unchanged then.
pub fn replace_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let parent = path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
    let folder = openat(CWD, parent, FOLDER, Mode::empty())?;
    put(&folder, name, content, Mode::from_raw_mode(0o644), true)?;
    crate::sync_folder(parent)
}

/// Exchanges two files or folders of one file system: each has the other's path afterwards. On a file system that can do so,
/// which local ones can, both change at once.
///
/// # Errors
/// When one of them does not exist, or can't be renamed.
pub fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    match renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE) {
        // File systems of a network or of another machine can only rename.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => exchange_by_renaming(one, other),
        exchanged => Ok(exchanged?),
    }
}

fn exchange_by_renaming(one: &Path, other: &Path) -> io::Result<()> {
    let name = one.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let aside = one.with_file_name(format!(".{}.{}.aside", name.display(), std::process::id()));
    std::fs::rename(one, &aside)?;
    if let Err(error) = std::fs::rename(other, one) {
        std::fs::rename(&aside, one)?;
        return Err(error);
    }
    std::fs::rename(&aside, other)
}

const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

fn is_plain(path: &Path) -> bool {
    path.components().all(|component| matches!(component, Component::Normal(_)))
}

fn beneath(root: &Path, below: &Path) -> io::Result<OwnedFd> {
    let mut folder = openat(CWD, root, FOLDER, Mode::empty())?;
    for name in below.components() {
        let enter = || openat(&folder, name.as_os_str(), FOLDER | OFlags::NOFOLLOW, Mode::empty());
        folder = match enter() {
            Err(Errno::NOENT) => match mkdirat(&folder, name.as_os_str(), Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => enter()?,
                Err(error) => return Err(error.into()),
            },
            // The errors for a link with `NOFOLLOW`, and for a file with `DIRECTORY`.
            Err(Errno::LOOP | Errno::NOTDIR) => {
                let what = format!("`{}` in its path is a link or a file", name.as_os_str().display());
                return Err(io::Error::new(io::ErrorKind::NotADirectory, what));
            }
            entered => entered?,
        };
    }
    Ok(folder)
}

/// Whether a file has the name of one that is being written, and that replaces another one when it is complete.
pub fn is_draft(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(DRAFT)
}

/// The end of the names of files that are being written.
const DRAFT: &str = ".draft";

fn put(folder: &OwnedFd, name: &OsStr, content: &[u8], mode: Mode, durable: bool) -> io::Result<()> {
    // Several threads may replace the same file at once, so each draft has a unique number.
    static DRAFTS: AtomicU64 = AtomicU64::new(0);
    let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
    let draft = format!(".{}.{}-{number}{DRAFT}", name.display(), std::process::id());
    // An earlier process with the same id may have been killed and left a draft.
    let _ = unlinkat(folder, &draft, AtFlags::empty());
    let how = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(folder, &draft, how, mode)?);
    let written = file
        .write_all(content)
        .and_then(|()| if durable { file.sync_all() } else { Ok(()) })
        .and_then(|()| Ok(renameat(folder.as_fd(), &draft, folder.as_fd(), name)?));
    written.inspect_err(|_| {
        let _ = unlinkat(folder, &draft, AtFlags::empty());
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_and_pipes_are_replaced_and_links_are_not_followed() {
        let around = tempfile::tempdir().unwrap();
        let (root, outside) = (around.path().join("root"), around.path().join("outside"));
        std::fs::create_dir_all(&root).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("precious"), "precious").unwrap();
        symlink(outside.join("precious"), root.join("link")).unwrap();
        rustix::fs::mknodat(CWD, root.join("pipe"), rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        for name in ["link", "pipe", "new/deep/file"] {
            replace(&root, &root.join(name), b"report").unwrap();
            assert_eq!(crate::read_unlinked(&root.join(name), 99).unwrap(), b"report", "{name}");
        }
        symlink(&outside, root.join("folder")).unwrap();
        let refused = replace(&root, &root.join("folder/precious"), b"report").unwrap_err();
        assert_eq!(refused.to_string(), "`folder` in its path is a link or a file");
        assert_eq!(crate::read(&outside.join("precious"), 99).unwrap(), b"precious");
        // Outside of the root links belong to the user and are followed.
        symlink(&outside, around.path().join("own")).unwrap();
        replace(&root, &around.path().join("own/file"), b"report").unwrap();
        assert_eq!(crate::read(&outside.join("file"), 99).unwrap(), b"report");
    }

    #[test]
    fn exchanged_folders_have_each_other_s_paths_and_a_failed_exchange_changes_nothing() {
        for exchange in [exchange, exchange_by_renaming] {
            let folder = tempfile::tempdir().unwrap();
            let path = |name: &str| folder.path().join(name);
            for name in ["one", "other"] {
                std::fs::create_dir(path(name)).unwrap();
                std::fs::write(path(name).join("name"), name).unwrap();
            }
            exchange(&path("one"), &path("other")).unwrap();
            assert_eq!(crate::read(&path("one/name"), 99).unwrap(), b"other");
            assert_eq!(crate::read(&path("other/name"), 99).unwrap(), b"one");
            assert_eq!(exchange(&path("one"), &path("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
            assert_eq!(folder.path().read_dir().unwrap().count(), 2);
        }
    }
}
