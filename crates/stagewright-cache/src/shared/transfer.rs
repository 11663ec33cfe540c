//! Transfers packed results as streams of bytes. All functions block, and must not be called on async threads.

use std::fs::File;
use std::io::{self, Read};
use std::time::Duration;

use bytes::buf::Reader;
use bytes::{Buf as _, Bytes};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use object_store::path::Path as ObjectPath;
use object_store::{Error, MultipartUpload, ObjectStore, ObjectStoreExt as _};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout, timeout_at};

/// How long a response may take to begin, and the minimum time that is allowed for a transfer.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// The slowest transfer that is accepted, in bytes per second.
const SLOWEST: u64 = 1 << 20;

/// The size of a part in bytes. Larger files are sent in parts; S3 requires at least 5 MiB for each.
const PART: u64 = 8 << 20;

/// The largest file, in bytes, that is sent in one request to a server that doesn't support parts. It is held in memory.
const WHOLE: u64 = 256 << 20;

/// The body of a response.
pub(super) struct Incoming {
    stream: BoxStream<'static, object_store::Result<Bytes>>,
    chunk: Reader<Bytes>,
    /// When all of it must have been received.
    deadline: Instant,
    runtime: Handle,
}

impl Incoming {
    pub(super) fn new(
        stream: BoxStream<'static, object_store::Result<Bytes>>,
        deadline: Instant,
        runtime: Handle,
    ) -> Incoming {
        Incoming { stream, chunk: Bytes::new().reader(), deadline, runtime }
    }
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.get_ref().is_empty() {
            let next = self.runtime.block_on(timeout_at(self.deadline, self.stream.next()));
            match next.map_err(|_| slow())? {
                Some(chunk) => self.chunk = chunk.map_err(|error| failed(&error))?.reader(),
                None => return Ok(0),
            }
        }
        self.chunk.read(buffer)
    }
}

/// Sends a file to a path of the shared cache.
pub(super) fn send(objects: &dyn ObjectStore, place: &ObjectPath, file: File, runtime: &Handle) -> io::Result<()> {
    let size = file.metadata()?.len();
    runtime.block_on(timeout(allowance(size), upload(objects, place, file, size))).map_err(|_| slow())?
}

async fn upload(objects: &dyn ObjectStore, place: &ObjectPath, mut file: File, size: u64) -> io::Result<()> {
    if size > PART {
        match objects.put_multipart(place).await {
            Ok(parts) => return in_parts(parts, file).await,
            Err(Error::NotImplemented { .. }) if size <= WHOLE => {}
            Err(Error::NotImplemented { .. }) => {
                let text = format!("it is larger than {} MiB, and the server doesn't accept parts", WHOLE >> 20);
                return Err(io::Error::other(text));
            }
            Err(error) => return Err(failed(&error)),
        }
    }
    let mut content = Vec::new();
    file.read_to_end(&mut content)?;
    objects.put(place, content.into()).await.map(drop).map_err(|error| failed(&error))
}

async fn in_parts(mut parts: Box<dyn MultipartUpload>, mut file: File) -> io::Result<()> {
    let sent = async {
        loop {
            let mut part = Vec::new();
            Read::by_ref(&mut file).take(PART).read_to_end(&mut part)?;
            if part.is_empty() {
                return parts.complete().await.map(drop).map_err(|error| failed(&error));
            }
            parts.put_part(part.into()).await.map_err(|error| failed(&error))?;
        }
    };
    let sent = sent.await;
    if sent.is_err() {
        // If this fails as well, the server's own rules remove the incomplete upload.
        let _ = parts.abort().await;
    }
    sent
}

/// How long the transfer of so many bytes may take.
pub(super) fn allowance(bytes: u64) -> Duration {
    PATIENCE + Duration::from_secs(bytes / SLOWEST)
}

pub(super) fn slow() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "it is too slow")
}

pub(super) fn failed(error: &Error) -> io::Error {
    let text = error.to_string();
    // The library's message may have several lines, and end with a page of HTML.
    let line = text.lines().next().unwrap_or_default();
    io::Error::new(io::ErrorKind::ConnectionAborted, line.chars().take(300).collect::<String>())
}
