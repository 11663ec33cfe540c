//! Forwards the output of children to the log and to the guest.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use stagewright_process::{Child, ExitStatus, Source};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::denial::OutputTail;
use crate::log::{AttemptLog, LogLineWriter};
use crate::mask::{Audience, MaskStream};

/// The most captured bytes of a child that may wait for the guest.
pub(super) const UNREAD: u32 = 1 << 20;

/// A part of the captured output.
pub(super) type Chunk = (Source, Vec<u8>);

/// Captured output on its way to the guest.
#[derive(Debug)]
pub(super) struct Captured {
    receiver: mpsc::UnboundedReceiver<Chunk>,
    /// A chunk that was received in order to know that there is one.
    next: Option<Chunk>,
}

impl Captured {
    pub(super) fn new(receiver: mpsc::UnboundedReceiver<Chunk>) -> Arc<Mutex<Captured>> {
        Arc::new(Mutex::new(Captured { receiver, next: None }))
    }

    /// Whether [`Captured::take`] is ready: there is a chunk, or there will be none any more. The chunk isn't taken.
    pub(super) fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.next.is_none() {
            self.next = ready!(self.receiver.poll_recv(context));
        }
        Poll::Ready(())
    }

    /// The next chunk; none at the end.
    pub(super) fn take(&mut self, context: &mut Context<'_>) -> Poll<Option<Chunk>> {
        self.poll_ready(context).map(|()| self.next.take())
    }
}

/// How a child ended.
#[derive(Clone, Debug)]
pub(super) enum ChildEnd {
    Exited(ExitStatus),
    TimedOut(Duration),
    Lost(String),
}

/// How many more of [`UNREAD`] bytes may wait for the guest. While there are none, the child's output isn't read, and the
/// child blocks on its pipe until the guest reads. Closing it lifts the bound: that happens when the guest won't read any
/// more, or waits for the child's end, because a child that blocks on its pipe would never end.
pub(super) type Room = Arc<Semaphore>;

/// Forwards output to the guest, up to a number of bytes, and masks the secrets that the guest may not read.
pub(super) struct OutputCapture {
    sender: mpsc::UnboundedSender<Chunk>,
    unread: Room,
    masks: [MaskStream; 2],
    limit: u64,
    room: u64,
    overflow: watch::Sender<Option<u64>>,
}

impl OutputCapture {
    /// The queue itself is unbounded: what waits in it is bounded by `unread`, and by `limit` once that is closed.
    pub(super) fn new(
        limit: u64,
        log: &AttemptLog,
        unread: Room,
        overflow: watch::Sender<Option<u64>>,
    ) -> (OutputCapture, Arc<Mutex<Captured>>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let masks = [(); 2].map(|()| MaskStream::new(log.masker().clone(), Audience::Guest));
        (OutputCapture { sender, unread, masks, limit, room: limit, overflow }, Captured::new(receiver))
    }

    async fn push(&mut self, source: Source, data: &[u8]) {
        let mut masked = Vec::new();
        self.masks[index(source)].push(data, &mut masked);
        self.send(source, masked).await;
    }

    async fn finish(&mut self) {
        for source in [Source::Stdout, Source::Stderr] {
            let mut rest = Vec::new();
            self.masks[index(source)].finish(&mut rest);
            self.send(source, rest).await;
        }
    }

    async fn send(&mut self, source: Source, mut data: Vec<u8>) {
        if let Some(room) = usize::try_from(self.room).ok().filter(|room| data.len() > *room) {
            data.truncate(room);
            self.overflow.send_replace(Some(self.limit));
        }
        self.room -= data.len() as u64;
        if !data.is_empty() {
            if let Ok(room) = self.unread.acquire_many(permits(&data)).await {
                room.forget();
            }
            // This fails when the guest has dropped the child.
            let _ = self.sender.send((source, data));
        }
    }
}

/// The permits of [`Room`] that a chunk takes.
pub(super) fn permits(data: &[u8]) -> u32 {
    u32::try_from(data.len()).unwrap_or(UNREAD).min(UNREAD)
}

fn index(source: Source) -> usize {
    match source {
        Source::Stdout => 0,
        Source::Stderr => 1,
    }
}

/// Forwards a child's output to the log (`lines`: standard output and standard error) and to the guest until the child
/// ends, and returns how it ended. Keeps the end of both streams in `tails`. Kills the child's group at the deadline.
pub(super) async fn carry(
    mut child: Child,
    deadline: Option<(Instant, Duration)>,
    mut lines: Option<(LogLineWriter, LogLineWriter)>,
    mut capture: Option<OutputCapture>,
    tails: &mut [OutputTail; 2],
) -> ChildEnd {
    let group = child.group();
    let expiry = async {
        match deadline {
            Some((moment, _)) => sleep_until(moment).await,
            None => std::future::pending().await,
        }
    };
    let mut expiry = std::pin::pin!(expiry);
    let mut expired = false;
    let status = loop {
        let chunk = tokio::select! {
            chunk = child.next_chunk() => chunk,
            () = &mut expiry, if !expired => {
                expired = true;
                group.kill();
                continue;
            }
        };
        let Some((source, data)) = chunk else {
            // A process can close both streams before it ends.
            tokio::select! {
                status = child.wait() => break status,
                () = &mut expiry, if !expired => {
                    expired = true;
                    group.kill();
                    break child.wait().await;
                }
            }
        };
        tails[index(source)].push(&data);
        // Forwarding a chunk can block for long, on a log that is behind or a guest that doesn't read. The deadline must be
        // enforced meanwhile, but the chunk isn't dropped for it: what the child printed before it was killed is often the
        // only hint at why it took so long.
        let mut taken = std::pin::pin!(async {
            match (&mut lines, source) {
                (Some((stdout, _)), Source::Stdout) => stdout.push(&data).await,
                (Some((_, stderr)), Source::Stderr) => stderr.push(&data).await,
                (None, _) => {}
            }
            if let Some(capture) = &mut capture {
                capture.push(source, &data).await;
            }
        });
        tokio::select! {
            biased;
            () = &mut taken => {}
            () = &mut expiry, if !expired => {
                expired = true;
                group.kill();
                taken.await;
            }
        }
    };
    if let Some(capture) = &mut capture {
        capture.finish().await;
    }
    if let Some((stdout, stderr)) = &mut lines {
        stdout.finish().await;
        stderr.finish().await;
    }
    match (status, deadline) {
        (Ok(_), Some((_, limit))) if expired => ChildEnd::TimedOut(limit),
        (Ok(status), _) => ChildEnd::Exited(status),
        (Err(error), _) => ChildEnd::Lost(error.to_string()),
    }
}
