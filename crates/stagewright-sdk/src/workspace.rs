//! Files below the workspace's root, by relative path with `/`, as far as `read` and `write` are granted.

use crate::{Error, Result, host::workspace as host};

pub use crate::bindings::stage::stagewright::stage::workspace::{Entry, Located, Node};

/// A file's content.
///
/// # Errors
/// When there is no such file, or it isn't granted.
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

/// A part of a file; fewer bytes than asked for only at its end.
///
/// # Errors
/// As [`read`].
pub fn read_at(path: &str, offset: u64, length: u32) -> Result<Vec<u8>> {
    Ok(host::read_at(path, offset, length)?)
}

/// Replaces the file as a whole; makes the folders that are missing.
///
/// # Errors
/// When it isn't granted, or the disk is full.
pub fn write(path: &str, data: impl AsRef<[u8]>) -> Result<()> {
    Ok(host::write(path, data.as_ref())?)
}

/// Adds to the end of a file, which is made if need be.
///
/// # Errors
/// As [`write()`].
pub fn append(path: &str, data: impl AsRef<[u8]>) -> Result<()> {
    Ok(host::append(path, data.as_ref())?)
}

/// What matches, sorted by path. `*` stays within a folder, `**` crosses folders.
///
/// # Errors
/// When the pattern is none, or the folders may not be read.
pub fn glob(pattern: &str) -> Result<Vec<Entry>> {
    Ok(host::glob(pattern)?)
}

/// As [`glob`], with links as links, whatever they lead to: for whoever must leave nothing out.
///
/// # Errors
/// As [`glob`], and when a name is not UTF-8.
pub fn locate(pattern: &str) -> Result<Vec<Located>> {
    Ok(host::locate(pattern)?)
}

/// Removes a file, or a folder with what is in it. What is not there is no error.
///
/// # Errors
/// When it isn't granted.
pub fn remove(path: &str) -> Result<()> {
    Ok(host::remove(path)?)
}

/// `sha256:…` of a file's content, which stays in the host.
///
/// # Errors
/// As [`read`].
pub fn digest(path: &str) -> Result<String> {
    Ok(host::digest(path)?)
}

/// Compresses a file into another one, both of which stay in the host. The same content gives the same bytes.
///
/// # Errors
/// As [`read`] and [`write`](write()).
pub fn gzip(path: &str, to: &str) -> Result<()> {
    Ok(host::gzip(path, to)?)
}

/// Whether a file may be executed.
///
/// # Errors
/// As [`read`].
pub fn executable(path: &str) -> Result<bool> {
    Ok(host::executable(path)?)
}
