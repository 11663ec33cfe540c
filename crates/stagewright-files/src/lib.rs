//! Opens files that others may have made, and removes folders of them.
//!
//! The engine reads files whose content, and whose very kind, a stage, a repository or another user decides: pipeline
//! files, locks, the configuration of package managers, `file:` secrets, plugins. What has such a file's name may be a pipe
//! without a writer, a device that never ends, a file below `/proc` that waits, or a link to the machine's keys. So
//! this crate is the only one that opens files for reading, and what it opens is a regular file on a real file system,
//! looked at before it is opened: opening a device alone can do things.
//!
//! Bytes are bounded by the caller. A read of a bounded regular file ends, so that nothing here has to be interrupted.
//!
//! What a stage leaves behind may be deeper than a path can say, and closed to its owner: [`remove_tree`] alone removes
//! folders. [`hard_links()`] finds files that lead out of a folder. [`replace()`] writes where a stage may have laid a link, [`replace_durably()`] keeps records through a power cut,
//! and [`follow()`] says by what a path leads where it leads.
//!
//! Architecture invariant: this crate depends on none of the others and knows no formats. Its functions
//! block for as long as a disk takes.

mod beneath;
mod follow;
mod hard_links;
mod private;
mod remove;
mod replace;

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};

pub use beneath::{Links, read_beneath};
pub use follow::{Followed, follow};
pub use hard_links::{HardLinks, hard_links};
pub use private::private_folder;
pub use remove::{remove_tree, remove_tree_at};
pub use replace::{replace, replace_durably};

/// What can be opened again from a descriptor that only names it.
const DESCRIPTORS: &str = "/proc/self/fd";

/// Bytes of a file that people write: a pipeline, a lock, a policy, the configuration of a tool. Far more than any has.
pub const CONFIGURATION: u64 = 4 << 20;

/// Bytes of a file that this engine or a compiler wrote, and that is held in memory as a whole.
pub const RECORD: u64 = 256 << 20;

/// Magic numbers of file systems whose files are made up when they are read: some wait for events, some never end, and
/// all say that they are regular files. From `linux/magic.h`.
const MADE_UP: [u32; 15] = [
    0x0000_9fa0, // proc
    0x6265_6572, // sysfs
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0x6265_6570, // configfs
    0xcafe_4a11, // bpf
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0xde5e_81e4, // efivarfs
    0x6165_676c, // pstore
    0x0000_1cd1, // devpts
    0xf97c_ff8c, // selinuxfs
    0x1980_0202, // mqueue
    0x4249_4e4d, // binfmt_misc
];

/// All of a file, at most `most` bytes. Links are followed.
///
/// # Errors
/// When there is no such file, when it isn't a regular one, and when it has more bytes
/// ([`io::ErrorKind::FileTooLarge`]).
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    bounded(open(path)?, most)
}

/// As [`read`]; a link at `path` is an error.
///
/// # Errors
/// As [`read`].
pub fn read_unlinked(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    bounded(open_unlinked(path)?, most)
}

/// As [`read`], for text in UTF-8.
///
/// # Errors
/// As [`read`]; and when it isn't UTF-8 ([`io::ErrorKind::InvalidData`]).
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    String::from_utf8(read(path, most)?)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("invalid UTF-8: {}", error.utf8_error())))
}

/// Opens a file to read it, for files that are larger than memory should hold. Links are followed.
///
/// # Errors
/// When there is no such file, and when it isn't a regular one.
pub fn open(path: &Path) -> io::Result<File> {
    opened(&rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

/// As [`open`]; a link at `path` is an error.
///
/// # Errors
/// As [`open`].
pub fn open_unlinked(path: &Path) -> io::Result<File> {
    opened(&rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())?)
}

/// Makes what was created, renamed or removed in a folder last.
///
/// # Errors
/// When it can't be opened or synchronised.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(rustix::fs::fsync(&folder)?)
}

/// Opens what a descriptor names, when that is a regular file.
fn opened(named: &OwnedFd) -> io::Result<File> {
    check_kind(named.as_fd())?;
    // Not by its path: that may name another file by now. A lease that another process holds would block without
    // `NONBLOCK`.
    let path = format!("{DESCRIPTORS}/{}", named.as_raw_fd());
    let how = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, how, Mode::empty())?.into())
}

fn check_kind(named: impl AsFd) -> io::Result<()> {
    let kind = match FileType::from_raw_mode(rustix::fs::fstat(&named)?.st_mode) {
        FileType::RegularFile => {
            let system = rustix::fs::fstatfs(&named)?.f_type;
            // The type of the field differs between machines; the numbers have 32 bits on all of them.
            let is_made_up = MADE_UP.iter().any(|&magic| u32::try_from(system & 0xffff_ffff) == Ok(magic));
            if !is_made_up {
                return Ok(());
            }
            "a file that the kernel makes up"
        }
        FileType::Directory => "a folder",
        FileType::Symlink => "a link",
        FileType::Fifo => "a pipe",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::Unknown => "of an unknown kind",
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {kind}, where a regular file is required")))
}

fn bounded(file: File, most: u64) -> io::Result<Vec<u8>> {
    let length = file.metadata()?.len();
    let mut data = Vec::new();
    if length <= most {
        // It may grow meanwhile.
        file.take(most.saturating_add(1)).read_to_end(&mut data)?;
    }
    if length.max(data.len() as u64) > most {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {most} bytes")));
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_but_a_regular_file_of_the_expected_size_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("file"), "1234").unwrap();
        symlink("file", path("link")).unwrap();
        symlink("/dev/zero", path("zero")).unwrap();
        symlink("/proc/kmsg", path("log")).unwrap();
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, path("pipe"), FileType::Fifo, mode, 0).unwrap();
        File::create(path("sparse")).unwrap().set_len(1 << 40).unwrap();

        assert_eq!(read(&path("link"), 4).unwrap(), b"1234");
        assert_eq!(read_unlinked(&path("file"), 4).unwrap(), b"1234");
        assert_eq!(read_unlinked(&path("link"), 4).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        for (name, most) in [("file", 3), ("sparse", 1 << 39)] {
            assert_eq!(read(&path(name), most).unwrap_err().kind(), io::ErrorKind::FileTooLarge, "{name}");
        }
        for name in ["pipe", ".", "zero", "log", "/dev/tty", "/proc/self/status", "/sys/kernel/uevent_seqnum"] {
            // Machines differ in what they have below `/proc`; none of it may be read, or waited for.
            read(&path(name), 1 << 20).expect_err(name);
        }
        assert_eq!(read(&path("pipe"), 9).unwrap_err().to_string(), "it is a pipe, where a regular file is required");
    }

    #[test]
    fn text_is_utf_8() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, b"\xff").unwrap();
        assert_eq!(read_text(&path, 9).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
