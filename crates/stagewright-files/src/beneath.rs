//! Reads files beneath a folder without following links out of it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Which links are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// None: a link in the path is an error.
    None,
    /// Links to targets within the same folder, which Kubernetes creates for the files of a secret.
    Within,
}

/// How often a resolution is repeated that a concurrent rename interrupted.
const TRIES: usize = 8;

/// Reads a whole file beneath `folder`, of at most `most` bytes. Links in the path of `folder` itself are followed; `path`
/// can't lead out of it.
///
/// # Errors
/// As for [`read`](crate::read), and when the path contains a link that `links` doesn't allow.
pub fn read_beneath(folder: &Path, path: &Path, links: Links, most: u64) -> io::Result<Vec<u8>> {
    let how = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(folder, how, Mode::empty())?;
    crate::read_bounded(crate::reopen_regular(&open_beneath(folder, &root, path, links)?)?, most)
}

/// Opens a path beneath `root`, a descriptor of `folder`, with `O_PATH`. An empty path is the folder itself.
pub(crate) fn open_beneath(folder: &Path, root: &OwnedFd, path: &Path, links: Links) -> io::Result<OwnedFd> {
    match resolve(root, path, links) {
        // The kernel lacks the call, or a seccomp filter around this process doesn't know it.
        Err(Errno::NOSYS | Errno::PERM) => resolve_stepwise(folder, root, path, links),
        named => named.map_err(|error| explained(error, folder)),
    }
}

fn resolve(root: &OwnedFd, path: &Path, links: Links) -> Result<OwnedFd, Errno> {
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let flags = match links {
        Links::None => within | ResolveFlags::NO_SYMLINKS,
        Links::Within => within,
    };
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let open = || rustix::fs::openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), flags);
    let mut opened = open();
    for _ in 0..TRIES {
        if !matches!(opened, Err(Errno::AGAIN)) {
            break;
        }
        opened = open();
    }
    opened
}

/// Resolves a path one name at a time without following links.
///
/// With [`Links::Within`], the path is canonicalised first. A link that is replaced between the two steps can't do harm:
/// the second step follows no links, and a process that can replace one can also write the file itself.
fn resolve_stepwise(folder: &Path, root: &OwnedFd, path: &Path, links: Links) -> io::Result<OwnedFd> {
    let real = match links {
        Links::None => path.to_owned(),
        Links::Within => {
            let (folder, real) = (folder.canonicalize()?, folder.join(path).canonicalize()?);
            real.strip_prefix(&folder).map_err(|_| explained(Errno::XDEV, &folder))?.to_owned()
        }
    };
    let mut at = root.try_clone()?;
    for step in real.components() {
        let Component::Normal(name) = step else { return Err(explained(Errno::XDEV, folder)) };
        let how = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        at = rustix::fs::openat(&at, name, how, Mode::empty())?;
    }
    Ok(at)
}

fn explained(error: Errno, folder: &Path) -> io::Error {
    let words = match error {
        Errno::XDEV => format!("it leads out of {}", folder.display()),
        Errno::LOOP => "it is a link, or leads through one".to_owned(),
        other => return other.into(),
    };
    io::Error::new(io::ErrorKind::InvalidInput, words)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// The layout of a Kubernetes secret, with links out of the folder that a stage could create.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("in/..2026_11/deep")).unwrap();
        fs::write(path("outside"), "outside").unwrap();
        fs::write(path("in/..2026_11/token"), "value").unwrap();
        fs::write(path("in/plain"), "value").unwrap();
        symlink("..2026_11", path("in/..data")).unwrap();
        symlink("..data/token", path("in/token")).unwrap();
        symlink("../outside", path("in/up")).unwrap();
        symlink(path("outside"), path("in/absolute")).unwrap();
        symlink("/proc/self/root/etc/passwd", path("in/magic")).unwrap();
        folder
    }

    #[test]
    fn links_out_of_the_folder_are_refused() {
        let folder = folder();
        let root = folder.path().join("in");
        let stepwise = |path: &Path, links| -> io::Result<Vec<u8>> {
            let named = rustix::fs::open(&root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
            crate::read_bounded(crate::reopen_regular(&resolve_stepwise(&root, &named, path, links)?)?, 9)
        };
        let read = |path: &Path, links| read_beneath(&root, path, links, 9);
        for is_stepwise in [false, true] {
            let read = |path: &Path, links| if is_stepwise { stepwise(path, links) } else { read(path, links) };
            assert_eq!(read(Path::new("token"), Links::Within).unwrap(), b"value");
            assert_eq!(read(Path::new("..2026_11/token"), Links::None).unwrap(), b"value");
            assert_eq!(read(Path::new("plain"), Links::None).unwrap(), b"value");
            for name in ["token", "up", "absolute", "magic", "..data/token", "../outside"] {
                read(Path::new(name), Links::None).expect_err(name);
            }
            for name in ["up", "absolute", "magic", "../outside", "..2026_11/deep"] {
                read(Path::new(name), Links::Within).expect_err(name);
            }
        }
    }

    #[test]
    fn errors_name_the_reason() {
        let folder = folder();
        let root = folder.path().join("in");
        let error = |name: &str, links| read_beneath(&root, Path::new(name), links, 9).unwrap_err().to_string();
        assert_eq!(error("token", Links::None), "it is a link, or leads through one");
        assert_eq!(error("up", Links::Within), format!("it leads out of {}", root.display()));
    }
}
