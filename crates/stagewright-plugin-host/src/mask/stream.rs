//! Replaces secrets in a stream.

use std::sync::Arc;

use memchr::{memchr2_iter, memrchr};

use super::needles::Needles;
use super::spelling::{PASSED_OVER, is_break, passed_over};
use super::unescape::{Unescaped, has_escapes};
use super::{Audience, Masker, WRAPPED};

/// Replaces a secret, on each line that it spans.
const MASK: &[u8] = b"***";

/// Masks a stream that arrives in chunks, including secrets that are split between them.
#[derive(Debug)]
pub(crate) struct MaskStream {
    masker: Masker,
    audience: Audience,
    needles: Option<Arc<Needles>>,
    /// The end of the input so far that could be the beginning of a secret.
    held: Vec<u8>,
    /// The bytes before `held` that could belong to that beginning too, but were already emitted with the end of a line.
    shown: Vec<u8>,
    /// The ranges of `held` that belong to a secret.
    found: Vec<(usize, usize)>,
    /// Whether the mask of a secret that began before `held` has been emitted.
    is_masked: bool,
    searched: Squeezed,
}

impl MaskStream {
    pub(crate) fn new(masker: Masker, audience: Audience) -> MaskStream {
        MaskStream {
            masker,
            audience,
            needles: None,
            held: Vec::new(),
            shown: Vec::new(),
            found: Vec::new(),
            is_masked: false,
            searched: Squeezed::default(),
        }
    }

    /// Takes `data`, and appends to `into` everything that can't be the beginning of a secret any more.
    pub(crate) fn push(&mut self, data: &[u8], into: &mut Vec<u8>) {
        let needles = self.masker.needles(self.audience);
        if needles.is_empty() {
            // The secrets for which bytes were held have been revealed to the guest since.
            self.show(self.held.len(), into);
            into.extend_from_slice(data);
            return;
        }
        if self.needles.as_ref().is_none_or(|before| !Arc::ptr_eq(before, &needles)) {
            // A secret was added since the last chunk. `shown` has just the bytes that the earlier needles could need, which
            // may be too few for the new ones, so the search starts with what is still held.
            self.shown.clear();
        }
        self.held.extend_from_slice(data);
        self.searched.fill(&self.shown, &self.held);
        let found = self.searched.find(&needles);
        if !found.is_empty() {
            self.found = union(std::mem::take(&mut self.found), found);
        }
        let pending = self.searched.pending(&needles);
        let mut ready = self.searched.place(self.searched.text.len() - pending);
        // Complete lines are emitted at once, so that a log follows its program. A line can end with the beginning of a
        // secret that is wrapped to the next line, so the line would have to be held for every needle that begins like its
        // last bytes. The compromise: up to `WRAPPED` bytes of a possible secret are emitted with their line. They are kept
        // in `shown`, so that the rest of the secret is still found, and masked, on the lines after it.
        if pending < WRAPPED
            && let Some(end) = memrchr(b'\n', &self.held[ready..])
        {
            ready += end + 1;
        }
        self.shown.clear();
        self.shown.extend_from_slice(self.searched.between(pending, &self.held[ready..]));
        self.needles = Some(needles);
        self.show(ready, into);
    }

    /// Appends the rest, at the end of the stream.
    pub(crate) fn finish(&mut self, into: &mut Vec<u8>) {
        self.show(self.held.len(), into);
        self.shown.clear();
        self.is_masked = false;
    }

    fn show(&mut self, ready: usize, into: &mut Vec<u8>) {
        if ready == 0 {
            // The mask that was emitted also stands for the bytes that are held.
            return;
        }
        let (mut at, mut later) = (0, Vec::new());
        let mut is_masked = false;
        for (start, end) in std::mem::take(&mut self.found) {
            if start >= ready {
                later.push((start - ready, end - ready));
                continue;
            }
            into.extend_from_slice(&self.held[at..start]);
            at = end.min(ready);
            is_masked = start == 0 && self.is_masked;
            for &byte in &self.held[start..at] {
                if is_break(byte) {
                    into.push(byte);
                } else if !is_masked {
                    into.extend_from_slice(MASK);
                }
                is_masked = !is_break(byte);
            }
            if end > ready {
                later.push((0, end - ready));
            } else {
                is_masked = false;
            }
        }
        into.extend_from_slice(&self.held[at..ready]);
        self.held.drain(..ready);
        (self.found, self.is_masked) = (later, is_masked);
    }
}

/// The searched form of a text: without the line breaks and invisible characters that may split a secret.
#[derive(Debug, Default)]
struct Squeezed {
    text: Vec<u8>,
    /// The length of the prefix of `text` that was emitted earlier.
    before: usize,
    /// For each byte that was left out, the number of bytes of `text` before it; ascending.
    gaps: Vec<usize>,
    /// The same for the bytes that were left out and are not line breaks.
    joints: Vec<usize>,
    /// The text with its escapes resolved; empty when it has none.
    unescaped: Unescaped,
    has_escapes: bool,
}

