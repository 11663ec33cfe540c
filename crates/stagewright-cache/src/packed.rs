//! Packs a result into a single file for a shared cache, which may evict the file at any time but never a part of it.
//!
//! The file is compressed with gzip. It holds a line of JSON, which describes the result and gives the length of each of
//! its contents, followed by the contents.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Read, Seek as _, Write as _};

use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use stagewright_engine::RunId;

use crate::digest::{Digest, copy};
use crate::recorded_output;
use crate::store::{CachedResult, ResultStore};

/// Incremented when earlier versions can't read the format any more.
const FORMAT: u32 = 2;

/// The longest accepted line of JSON, in bytes.
const LARGEST_HEADER: u64 = 16 << 20;

/// The limit for all contents together, in bytes. A larger result isn't shared.
pub(crate) const LARGEST_TOTAL: u64 = 4 << 30;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct PackedHeader {
    format: u32,
    /// Includes the key, so that renaming a file in the shared cache doesn't turn it into the result of another stage.
    entry: CachedResult,
    /// The contents in the order in which they follow, each with its length in bytes.
    contents: Vec<(Digest, u64)>,
}

/// Packs a result into an unnamed temporary file, positioned at its start.
///
/// # Errors
/// When the result does not exist any more or is too large, or when the file can't be written.
pub(crate) fn pack(store: &ResultStore, key: &Digest) -> io::Result<File> {
    let entry = store.find(key).ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "it was removed meanwhile"))?;
    let contents: BTreeSet<Digest> = entry.content().collect();
    let contents = contents.into_iter().map(|digest| Ok((digest, store.blob(&digest).metadata()?.len())));
    let contents = contents.collect::<io::Result<Vec<_>>>()?;
    let header = serde_json::to_vec(&PackedHeader { format: FORMAT, entry, contents: contents.clone() })?;
    if sum(&contents).is_none() || header.len() as u64 >= LARGEST_HEADER {
        return Err(io::Error::other(format!("it is larger than {} GiB", LARGEST_TOTAL >> 30)));
    }
    // Results are packed while stages run, so compression should take little CPU time. The fastest level achieves three
    // quarters of the reduction that the slowest does.
    let mut packer = GzEncoder::new(BufWriter::new(tempfile::tempfile_in(store.root())?), Compression::fast());
    packer.write_all(&header)?;
    packer.write_all(b"\n")?;
    for (digest, size) in contents {
        let mut content = stagewright_files::open(&store.blob(&digest))?.take(size);
        if copy(&mut content, &mut packer)? != digest {
            return Err(damaged("its content has changed"));
        }
    }
    let mut file = packer.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.rewind()?;
    Ok(file)
}

/// Reads a packed result from `source` and adds it to the store.
///
/// # Errors
/// [`InvalidData`](io::ErrorKind::InvalidData) or [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) when the data isn't a
/// valid packed result of `key`; otherwise the error of the source or of the disk.
pub(crate) fn unpack(store: &ResultStore, key: &Digest, source: impl Read) -> io::Result<CachedResult> {
    let mut unpacker = BufReader::new(GzDecoder::new(BufReader::new(source)));
    let mut json = Vec::new();
    Read::by_ref(&mut unpacker).take(LARGEST_HEADER).read_until(b'\n', &mut json)?;
    let header: PackedHeader = serde_json::from_slice(&json).map_err(|error| damaged(&error.to_string()))?;
    let PackedHeader { format, entry, contents, .. } = &header;
    if *format != FORMAT || entry.key != *key {
        return Err(damaged("it is the result of another key"));
    }
    if !is_name(&entry.run) {
        return Err(damaged("the id of its run is invalid"));
    }
    let sizes: BTreeMap<Digest, u64> = contents.iter().copied().collect();
    let named: BTreeSet<Digest> = entry.content().collect();
    if sizes.len() != contents.len() || !sizes.keys().eq(&named) || sum(contents).is_none() {
        return Err(damaged("its list of contents doesn't match its files"));
    }
    if entry.said.is_some_and(|said| sizes[&said] > recorded_output::LARGEST) {
        return Err(damaged("its log is too large"));
    }
    for (digest, size) in contents {
        store.add_from(digest, &mut Read::by_ref(&mut unpacker).take(*size))?;
    }
    // Garbage collection takes this lock exclusively. The lock is acquired only now and not before the transfer, so that
    // a slow server doesn't block the collection. In exchange, the collection may have removed content that was added
    // above and that no result names yet, which is why it is checked again under the lock.
    let _shared = store.lock(File::lock_shared)?;
    if contents.iter().any(|(digest, _)| !store.blob(digest).is_file()) {
        return Err(io::Error::new(io::ErrorKind::NotFound, "its content was removed meanwhile"));
    }
    store.keep(entry)?;
    Ok(header.entry)
}

/// The sum of all lengths; none if it exceeds [`LARGEST_TOTAL`].
fn sum(contents: &[(Digest, u64)]) -> Option<u64> {
    contents.iter().try_fold(0_u64, |sum, (_, size)| sum.checked_add(*size)).filter(|sum| *sum <= LARGEST_TOTAL)
}

/// Whether the run's id is safe to show on a terminal. It comes from another machine.
fn is_name(run: &RunId) -> bool {
    let RunId(name) = run;
    (1..=100).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}
