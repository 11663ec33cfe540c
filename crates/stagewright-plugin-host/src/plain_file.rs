//! Files in memory, of which a stage or a registry may have made anything: a link, a pipe, more than there is memory.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

/// All of a file, at most so many bytes. A link at `path` is followed.
///
/// # Errors
/// When the file has more, or is none.
pub(crate) fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    read_with(OFlags::empty(), path, most)
}

/// The same; a link is an error.
pub(crate) fn read_unlinked(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    read_with(OFlags::NOFOLLOW, path, most)
}

fn read_with(how: OFlags, path: &Path, most: u64) -> io::Result<Vec<u8>> {
    // Without `NONBLOCK`, opening a pipe waits for whoever writes to it.
    let how = how | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::options().read(true).custom_flags(how.bits().cast_signed()).open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no plain file"));
    }
    // It may grow meanwhile.
    let mut data = Vec::new();
    if found.len() <= most {
        file.take(most.saturating_add(1)).read_to_end(&mut data)?;
    }
    if found.len().max(data.len() as u64) > most {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {most} bytes")));
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_but_a_file_of_the_size_that_is_expected() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("file"), "1234").unwrap();
        symlink("file", path("link")).unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, path("pipe"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
        File::create(path("sparse")).unwrap().set_len(1 << 40).unwrap();

        assert_eq!(read(&path("link"), 4).unwrap(), b"1234");
        assert_eq!(read_unlinked(&path("file"), 4).unwrap(), b"1234");
        assert!(read_unlinked(&path("link"), 4).is_err());
        for (name, most) in [("file", 3), ("sparse", 1 << 39), ("pipe", 4), (".", 4)] {
            read(&path(name), most).expect_err(name);
        }
        assert_eq!(read(Path::new("/proc/self/status"), 4).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }
}
