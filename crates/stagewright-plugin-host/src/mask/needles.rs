//! Finds all spellings of all secrets.
//!
//! Line breaks are removed before the search, so that a secret that a tool wrapped is in one piece. The text is searched
//! as it is, and where it has escapes, once more with these resolved.
//!
//! The search looks at the end of a window as long as the shortest needle, and advances by as much as the bytes there
//! allow (Wu and Manber, 1994), so most of a log is never looked at. It is written here, and not taken from the crate
//! `aho-corasick`, for the number of needles: each secret has some 45 spellings, and each stage's log is searched for
//! the secrets of all stages. On 200 MB of a build's log, with the longest match of a DFA for comparison:
//!
//! | secrets | here | `aho-corasick` |
//! |---|---|---|
//! | 1 | 0.6 to 1.2 GB/s | 0.8 to 1.3 GB/s, in 1 MiB |
//! | 10 | 0.7 to 1.4 GB/s | 0.25 GB/s, in 12 MiB |
//! | 2, one of them of four bytes | 0.15 to 0.2 GB/s | 0.35 GB/s, in 1 MiB |
//!
//! The DFA's memory grows with the bytes of all spellings: a secret of 64 KiB, which is allowed, would take more than a
//! GiB.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use super::SHORTEST_MASKED;
use super::spelling::{Spellings, spellings};
use super::unescape::unescaped;

/// Bytes at the end of the window that tell how far it moves.
const BLOCK: usize = 3;

/// Bits of a block's hash: the table fits into a processor's nearest cache.
const HASH_BITS: u32 = 14;

/// The first bytes of a needle, by which it is looked up.
type Head = [u8; SHORTEST_MASKED];

/// What is looked for.
#[derive(Debug, Default)]
pub(super) struct Needles {
    /// In the text as it is.
    pub(super) plain: Set,
    /// In the text with its escapes resolved.
    pub(super) unescaped: Set,
}

impl Needles {
    pub(super) fn new<'a>(secrets: impl Iterator<Item = &'a str>) -> Needles {
        let (mut plain, mut resolved) = (BTreeSet::new(), BTreeSet::new());
        for Spellings { texts, numbers } in secrets.map(spellings) {
            let needles = texts.iter().map(|text| unescaped(text));
            resolved.extend(needles.filter(|needle| needle.len() >= SHORTEST_MASKED));
            plain.extend(texts);
            plain.extend(numbers);
        }
        Needles { plain: Set::new(plain), unescaped: Set::new(resolved) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.plain.needles.is_empty()
    }
}

/// Texts that are looked for together.
#[derive(Default)]
pub(super) struct Set {
    /// Sorted: those that begin alike are neighbours.
    needles: Vec<Vec<u8>>,
    heads: HashMap<Head, Range<usize>>,
    /// By hash of the block that ends the window: how far it is from there to the next place where a needle may begin.
    shifts: Vec<u8>,
    /// Bytes of the shortest needle, as far as a shift can count them.
    window: usize,
    /// Bytes.
    longest: usize,
}

impl std::fmt::Debug for Set {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Set(…)")
    }
}

impl Set {
    fn new(needles: BTreeSet<Vec<u8>>) -> Set {
        let needles = Vec::from_iter(needles);
        let lengths = || needles.iter().map(Vec::len);
        let (Some(shortest), Some(longest)) = (lengths().min(), lengths().max()) else { return Set::default() };
        let window = shortest.min(usize::from(u8::MAX));
        let mut heads: HashMap<Head, Range<usize>> = HashMap::new();
        let mut shifts = vec![u8::try_from(window - BLOCK + 1).unwrap_or(u8::MAX); 1 << HASH_BITS];
        for (index, needle) in needles.iter().enumerate() {
            if let Some(head) = needle.first_chunk() {
                heads.entry(*head).or_insert(index..index).end = index + 1;
            }
            for (at, block) in needle[..window].windows(BLOCK).enumerate() {
                let shift = &mut shifts[hash(block)];
                *shift = (*shift).min(u8::try_from(window - BLOCK - at).unwrap_or(u8::MAX));
            }
        }
        Set { needles, heads, shifts, window, longest }
    }

    /// All that is found in `text`: where it begins, and its bytes; by beginning.
    pub(super) fn find(&self, text: &[u8]) -> impl Iterator<Item = (usize, usize)> {
        self.places(text).flat_map(move |at| {
            let rest = &text[at..];
            let alike = rest.first_chunk().and_then(|head| self.heads.get(head)).cloned().unwrap_or_default();
            let whole = self.needles[alike].iter().filter(move |needle| rest.starts_with(needle));
            whole.map(move |needle| (at, needle.len()))
        })
    }

    /// Where a needle may begin.
    fn places(&self, text: &[u8]) -> impl Iterator<Item = usize> {
        let (mut at, farthest) = (0, (self.window + 1).saturating_sub(BLOCK));
        std::iter::from_fn(move || {
            while let Some(window) = text.get(at..at + self.window).filter(|_| !self.needles.is_empty()) {
                match usize::from(self.shifts[hash(&window[self.window - BLOCK..])]) {
                    0 => {
                        at += 1;
                        return Some(at - 1);
                    }
                    // Mostly; told apart so that the processor can go on before it has looked the shift up.
                    shift if shift == farthest => at += farthest,
                    shift => at += shift,
                }
            }
            None
        })
    }

    /// How many bytes at the end of `text` are the beginning of a needle that isn't whole yet.
    pub(super) fn pending(&self, text: &[u8]) -> usize {
        let first = (text.len() + 1).saturating_sub(self.longest);
        let begins = |rest: &[u8]| match rest.first_chunk() {
            Some(head) => self.heads.get(head).is_some_and(|alike| begins(&self.needles[alike.clone()], rest)),
            None => begins(&self.needles, rest),
        };
        (first..text.len()).find(|&at| begins(&text[at..])).map_or(0, |at| text.len() - at)
    }
}

/// Whether one of the needles, which are sorted, begins with `text` and goes on.
fn begins(needles: &[Vec<u8>], text: &[u8]) -> bool {
    let next = needles.partition_point(|needle| needle.as_slice() <= text);
    needles.get(next).is_some_and(|needle| needle.starts_with(text))
}

/// Of [`BLOCK`] bytes (multiplicative hashing by the golden ratio).
fn hash(block: &[u8]) -> usize {
    let number = block.iter().fold(0, |number: u32, &byte| number << 8 | u32::from(byte));
    (number.wrapping_mul(0x9E37_79B9) >> (u32::BITS - HASH_BITS)) as usize
}
