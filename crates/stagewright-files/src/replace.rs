//! Writing a file where a stage may have put something else.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, openat, renameat, unlinkat};
use rustix::io::Errno;

/// Puts a file with this content at `path`, in place of whatever file, link or pipe is there: as a whole, so that who
/// reads it meanwhile sees the old one or the new one. Folders on the way are made. Below `root`, where stages may write,
/// a link among them is an error.
///
/// # Errors
/// When a folder can't be made or entered, and when the file can't be written; nothing has changed then.
pub fn replace(root: &Path, path: &Path, content: &[u8]) -> io::Result<()> {
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
    put(&folder, name, content, Mode::from_raw_mode(0o666), false)
}

/// Replaces a file as a whole, durably: the new content is on disk once this returns. Other users may read it. Links on the
/// way to its folder are followed.
///
/// # Errors
/// When the folder doesn't exist, or the file can't be written; the earlier one is still there then.
pub fn replace_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let parent = path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
    let folder = openat(CWD, parent, FOLDER, Mode::empty())?;
    put(&folder, name, content, Mode::from_raw_mode(0o644), true)?;
    crate::sync_folder(parent)
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
            // What `NOFOLLOW` says of a link, when a folder is asked for.
            Err(Errno::LOOP | Errno::NOTDIR) => {
                let what = format!("`{}` on the way to it is a link or a file", name.as_os_str().display());
                return Err(io::Error::new(io::ErrorKind::NotADirectory, what));
            }
            entered => entered?,
        };
    }
    Ok(folder)
}

fn put(folder: &OwnedFd, name: &OsStr, content: &[u8], mode: Mode, durable: bool) -> io::Result<()> {
    // Several threads may replace the same file.
    static DRAFTS: AtomicU64 = AtomicU64::new(0);
    let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
    let draft = format!(".{}.{}-{number}.draft", name.display(), std::process::id());
    // Left by an earlier process of the same id that was killed.
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
    fn what_lies_in_the_way_is_replaced_and_never_followed() {
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
        assert_eq!(refused.to_string(), "`folder` on the way to it is a link or a file");
        assert_eq!(crate::read(&outside.join("precious"), 99).unwrap(), b"precious");
        // Elsewhere links are the user's own.
        symlink(&outside, around.path().join("own")).unwrap();
        replace(&root, &around.path().join("own/file"), b"report").unwrap();
        assert_eq!(crate::read(&outside.join("file"), 99).unwrap(), b"report");
    }
}
