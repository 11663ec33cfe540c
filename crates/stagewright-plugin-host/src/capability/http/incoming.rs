//! The body of a response as it arrives.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;

use crate::mask::{Audience, MaskStream, Masker};

/// A body, masked. What a guest has waited for and not yet read is kept.
pub(super) struct IncomingBody {
    stream: BoxStream<'static, reqwest::Result<Vec<u8>>>,
    mask: MaskStream,
    /// What [`IncomingBody::poll_next`] returns next; none if it has to wait.
    next: Option<reqwest::Result<Vec<u8>>>,
    ended: bool,
}

impl IncomingBody {
    pub(super) fn new(
        stream: BoxStream<'static, reqwest::Result<Vec<u8>>>,
        masker: &Masker,
    ) -> Arc<Mutex<IncomingBody>> {
        let mask = MaskStream::new(masker.clone(), Audience::Guest);
        Arc::new(Mutex::new(IncomingBody { stream, mask, next: None, ended: false }))
    }

    /// Whether [`IncomingBody::poll_next`] is ready. Nothing is taken.
    pub(super) fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.next.is_none() && !self.ended {
            let mut data = Vec::new();
            match ready!(self.stream.poll_next_unpin(context)) {
                Some(Ok(piece)) => self.mask.push(&piece, &mut data),
                Some(Err(error)) => {
                    self.next = Some(Err(error));
                    return Poll::Ready(());
                }
                None => {
                    self.ended = true;
                    self.mask.finish(&mut data);
                }
            }
            // Masking can hold a piece back until it knows whether a secret begins in it.
            self.next = (!data.is_empty()).then_some(Ok(data));
        }
        Poll::Ready(())
    }

    /// The next part; none at the end of the body.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<reqwest::Result<Vec<u8>>>> {
        self.poll_ready(context).map(|()| self.next.take())
    }

    /// Puts the rest of a part back, which comes next.
    pub(super) fn put_back(&mut self, rest: Vec<u8>) {
        self.next = Some(Ok(rest));
    }
}
