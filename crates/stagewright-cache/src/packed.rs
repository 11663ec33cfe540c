//! A result as one file, for others to take: whatever keeps it may forget it at any time, but never a part of it.
//!
//! Compressed with gzip: a line of JSON that says what the result is and how long each of its contents is, then the
//! contents.

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

/// Raised when earlier programs can't read it any more.
const FORMAT: u32 = 2;

/// The longest line of JSON, bytes.
const LARGEST_HEADER: u64 = 16 << 20;

/// All contents together, bytes. What is larger stays on its machine.
pub(crate) const LARGEST_TOTAL: u64 = 4 << 30;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct PackedHeader {
    format: u32,
    /// With its key: whoever renames a file makes no other result of it.
    entry: CachedResult,
    /// In the order in which they follow, each with its length.
    contents: Vec<(Digest, u64)>,
}

/// Packs a result into a file without a name, which stands at its beginning.
///
/// # Errors
/// When it isn't there any more, when it is too large, or when the disk refuses.
pub(crate) fn pack(store: &ResultStore, key: &Digest) -> io::Result<File> {
    let entry = store.find(key).ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "it is not there any more"))?;
    let contents: BTreeSet<Digest> = entry.content().collect();
    let contents = contents.into_iter().map(|digest| Ok((digest, store.blob(&digest).metadata()?.len())));
    let contents = contents.collect::<io::Result<Vec<_>>>()?;
    let header = serde_json::to_vec(&PackedHeader { format: FORMAT, entry, contents: contents.clone() })?;
    if sum(&contents).is_none() || header.len() as u64 >= LARGEST_HEADER {
        return Err(io::Error::other(format!("it is larger than {} GiB", LARGEST_TOTAL >> 30)));
    }
    // Results are sent while other work goes on: the fastest level is three quarters of the gain.
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

/// Puts a result into the store as it comes in.
///
/// # Errors
/// [`InvalidData`](io::ErrorKind::InvalidData) and [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) when what comes in is
/// no such result; else what the source or the disk says.
pub(crate) fn unpack(store: &ResultStore, key: &Digest, source: impl Read) -> io::Result<CachedResult> {
    let mut unpacker = BufReader::new(GzDecoder::new(BufReader::new(source)));
    let mut json = Vec::new();
    Read::by_ref(&mut unpacker).take(LARGEST_HEADER).read_until(b'\n', &mut json)?;
    let header: PackedHeader = serde_json::from_slice(&json).map_err(|error| damaged(&error.to_string()))?;
    let PackedHeader { format, entry, contents, .. } = &header;
    if *format != FORMAT || entry.key != *key {
        return Err(damaged("it is another result"));
    }
    if !is_name(&entry.run) {
        return Err(damaged("its run has no name that can be shown"));
    }
    let sizes: BTreeMap<Digest, u64> = contents.iter().copied().collect();
    let named: BTreeSet<Digest> = entry.content().collect();
    if sizes.len() != contents.len() || !sizes.keys().eq(&named) || sum(contents).is_none() {
        return Err(damaged("its contents are not what it says"));
    }
    if entry.said.is_some_and(|said| sizes[&said] > recorded_output::LARGEST) {
        return Err(damaged("it says too much"));
    }
    for (digest, size) in contents {
        store.add_from(digest, &mut Read::by_ref(&mut unpacker).take(*size))?;
    }
    // Whoever removes content that no result names waits for this, and not for what comes in.
    let _shared = store.lock(File::lock_shared)?;
    if contents.iter().any(|(digest, _)| !store.blob(digest).is_file()) {
        return Err(io::Error::new(io::ErrorKind::NotFound, "its content was removed meanwhile"));
    }
    store.keep(entry)?;
    Ok(header.entry)
}

/// None when it is more than there may be.
fn sum(contents: &[(Digest, u64)]) -> Option<u64> {
    contents.iter().try_fold(0_u64, |sum, (_, size)| sum.checked_add(*size)).filter(|sum| *sum <= LARGEST_TOTAL)
}

/// It is shown, and names a folder of another machine.
fn is_name(run: &RunId) -> bool {
    let RunId(name) = run;
    (1..=100).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}
