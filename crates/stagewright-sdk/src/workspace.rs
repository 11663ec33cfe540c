//! Files of the workspace, by path relative to its root, within the `read` and `write` grants.

use crate::{Error, Result, host::workspace as host};

pub use crate::bindings::imports::workspace::{Entry, Located, Node};

/// A file's content.
///
/// # Errors
/// When the file doesn't exist, or isn't granted.
pub fn read(path: &str) -> Result<Vec<u8>> {
    Ok(host::read(path)?)
}

/// A file's content as text.
///
/// # Errors
/// As [`read`], and when it isn't UTF-8.
pub fn read_text(path: &str) -> Result<String> {
    String::from_utf8(read(path)?).map_err(|error| Error::from(error).context(format!("can't read `{path}` as text")))
}

/// A part of a file. It has fewer than `length` bytes only at the end of the file.
///
/// # Errors
/// As [`read`].
pub fn read_at(path: &str, offset: u64, length: u32) -> Result<Vec<u8>> {
    Ok(host::read_at(path, offset, length)?)
}

/// Replaces the whole file. Creates missing folders.
///
/// # Errors
/// When it isn't granted, or the disk is full.
pub fn write(path: &str, data: impl AsRef<[u8]>) -> Result<()> {
    Ok(host::write(path, data.as_ref())?)
}

/// Appends to a file. Creates it if it doesn't exist.
///
/// # Errors
/// As [`write()`].
pub fn append(path: &str, data: impl AsRef<[u8]>) -> Result<()> {
    Ok(host::append(path, data.as_ref())?)
}

/// The entries that match, sorted by path. `*` doesn't cross folders, `**` does.
///
/// # Errors
/// When the pattern is invalid, or reading the folders isn't granted.
pub fn glob(pattern: &str) -> Result<Vec<Entry>> {
    Ok(host::glob(pattern)?)
}

/// Like [`glob`], but doesn't follow links. Includes links whose target is missing or isn't granted, which `glob` leaves
/// out, and tells special files apart.
///
/// # Errors
/// As [`glob`], and when a name isn't UTF-8.
pub fn locate(pattern: &str) -> Result<Vec<Located>> {
    Ok(host::locate(pattern)?)
}

/// Removes a file, or a folder with its content. Succeeds when the path doesn't exist.
///
/// # Errors
/// When it isn't granted.
pub fn remove(path: &str) -> Result<()> {
    Ok(host::remove(path)?)
}

/// The digest of a file's content, as `sha256:…`. The content isn't copied to the guest.
///
/// # Errors
/// As [`read`].
pub fn digest(path: &str) -> Result<String> {
    Ok(host::digest(path)?)
}

/// Compresses a file into another one, without copying them to the guest. Equal content gives equal bytes.
///
/// # Errors
/// As [`read`] and [`write`](write()).
pub fn gzip(path: &str, to: &str) -> Result<()> {
    Ok(host::gzip(path, to)?)
}

/// Whether a file is executable.
///
/// # Errors
/// As [`read`].
pub fn executable(path: &str) -> Result<bool> {
    Ok(host::executable(path)?)
}
