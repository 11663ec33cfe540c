//! Files below `/proc`, which the kernel generates.

use std::io;
use std::path::Path;

/// Reads a whole file. Files below `/proc` are about as large as a page.
#[expect(clippy::disallowed_methods, reason = "the kernel's own files, which stagewright-files refuses")]
pub(crate) fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    std::fs::read(path)
}

/// As [`read`], as text.
pub(crate) fn read_text(path: impl AsRef<Path>) -> io::Result<String> {
    String::from_utf8(read(path)?).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// As [`read_text`], where a process may have put bytes of its own choice, such as its name.
pub(crate) fn read_lossy(path: impl AsRef<Path>) -> io::Result<String> {
    read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Opens `/dev/null` for reading.
pub(crate) fn null() -> io::Result<std::os::fd::OwnedFd> {
    let how = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    Ok(rustix::fs::open("/dev/null", how, rustix::fs::Mode::empty())?)
}
