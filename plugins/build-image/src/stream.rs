//! Files of the workspace as byte streams, so that no file has to fit into the guest's memory.

use std::io::{self, Read, Write};

use sha2::{Digest, Sha256};
use stagewright_sdk::{Error, Result, workspace};

/// Bytes moved at a time.
pub(crate) const CHUNK: u32 = 1 << 20;

/// A part of a file, or all of it, read in order.
#[derive(Debug)]
pub(crate) struct FileReader<'a> {
    path: &'a str,
    offset: u64,
    left: u64,
    chunk: Vec<u8>,
    taken: usize,
}

impl<'a> FileReader<'a> {
    /// `size` bytes from `offset` on. The file must have them.
    pub(crate) fn part(path: &'a str, offset: u64, size: u64) -> FileReader<'a> {
        FileReader { path, offset, left: size, chunk: Vec::new(), taken: 0 }
    }
}

impl Read for FileReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.chunk.len() {
            if self.left == 0 {
                return Ok(0);
            }
            let wanted = u32::try_from(self.left).unwrap_or(CHUNK).min(CHUNK);
            self.chunk = workspace::read_at(self.path, self.offset, wanted).map_err(io::Error::other)?;
            self.taken = 0;
            if self.chunk.is_empty() {
                let message = format!("`{}` became shorter while it was read", self.path);
                return Err(io::Error::other(Error::failed(message).help("no other stage may write it meanwhile")));
            }
            self.offset += self.chunk.len() as u64;
            self.left -= self.chunk.len() as u64;
        }
        let rest = &self.chunk[self.taken..];
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        self.taken += count;
        Ok(count)
    }
}

/// Writes a file from its beginning, a chunk at a time.
#[derive(Debug)]
pub(crate) struct FileWriter {
    path: String,
    chunk: Vec<u8>,
    started: bool,
}

impl FileWriter {
    /// Replaces what is there.
    pub(crate) fn new(path: String) -> FileWriter {
        FileWriter { path, chunk: Vec::with_capacity(CHUNK as usize), started: false }
    }

    /// All of it is in the file once this returns.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.put()
    }

    fn put(&mut self) -> Result<()> {
        if self.started {
            workspace::append(&self.path, &self.chunk)?;
        } else {
            workspace::write(&self.path, &self.chunk)?;
        }
        self.started = true;
        self.chunk.clear();
        Ok(())
    }
}

impl Write for FileWriter {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let room = (CHUNK as usize).saturating_sub(self.chunk.len());
        let count = room.min(data.len());
        self.chunk.extend_from_slice(&data[..count]);
        if self.chunk.len() == CHUNK as usize {
            self.put().map_err(io::Error::other)?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `sha256:…` of some bytes.
pub(crate) fn digest(data: &[u8]) -> String {
    digest_text(&Sha256::digest(data))
}

fn digest_text(hash: &[u8]) -> String {
    hash.iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// The host's own error, if an `io::Error` carries one through a library.
pub(crate) fn host_error(error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => Error::failed(error.to_string()),
    }
}
