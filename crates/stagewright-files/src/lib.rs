//! Opens, replaces and removes files that untrusted code may have created.
//!
//! The engine reads files whose content and type are chosen by a stage, a repository or another user: pipeline files,
//! locks, the configuration of package managers, `file:` secrets, plugins. Such a path may lead to a pipe without a
//! writer, an endless device, a file below `/proc` that blocks, or to the machine's keys through a link. Therefore all
//! files are opened for reading by this crate. It opens regular files on real file systems only, and checks that before it
//! opens them, because merely opening a device can have effects.
//!
//! The caller limits the number of bytes. Reading a limited part of a regular file always ends, so no function of this
//! crate needs to be interrupted.
//!
//! A stage may leave folders that are nested too deeply for a path, or that their owner can't read: [`remove_tree`] removes
//! them all, and no other code removes folders. [`hard_links()`] finds files with names outside of a folder. [`replace()`]
//! writes files where a stage may have created a link, [`replace_durably()`] writes records that survive a power failure,
//! [`copy_tree()`] copies a folder, [`exchange()`] puts a whole folder in the place of another, and [`follow()`] reports the
//! links that a path leads through.
//!
//! Architecture invariant: this crate depends on no other crate of the workspace and knows no file formats. Its functions
//! block on disk operations.

mod beneath;
mod copy;
mod follow;
mod hard_links;
mod private;
mod remove;
mod replace;

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd as _};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};

pub use beneath::{Links, read_beneath};
pub use copy::{Copied, copy_tree};
pub use follow::{Followed, follow, without_dots};
pub use hard_links::{HardLinks, hard_links};
pub use private::private_folder;
pub use remove::{remove_tree, remove_tree_at};
pub use replace::{exchange, folder_of, is_draft, replace, replace_durably};

/// Through these links a file can be opened that a descriptor with `O_PATH` refers to.
const DESCRIPTORS: &str = "/proc/self/fd";

/// The limit in bytes for a pipeline, the lock file and a policy. Generated pipelines can be large: 100,000 stages take
/// 7 MB.
pub const PIPELINE: u64 = 16 << 20;

/// The limit in bytes for other files that people write, such as the configuration of a tool. Far above the size of any
/// sensible one.
pub const CONFIGURATION: u64 = 4 << 20;

/// The limit in bytes for files that this engine or a compiler wrote, and that are held in memory as a whole.
pub const RECORD: u64 = 256 << 20;

/// Magic numbers of file systems whose content the kernel generates on each read. Some of their files block until an event
/// occurs, some never end, and all claim to be regular files. From `linux/magic.h`.
const GENERATED: [u32; 15] = [
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

/// Reads a whole file of at most `most` bytes. Links are followed.
///
/// # Errors
/// When the file does not exist, when it isn't a regular file, and when it has more bytes
/// ([`io::ErrorKind::FileTooLarge`]).
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    read_bounded(open(path)?, most)
}

/// Like [`read`], but a link at `path` is an error.
///
/// # Errors
/// As for [`read`].
pub fn read_unlinked(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    read_bounded(open_unlinked(path)?, most)
}

/// Like [`read`], for text in UTF-8.
///
/// # Errors
/// As for [`read`], and when the content isn't UTF-8 ([`io::ErrorKind::InvalidData`]).
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    String::from_utf8(read(path, most)?)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("invalid UTF-8: {}", error.utf8_error())))
}

/// Opens a file for reading, for files that are too large to hold in memory. Links are followed.
///
/// # Errors
/// When the file does not exist, and when it isn't a regular file.
pub fn open(path: &Path) -> io::Result<File> {
    reopen_regular(&rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

/// Like [`open`], but a link at `path` is an error.
///
/// # Errors
/// As for [`open`].
pub fn open_unlinked(path: &Path) -> io::Result<File> {
    reopen_regular(&rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())?)
}

/// Flushes a folder to the disk, so that entries created, renamed or removed in it survive a power failure.
///
/// # Errors
/// When the folder can't be opened or flushed.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(rustix::fs::fsync(&folder)?)
}

/// Opens the file that an `O_PATH` descriptor refers to, if it is a regular file.
fn reopen_regular(named: impl AsFd) -> io::Result<File> {
    check_kind(&named)?;
    // The file is opened through its descriptor and not through its path, which may lead to another file by now; that file
    // would escape the check above. `NONBLOCK`, because the call would otherwise wait for a lease of another process to
    // be released.
    let path = format!("{DESCRIPTORS}/{}", named.as_fd().as_raw_fd());
    let how = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, how, Mode::empty())?.into())
}

fn check_kind(named: impl AsFd) -> io::Result<()> {
    let kind = match FileType::from_raw_mode(rustix::fs::fstat(&named)?.st_mode) {
        FileType::RegularFile => {
            let system = rustix::fs::fstatfs(&named)?.f_type;
            // The type of the field differs between architectures; the magic numbers have 32 bits on all of them.
            let is_generated = GENERATED.iter().any(|&magic| u32::try_from(system & 0xffff_ffff) == Ok(magic));
            if !is_generated {
                return Ok(());
            }
            "a file that the kernel generates"
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

fn read_bounded(file: File, most: u64) -> io::Result<Vec<u8>> {
    let length = file.metadata()?.len();
    let mut data = Vec::new();
    if length <= most {
        // One byte more than allowed, to detect that the file grew meanwhile.
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
    fn only_regular_files_within_the_size_limit_are_read() {
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
            // Some of these files don't exist on every machine. None of them may be read, and none may block.
            read(&path(name), 1 << 20).expect_err(name);
        }
        assert_eq!(read(&path("pipe"), 9).unwrap_err().to_string(), "it is a pipe, where a regular file is required");
    }

    #[test]
    fn text_that_is_not_utf_8_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, b"\xff").unwrap();
        assert_eq!(read_text(&path, 9).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
