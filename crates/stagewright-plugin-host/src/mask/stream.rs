//! Replaces what was found.

use std::sync::Arc;

use super::needles::{Needles, Place};
use super::spelling::is_break;
use super::{Masker, Reader};

/// What stands where a secret stood, on each line that it stood on.
const MASK: &[u8] = b"***";

/// Masks a stream that comes in pieces, secrets that are cut in two included.
#[derive(Debug)]
pub(crate) struct MaskStream {
    masker: Masker,
    reader: Reader,
    needles: Option<Arc<Needles>>,
    place: Place,
    /// The end of what was pushed, as far as it could be the beginning of a secret.
    held: Vec<u8>,
    /// What of it is part of a secret.
    found: Vec<(usize, usize)>,
    /// Whether the mask of a secret that began before `held` has been shown.
    is_masked: bool,
}

impl MaskStream {
    pub(crate) fn new(masker: Masker, reader: Reader) -> MaskStream {
        MaskStream {
            masker,
            reader,
            needles: None,
            place: Place::default(),
            held: Vec::new(),
            found: Vec::new(),
            is_masked: false,
        }
    }

    /// What can be shown once `data` is known too.
    pub(crate) fn push(&mut self, data: &[u8]) -> Vec<u8> {
        let needles = self.masker.needles(self.reader);
        if needles.is_empty() {
            // Nothing was ever held back: secrets are added, never taken away.
            return data.to_vec();
        }
        let mut from = self.held.len();
        self.held.extend_from_slice(data);
        let before = if self.needles.as_ref().is_none_or(|before| !Arc::ptr_eq(before, &needles)) {
            (from, self.place) = (0, Place::default());
            std::mem::take(&mut self.found)
        } else {
            Vec::new()
        };
        needles.find(&self.held, from, &mut self.place, &mut self.found);
        if !before.is_empty() {
            self.found = union(before, std::mem::take(&mut self.found));
        }
        let ready = needles.pending(&self.held, &self.place);
        self.needles = Some(needles);
        self.show(ready)
    }

    /// The rest: nothing more will come.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        let shown = self.show(self.held.len());
        (self.place, self.is_masked) = (Place::default(), false);
        shown
    }

    fn show(&mut self, ready: usize) -> Vec<u8> {
        if ready == 0 {
            // The mask that was shown stands for what is still held.
            return Vec::new();
        }
        let mut shown = Vec::with_capacity(ready);
        let (mut at, mut later) = (0, Vec::new());
        let mut is_masked = false;
        for (start, end) in std::mem::take(&mut self.found) {
            if start >= ready {
                later.push((start - ready, end - ready));
                continue;
            }
            shown.extend_from_slice(&self.held[at..start]);
            at = end.min(ready);
            is_masked = start == 0 && self.is_masked;
            for &byte in &self.held[start..at] {
                if is_break(byte) {
                    shown.push(byte);
                } else if !is_masked {
                    shown.extend_from_slice(MASK);
                }
                is_masked = !is_break(byte);
            }
            if end > ready {
                later.push((0, end - ready));
            } else {
                is_masked = false;
            }
        }
        shown.extend_from_slice(&self.held[at..ready]);
        self.held.drain(..ready);
        self.place.forget(ready);
        (self.found, self.is_masked) = (later, is_masked);
        shown
    }
}

fn union(some: Vec<(usize, usize)>, others: Vec<(usize, usize)>) -> Vec<(usize, usize)> {
    let mut all = [some, others].concat();
    all.sort_unstable();
    all.dedup_by(|next, before| {
        let overlaps = next.0 < before.1;
        if overlaps {
            before.1 = before.1.max(next.1);
        }
        overlaps
    });
    all
}
