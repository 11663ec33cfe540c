//! Reads files of a workspace that other processes may change. The file that is read is the one that was examined
//! before; otherwise the read fails.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use crate::digest::Digest;
use crate::stamp::{Stamp, now};

/// Sets the signal that is sent when a lease is broken. From `fcntl.h`; the same on every architecture.
const F_SETSIG: libc::c_int = 10;

/// The digest of a file that was read.
pub(crate) struct ReadContent {
    pub(crate) digest: Digest,
    /// Whether the stamp under which the file was read detects every later change.
    pub(crate) is_lasting: bool,
}

/// Reads the plain file that had `stamp` when it was examined.
///
/// # Errors
/// When it was replaced since, or changed before or while it was read.
pub(crate) fn read(path: &Path, stamp: &Stamp) -> io::Result<ReadContent> {
    let begun = now();
    let mut file = open(path, stamp)?;
    let is_lasting = stamp.shows_changes_after(begun) && is_quiet(&file) && shows_mapped_stores(&file);
    let digest = Digest::of_reader(&mut file, stamp.size())?;
    match Stamp::of(&file.metadata()?) == *stamp {
        true => Ok(ReadContent { digest, is_lasting }),
        false => Err(changed()),
    }
}

/// Opens the plain file that had `stamp` when it was examined. A link in its place isn't followed, and a pipe in its
/// place doesn't block.
pub(crate) fn open(path: &Path, stamp: &Stamp) -> io::Result<File> {
    let file = stagewright_files::open_unlinked(path).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => changed(),
        _ => error,
    })?;
    let metadata = file.metadata()?;
    if metadata.is_file() && Stamp::of(&metadata) == *stamp { Ok(file) } else { Err(changed()) }
}

/// The target of the link that had `stamp` when it was examined.
pub(crate) fn target(path: &Path, stamp: &Stamp) -> io::Result<OsString> {
    let target = path.read_link()?;
    let metadata = path.symlink_metadata()?;
    if Stamp::of(&metadata) == *stamp { Ok(target.into_os_string()) } else { Err(changed()) }
}

fn changed() -> io::Error {
    io::Error::new(io::ErrorKind::ResourceBusy, "it changed while it was read")
}

/// Whether no process has the file open or mapped for writing. True as well where the kernel can't determine it: on some
/// network file systems, and for another user's file.
///
/// The kernel grants a read lease only on a file that isn't open for writing. The lease is released at once.
pub(crate) fn is_quiet(file: &File) -> bool {
    let file = file.as_raw_fd();
    // SAFETY: the calls take integers only, and the descriptor stays open while they run. If another process opens the
    // file for writing while the lease is held, the kernel sends a signal. By default that is SIGIO, which would kill
    // this process, so it is set to SIGURG first, which is ignored by default.
    unsafe {
        if libc::fcntl(file, F_SETSIG, libc::SIGURG) == -1 {
            return true;
        }
        if libc::fcntl(file, libc::F_SETLEASE, libc::F_RDLCK) == 0 {
            libc::fcntl(file, libc::F_SETLEASE, libc::F_UNLCK);
            return true;
        }
    }
    io::Error::last_os_error().raw_os_error() != Some(libc::EAGAIN)
}

/// Whether a store through a shared mapping updates the times of the file. On file systems in memory it doesn't.
pub(crate) fn shows_mapped_stores(file: &File) -> bool {
    const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];
    rustix::fs::fstatfs(file).is_ok_and(|found| !IN_MEMORY.contains(&found.f_type.cast_unsigned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn stamp(path: &Path) -> Stamp {
        Stamp::of(&path.symlink_metadata().unwrap())
    }

    #[test]
    fn a_replaced_file_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["file", "other"] {
            std::fs::write(path(name), name).unwrap();
        }
        let looked_at = stamp(&path("file"));
        assert_eq!(read(&path("file"), &looked_at).unwrap().digest, Digest::of("file"));
        std::fs::rename(path("other"), path("file")).unwrap();
        assert!(read(&path("file"), &looked_at).is_err());
        std::fs::remove_file(path("file")).unwrap();
        symlink("/etc/passwd", path("file")).unwrap();
        assert!(read(&path("file"), &looked_at).is_err() && read(&path("file"), &stamp(&path("file"))).is_err());
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, path("pipe"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(read(&path("pipe"), &stamp(&path("pipe"))).is_err());
    }

    #[test]
    fn a_file_that_is_open_for_writing_is_not_quiet() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let written = File::create(&path).unwrap();
        let read = stagewright_files::open(&path).unwrap();
        assert!(!is_quiet(&read));
        drop(written);
        assert!(is_quiet(&read) && is_quiet(&read));
    }
}
