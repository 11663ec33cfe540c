//! Reading files of a workspace in which others are at work: what is read is what was looked at, or an error.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use crate::digest::Digest;
use crate::stamp::{Stamp, now};

/// Which signal says that a lease is broken; `fcntl.h`, and the same on every architecture.
const F_SETSIG: libc::c_int = 10;

/// A file's content, by its digest.
pub(crate) struct ReadContent {
    pub(crate) digest: Digest,
    /// Whether the stamp that it was read under tells of every later change.
    pub(crate) is_lasting: bool,
}

/// The content of the plain file that had `stamp` when it was looked at.
///
/// # Errors
/// When it is another file by now, or was changed meanwhile.
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

/// The plain file that had `stamp` when it was looked at, whatever name it has by now: a link that took its place leads
/// nowhere, and a pipe never blocks.
pub(crate) fn open(path: &Path, stamp: &Stamp) -> io::Result<File> {
    let file = stagewright_files::open_unlinked(path).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => changed(),
        _ => error,
    })?;
    let metadata = file.metadata()?;
    if metadata.is_file() && Stamp::of(&metadata) == *stamp { Ok(file) } else { Err(changed()) }
}

/// Where the link leads that had `stamp` when it was looked at.
pub(crate) fn target(path: &Path, stamp: &Stamp) -> io::Result<OsString> {
    let target = path.read_link()?;
    let metadata = path.symlink_metadata()?;
    if Stamp::of(&metadata) == *stamp { Ok(target.into_os_string()) } else { Err(changed()) }
}

fn changed() -> io::Error {
    io::Error::new(io::ErrorKind::ResourceBusy, "it was changed at the same moment")
}

/// Whether no process has the file open for writing, or mapped so. Where that can't be asked, on some network file
/// systems or of another user's file, the answer is yes.
///
/// The kernel grants a read lease only on a file that isn't open for writing at the time. It is given back at once.
pub(crate) fn is_quiet(file: &File) -> bool {
    let file = file.as_raw_fd();
    // SAFETY: numbers alone; the descriptor is open for the time of the calls. A lease that is broken in between sends
    // a signal, which would end this process if it were not set to one that is ignored unless somebody waits for it.
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

/// Whether a store through a shared mapping moves any time of the file. On file systems in memory none does.
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
    fn what_took_the_place_of_a_file_is_not_read() {
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
    fn a_file_that_somebody_can_write_to_is_not_quiet() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let written = File::create(&path).unwrap();
        let read = stagewright_files::open(&path).unwrap();
        assert!(!is_quiet(&read));
        drop(written);
        assert!(is_quiet(&read) && is_quiet(&read));
    }
}
