//! A Unix socket of the machine that a stage is granted by its path.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use serde::{Deserialize, Serialize};

use super::broker::Identity;

/// The most links in a path, as in the kernel.
const MAX_LINKS: usize = 40;

/// A socket that a stage may connect to: its path without links, and its device and inode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantedSocket {
    path: PathBuf,
    identity: Identity,
}

/// Why the socket at a path can't be granted.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The path doesn't exist or can't be opened.
    #[error("the socket {} can't be opened: {source}", path.display())]
    Unreadable {
        /// As it was granted.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The path isn't a socket.
    #[error("{} is not a socket", path.display())]
    Other {
        /// As it was granted.
        path: PathBuf,
    },
    /// The path contains a link that a stage could have made, to make the engine grant another socket.
    #[error("the socket {} is reached through the link {}, which a stage could have made", path.display(), link.display())]
    Linked {
        /// As it was granted.
        path: PathBuf,
        /// The link.
        link: PathBuf,
    },
}

impl GrantedSocket {
    /// Finds the socket at `path`, which must be absolute. Follows links, except for those in the folders `writable`,
    /// where a stage could have made them.
    pub fn find(path: &Path, writable: &[PathBuf]) -> Result<GrantedSocket, SocketError> {
        let unreadable = |source: io::Error| SocketError::Unreadable { path: path.to_owned(), source };
        let real = follow(path, writable)?;
        let file = open(&real).map_err(unreadable)?;
        match Identity::from_socket(file.as_fd()) {
            Ok(Some(identity)) => Ok(GrantedSocket { path: real, identity }),
            Ok(None) => Err(SocketError::Other { path: path.to_owned() }),
            Err(error) => Err(unreadable(error.into())),
        }
    }

    /// The path of the socket, without links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn identity(&self) -> Identity {
        self.identity
    }

    /// Opens the socket; fails if another file has replaced it since it was found.
    pub(super) fn open(&self) -> io::Result<OwnedFd> {
        let file = open(&self.path)?;
        match Identity::from_socket(file.as_fd())? {
            Some(identity) if identity == self.identity => Ok(file),
            _ => Err(io::Error::other("it was replaced while the sandbox was set up")),
        }
    }
}

/// Opens a path without following links, in case a part of it was replaced by a link since it was resolved.
fn open(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)?)
}

/// Resolves all links of a path.
fn follow(path: &Path, writable: &[PathBuf]) -> Result<PathBuf, SocketError> {
    let unreadable = |source: io::Error| SocketError::Unreadable { path: path.to_owned(), source };
    // The writable folders may themselves be given by paths with links.
    let writable = writable.iter().filter_map(|folder| folder.canonicalize().ok()).collect::<Vec<_>>();
    let mut real = PathBuf::from("/");
    let mut left = names(path).collect::<VecDeque<_>>();
    let mut links = 0;
    while let Some(name) = left.pop_front() {
        if name == ".." {
            real.pop();
            continue;
        }
        let next = real.join(name);
        if !next.symlink_metadata().map_err(unreadable)?.is_symlink() {
            real = next;
            continue;
        }
        if writable.iter().any(|folder| real.starts_with(folder)) {
            return Err(SocketError::Linked { path: path.to_owned(), link: next });
        }
        links += 1;
        if links > MAX_LINKS {
            return Err(unreadable(io::Error::from_raw_os_error(libc::ELOOP)));
        }
        let target = next.read_link().map_err(unreadable)?;
        if target.is_absolute() {
            real = PathBuf::from("/");
        }
        for name in names(&target).collect::<Vec<_>>().into_iter().rev() {
            left.push_front(name);
        }
    }
    Ok(real)
}

/// The names in a path, with `..` for the parent folder.
fn names(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_socket_is_found_through_links_of_the_machine_and_of_no_stage() {
        let keep = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(keep.path()).unwrap();
        let [run, work] = ["run", "work"].map(|name| root.join(name));
        fs::create_dir_all(run.join("deep")).unwrap();
        fs::create_dir(&work).unwrap();
        let _listener = UnixListener::bind(run.join("deep/a.sock")).unwrap();
        symlink("deep/../deep", run.join("folder")).unwrap();
        symlink(run.join("folder/a.sock"), run.join("link")).unwrap();
        symlink(run.join("deep"), work.join("door")).unwrap();
        symlink("work", root.join("alias")).unwrap();
        let find = |path: &str| GrantedSocket::find(&root.join(path), &[root.join("alias")]);
        for path in ["run/deep/a.sock", "run/link", "run/folder/a.sock", "work/../run/deep/a.sock"] {
            assert_eq!(find(path).unwrap().path(), run.join("deep/a.sock"), "{path}");
        }
        for path in ["work/door/a.sock", "alias/door/a.sock"] {
            assert!(matches!(find(path), Err(SocketError::Linked { link, .. }) if link == work.join("door")), "{path}");
        }
        assert!(matches!(find("run/deep"), Err(SocketError::Other { .. })));
        assert!(matches!(find("run/none"), Err(SocketError::Unreadable { .. })));
        symlink("again", run.join("again")).unwrap();
        assert!(matches!(find("run/again"), Err(SocketError::Unreadable { .. })));
    }

    #[test]
    fn a_socket_that_takes_the_place_of_another_is_not_the_same() {
        let keep = tempfile::tempdir().unwrap();
        let path = fs::canonicalize(keep.path()).unwrap().join("a.sock");
        let first = UnixListener::bind(&path).unwrap();
        let granted = GrantedSocket::find(&path, &[]).unwrap();
        assert!(granted.open().is_ok());
        fs::rename(&path, path.with_extension("old")).unwrap();
        let _second = UnixListener::bind(&path).unwrap();
        assert!(granted.open().is_err());
        drop(first);
        fs::remove_file(&path).unwrap();
        symlink(path.with_extension("old"), &path).unwrap();
        assert!(granted.open().is_err(), "a link is followed");
    }
}
