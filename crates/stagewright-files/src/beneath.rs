//! Files within a folder, where links lead no farther than that.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// How far links may lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// Nowhere: a link on the way, or at its end, is an error.
    None,
    /// To what is within the same folder, as Kubernetes makes them for the files of a secret.
    Within,
}

/// Times that a path is resolved again when something was renamed meanwhile.
const TRIES: usize = 8;

/// All of a file below `folder`, at most `most` bytes. `folder` itself is found as any path is, through links; from there
/// on nothing leads out of it.
///
/// # Errors
/// As [`read`](crate::read); and when a link leads where it mustn't.
pub fn read_beneath(folder: &Path, path: &Path, links: Links, most: u64) -> io::Result<Vec<u8>> {
    let how = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(folder, how, Mode::empty())?;
    let named = match resolved(&root, path, links) {
        // No such call on this kernel, or a filter around this process that doesn't know it.
        Err(Errno::NOSYS | Errno::PERM) => by_hand(folder, root, path, links)?,
        named => named.map_err(|error| explained(error, folder))?,
    };
    crate::bounded(crate::opened(&named)?, most)
}

fn resolved(root: &OwnedFd, path: &Path, links: Links) -> Result<OwnedFd, Errno> {
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let resolve = match links {
        Links::None => within | ResolveFlags::NO_SYMLINKS,
        Links::Within => within,
    };
    let open = || rustix::fs::openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve);
    let mut opened = open();
    for _ in 0..TRIES {
        if !matches!(opened, Err(Errno::AGAIN)) {
            break;
        }
        opened = open();
    }
    opened
}

/// Step by step, without following a link. Where links may lead within the folder, the path is made free of them first:
/// whoever could exchange one in between writes to the folder anyway.
fn by_hand(folder: &Path, root: OwnedFd, path: &Path, links: Links) -> io::Result<OwnedFd> {
    let real = match links {
        Links::None => path.to_owned(),
        Links::Within => {
            let (folder, real) = (folder.canonicalize()?, folder.join(path).canonicalize()?);
            real.strip_prefix(&folder).map_err(|_| explained(Errno::XDEV, &folder))?.to_owned()
        }
    };
    let mut at = root;
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

    /// As Kubernetes lays out a secret, and with what a stage could put there.
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
    fn links_lead_as_far_as_they_may() {
        let folder = folder();
        let root = folder.path().join("in");
        let hand = |path: &Path, links| -> io::Result<Vec<u8>> {
            let named = rustix::fs::open(&root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
            crate::bounded(crate::opened(&by_hand(&root, named, path, links)?)?, 9)
        };
        let read = |path: &Path, links| read_beneath(&root, path, links, 9);
        for is_by_hand in [false, true] {
            let way = |path: &Path, links| if is_by_hand { hand(path, links) } else { read(path, links) };
            assert_eq!(way(Path::new("token"), Links::Within).unwrap(), b"value");
            assert_eq!(way(Path::new("..2026_11/token"), Links::None).unwrap(), b"value");
            assert_eq!(way(Path::new("plain"), Links::None).unwrap(), b"value");
            for name in ["token", "up", "absolute", "magic", "..data/token", "../outside"] {
                way(Path::new(name), Links::None).expect_err(name);
            }
            for name in ["up", "absolute", "magic", "../outside", "..2026_11/deep"] {
                way(Path::new(name), Links::Within).expect_err(name);
            }
        }
    }

    #[test]
    fn the_reason_is_said() {
        let folder = folder();
        let root = folder.path().join("in");
        let error = |name: &str, links| read_beneath(&root, Path::new(name), links, 9).unwrap_err().to_string();
        assert_eq!(error("token", Links::None), "it is a link, or leads through one");
        assert_eq!(error("up", Links::Within), format!("it leads out of {}", root.display()));
    }
}
