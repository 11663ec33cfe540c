//! Replaces what was found.

use std::sync::Arc;

use memchr::{memchr2_iter, memrchr};

use super::needles::Needles;
use super::spelling::{PASSED_OVER, is_break, passed_over};
use super::unescape::{Unescaped, has_escapes};
use super::{Masker, Reader, WRAPPED};

/// What stands where a secret stood, on each line that it stood on.
const MASK: &[u8] = b"***";

/// Masks a stream that comes in pieces, secrets that are cut in two included.
#[derive(Debug)]
pub(crate) struct MaskStream {
    masker: Masker,
    reader: Reader,
    needles: Option<Arc<Needles>>,
    /// The end of what was pushed, as far as it could be the beginning of a secret.
    held: Vec<u8>,
    /// The bytes before `held` that could be, too, and were shown with the line that they ended.
    shown: Vec<u8>,
    /// What of `held` is part of a secret.
    found: Vec<(usize, usize)>,
    /// Whether the mask of a secret that began before `held` has been shown.
    is_masked: bool,
    searched: Squeezed,
}

impl MaskStream {
    pub(crate) fn new(masker: Masker, reader: Reader) -> MaskStream {
        MaskStream {
            masker,
            reader,
            needles: None,
            held: Vec::new(),
            shown: Vec::new(),
            found: Vec::new(),
            is_masked: false,
            searched: Squeezed::default(),
        }
    }

    /// Adds to `into` what can be shown once `data` is known too.
    pub(crate) fn push(&mut self, data: &[u8], into: &mut Vec<u8>) {
        let needles = self.masker.needles(self.reader);
        if needles.is_empty() {
            // What was held back was revealed to the guest since.
            self.show(self.held.len(), into);
            into.extend_from_slice(data);
            return;
        }
        if self.needles.as_ref().is_none_or(|before| !Arc::ptr_eq(before, &needles)) {
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
        // A line's end is shown as soon as it is there, unless a good deal of a secret is in it.
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

    /// Adds the rest: nothing more will come.
    pub(crate) fn finish(&mut self, into: &mut Vec<u8>) {
        self.show(self.held.len(), into);
        self.shown.clear();
        self.is_masked = false;
    }

    fn show(&mut self, ready: usize, into: &mut Vec<u8>) {
        if ready == 0 {
            // The mask that was shown stands for what is still held.
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

/// A text without what a search passes over, such as line breaks: what is searched.
#[derive(Debug, Default)]
struct Squeezed {
    text: Vec<u8>,
    /// How much of it is not of the text at hand, but from before.
    before: usize,
    /// For each byte that is passed over, how many bytes of `text` are before it.
    gaps: Vec<usize>,
    /// The same for those that end no line.
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

    /// Takes in a part of the text that ends no line. What may be passed over, and isn't whole at the end of `text`, is
    /// left out: it is held until more has come.
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

    /// Ranges of the text at hand, in order and apart from each other.
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

    /// Adds the range of `text` that holds a needle of `length` bytes, unless that is too short to be looked for there.
    fn take(&self, (start, end): (usize, usize), length: usize, found: &mut Vec<(usize, usize)>) {
        let last = end - 1;
        let breaks_until = |at: usize| self.gaps_until(at) - self.joints.partition_point(|&before| before <= at);
        let is_wrapped = start < self.before || breaks_until(start) != breaks_until(last);
        if (length >= WRAPPED || !is_wrapped) && last >= self.before {
            add(found, (self.place(start), self.place(last) + 1));
        }
    }

    /// How many bytes at the end may be the beginning of something that is looked for.
    fn pending(&self, needles: &Needles) -> usize {
        let plain = needles.plain.pending(&self.text);
        let unescaped = match self.has_escapes {
            true => self.unescaped.pending(needles.unescaped.pending(&self.unescaped.text), self.text.len()),
            // It is the same text.
            false => needles.unescaped.pending(&self.text),
        };
        plain.max(unescaped)
    }

    /// Where in the text at hand the byte is that `text` has at `at`; its beginning for one from before.
    fn place(&self, at: usize) -> usize {
        at.checked_sub(self.before).map_or(0, |within| within + self.gaps_until(at))
    }

    /// How many bytes are passed over before the byte that `text` has at `at`.
    fn gaps_until(&self, at: usize) -> usize {
        self.gaps.partition_point(|&before| before <= at)
    }

    /// The last `count` bytes without those that `rest` ends with, too.
    fn between(&self, count: usize, rest: &[u8]) -> &[u8] {
        let end = self.text.len() - squeezed_length(rest);
        &self.text[(self.text.len() - count).min(end)..end]
    }
}

/// How many bytes of `text` are not passed over.
fn squeezed_length(text: &[u8]) -> usize {
    let (mut at, mut count) = (0, 0);
    while let Some(length) = text.get(at..).filter(|rest| !rest.is_empty()).and_then(passed_over) {
        count += usize::from(length == 0);
        at += length.max(1);
    }
    count
}

/// Ranges come by their beginnings; what overlaps becomes one.
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
