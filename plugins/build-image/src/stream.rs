//! Files of the workspace as byte streams, so that a file needn't fit into the guest's memory.

use std::io::{self, Read, Write};

use sha2::{Digest, Sha256};
use stagewright_sdk::{Error, Result, workspace};

/// Size of the buffers, in bytes.
pub(crate) const CHUNK: u32 = 1 << 20;

/// Reads a range of a file.
#[derive(Debug)]
pub(crate) struct FileReader<'a> {
    path: &'a str,
    offset: u64,
    remaining: u64,
    chunk: Vec<u8>,
    taken: usize,
}

impl<'a> FileReader<'a> {
    /// Reads `size` bytes from `offset`. A file that ends before that is an error.
    pub(crate) fn part(path: &'a str, offset: u64, size: u64) -> FileReader<'a> {
        FileReader { path, offset, remaining: size, chunk: Vec::new(), taken: 0 }
    }
}

impl Read for FileReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.chunk.len() {
            if self.remaining == 0 {
                return Ok(0);
            }
            let length = u32::try_from(self.remaining).unwrap_or(CHUNK).min(CHUNK);
            self.chunk = workspace::read_at(self.path, self.offset, length).map_err(io::Error::other)?;
            self.taken = 0;
            if self.chunk.is_empty() {
                let message = format!("`{}` was truncated while it was read", self.path);
                return Err(io::Error::other(
                    Error::failed(message).help("make sure that no other stage writes it at the same time"),
                ));
            }
            self.offset += self.chunk.len() as u64;
            self.remaining -= self.chunk.len() as u64;
        }
        let rest = &self.chunk[self.taken..];
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        self.taken += count;
        Ok(count)
    }
}

/// Writes a file in chunks.
#[derive(Debug)]
pub(crate) struct FileWriter {
    path: String,
    chunk: Vec<u8>,
    started: bool,
}

impl FileWriter {
    /// Replaces the file at `path` on the first write.
    pub(crate) fn new(path: String) -> FileWriter {
        FileWriter { path, chunk: Vec::with_capacity(CHUNK as usize), started: false }
    }

    /// Writes the remaining data. Without this call it is lost.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.write_chunk()
    }

    fn write_chunk(&mut self) -> Result<()> {
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
            self.write_chunk().map_err(io::Error::other)?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The digest of `data`, as `sha256:…`.
pub(crate) fn digest(data: &[u8]) -> String {
    digest_text(&Sha256::digest(data))
}

fn digest_text(hash: &[u8]) -> String {
    hash.iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// Unwraps the host's error that a library returned as an `io::Error`.
pub(crate) fn host_error(error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => Error::failed(error.to_string()),
    }
}
