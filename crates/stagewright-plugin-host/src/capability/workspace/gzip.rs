//! Compresses a file (RFC 1952), on all processors.
//!
//! What comes out depends on the content alone: the file is cut at fixed places, and the parts are compressed apart from
//! each other. They are blocks of one stream, which every reader takes for what it is.

use std::io::{self, Read, Write};

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

/// Bytes of a part.
const PART: u64 = 1 << 20;
/// Parts that are in memory at a time, at most.
const PARTS: usize = 8;
/// Deflate, no name, no time, the fastest way, an unknown system: the same for every file.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255];

pub(super) fn gzip(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(PARTS);
    let mut check = Crc::new();
    to.write_all(&HEADER)?;
    loop {
        let parts = (0..threads).map(|_| part(from)).collect::<io::Result<Vec<_>>>()?;
        let done = std::thread::scope(|scope| {
            let started: Vec<_> = parts.iter().map(|part| scope.spawn(|| compressed(part))).collect();
            let broken_off = |_| Err(io::Error::other("compressing broke off"));
            started.into_iter().map(|part| part.join().unwrap_or_else(broken_off)).collect::<io::Result<Vec<_>>>()
        })?;
        for (blocks, own) in &done {
            to.write_all(blocks)?;
            check.combine(own);
        }
        if parts.last().is_none_or(|part| part.len() < PART as usize) {
            break;
        }
    }
    // A last block without content.
    to.write_all(&[3, 0])?;
    to.write_all(&check.sum().to_le_bytes())?;
    to.write_all(&check.amount().to_le_bytes())
}

/// Less than [`PART`] only at the end.
fn part(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut part = Vec::new();
    from.take(PART).read_to_end(&mut part)?;
    Ok(part)
}

/// Blocks that end with a whole byte.
fn compressed(part: &[u8]) -> io::Result<(Vec<u8>, Crc)> {
    let (mut blocks, mut check) = (Vec::with_capacity(part.len() / 2 + 1024), Crc::new());
    check.update(part);
    let mut compress = Compress::new(Compression::fast(), false);
    while !part.is_empty() {
        let rest = &part[usize::try_from(compress.total_in()).unwrap_or(part.len())..];
        let status = compress.compress_vec(rest, &mut blocks, FlushCompress::Sync).map_err(io::Error::other)?;
        // Room that is left over says that nothing more is to come.
        if status != Status::Ok || blocks.len() < blocks.capacity() && compress.total_in() == part.len() as u64 {
            break;
        }
        blocks.reserve(part.len() / 4 + 1024);
    }
    Ok((blocks, check))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zipped(content: &[u8]) -> Vec<u8> {
        let mut zipped = Vec::new();
        gzip(&mut &*content, &mut zipped).unwrap();
        zipped
    }

    #[test]
    fn what_was_compressed_is_read_by_others() {
        let mut random = 1_u32;
        let mut noise = || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            random.to_be_bytes()[0]
        };
        for size in [0, 1, 1000, (PART - 1) as usize, PART as usize, (PART + 1) as usize, 11 * PART as usize + 77] {
            for content in
                [vec![b'x'; size], (0..size).map(|_| noise()).collect(), (0..size).map(|at| at as u8).collect()]
            {
                let zipped = zipped(&content);
                let mut back = Vec::new();
                let mut reader = flate2::bufread::GzDecoder::new(&*zipped);
                reader.read_to_end(&mut back).unwrap();
                assert!(back == content && reader.into_inner().is_empty(), "{size} bytes, one member");
                assert_eq!(zipped[..10], HEADER);
                assert!(zipped.len() <= content.len() + content.len() / 1000 + 100, "{} of {size}", zipped.len());
            }
        }
    }
}