impl Squeezed {
    fn fill(&mut self, before: &[u8], text: &[u8]) {
        self.text.clear();
        self.gaps.clear();
        self.joints.clear();
        self.text.extend_from_slice(before);
        self.before = before.len();
        let (mut from, is_ascii) = (0, text.is_ascii());
        for at in memchr2_iter(b'\n', b'\r', text) {
            match is_ascii {
                true => self.text.extend_from_slice(&text[from..at]),
                false => self.squeeze(&text[from..at], false),
            }
            self.gaps.push(self.text.len());
            from = at + 1;
        }
        self.squeeze(&text[from..], true);
        self.has_escapes = has_escapes(&self.text);
        if self.has_escapes {
            self.unescaped.fill(&self.text);
        }
    }

    /// Appends a part of the text without line breaks. With `is_last`, an incomplete character at its end that may turn out
    /// to be an invisible one is left out, and stays held until the rest of it arrives.
    fn squeeze(&mut self, text: &[u8], is_last: bool) {
        let mut from = 0;
        for at in memchr2_iter(PASSED_OVER[0], PASSED_OVER[1], text) {
            match passed_over(&text[at..]) {
                Some(0) => {}
                Some(length) => {
                    self.text.extend_from_slice(&text[from..at]);
                    let here = std::iter::repeat_n(self.text.len(), length);
                    self.gaps.extend(here.clone());
                    self.joints.extend(here);
                    from = at + length;
                }
                None if is_last => return self.text.extend_from_slice(&text[from..at]),
                None => {}
            }
        }
        self.text.extend_from_slice(&text[from..]);
    }

    /// The ranges of secrets in the original text, sorted and disjoint.
    fn find(&self, needles: &Needles) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        for (start, length) in needles.plain.find(&self.text) {
            self.take((start, start + length), length, &mut found);
        }
        if !self.has_escapes {
            return found;
        }
        let mut resolved = Vec::new();
        for (start, length) in needles.unescaped.find(&self.unescaped.text) {
            if let Some(range) = self.unescaped.original(start, length) {
                self.take(range, length, &mut resolved);
            }
        }
        if resolved.is_empty() { found } else { union(found, resolved) }
    }

    /// Adds the range of `text` that matches a needle of `length` bytes, unless it spans lines and is too short for that.
    fn take(&self, (start, end): (usize, usize), length: usize, found: &mut Vec<(usize, usize)>) {
        let last = end - 1;
        let breaks_until = |at: usize| self.gaps_until(at) - self.joints.partition_point(|&before| before <= at);
        let is_wrapped = start < self.before || breaks_until(start) != breaks_until(last);
        if (length >= WRAPPED || !is_wrapped) && last >= self.before {
            add(found, (self.place(start), self.place(last) + 1));
        }
    }

    /// The number of bytes at the end that may be the beginning of a needle.
    fn pending(&self, needles: &Needles) -> usize {
        let plain = needles.plain.pending(&self.text);
        let unescaped = match self.has_escapes {
            true => self.unescaped.pending(needles.unescaped.pending(&self.unescaped.text), self.text.len()),
            // Without escapes, both searches see the same text.
            false => needles.unescaped.pending(&self.text),
        };
        plain.max(unescaped)
    }

    /// The position in the original text of the byte at `at` of `text`; 0 for a byte that was emitted earlier.
    fn place(&self, at: usize) -> usize {
        at.checked_sub(self.before).map_or(0, |within| within + self.gaps_until(at))
    }

    /// The number of bytes that were left out before the byte at `at` of `text`.
    fn gaps_until(&self, at: usize) -> usize {
        self.gaps.partition_point(|&before| before <= at)
    }

    /// The last `count` bytes of `text`, except for those that belong to `rest`, the end of the original text.
    fn between(&self, count: usize, rest: &[u8]) -> &[u8] {
        let end = self.text.len() - squeezed_length(rest);
        &self.text[(self.text.len() - count).min(end)..end]
    }
}

/// The length of `text` without the bytes that a search leaves out.
fn squeezed_length(text: &[u8]) -> usize {
    let (mut at, mut count) = (0, 0);
    while let Some(length) = text.get(at..).filter(|rest| !rest.is_empty()).and_then(passed_over) {
        count += usize::from(length == 0);
        at += length.max(1);
    }
    count
}

/// Appends a range, and merges it with the last one if they overlap. Ranges must be added in the order of their starts.
fn add(found: &mut Vec<(usize, usize)>, next: (usize, usize)) {
    match found.last_mut() {
        Some(before) if next.0 < before.1 => before.1 = before.1.max(next.1),
        _ => found.push(next),
    }
}

fn union(some: Vec<(usize, usize)>, others: Vec<(usize, usize)>) -> Vec<(usize, usize)> {
    let mut all = [some, others].concat();
    all.sort_unstable();
    let mut united = Vec::with_capacity(all.len());
    all.into_iter().for_each(|range| add(&mut united, range));
    united
}
