//! Keeps the values of secrets out of what people and guests read.
//!
//! A backstop, not a boundary: a program that was handed a secret can always encode it in a way that is not known here.
//! Known are the plain value, each line of a value that has several, base64 (standard and URL-safe, without regard to
//! padding) and percent-encoding.

use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// What stands where a secret stood.
const MASK: &[u8] = b"***";
/// Shorter values are found by chance in any text: masking them would destroy logs and hide nothing.
const SHORTEST: usize = 4;

/// The secrets that an attempt has got hold of; shared between all that it writes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Masker {
    needles: Arc<RwLock<Vec<Needle>>>,
}

#[derive(Clone, PartialEq, Eq)]
struct Needle {
    bytes: Vec<u8>,
    /// The guest may read it, so that only people are kept from seeing it.
    revealed: bool,
}

impl std::fmt::Debug for Needle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Needle(…)")
    }
}

/// Who is going to read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// Everything is masked.
    Person,
    /// What was revealed to the guest is not.
    Guest,
}

impl Masker {
    /// From now on `value` is masked. `revealed`: the guest may read it.
    pub(crate) fn add(&self, value: &str, revealed: bool) {
        let mut needles = self.needles.write().unwrap_or_else(PoisonError::into_inner);
        for bytes in spellings(value) {
            match needles.iter_mut().find(|needle| needle.bytes == bytes) {
                Some(known) => known.revealed |= revealed,
                None => needles.push(Needle { bytes, revealed }),
            }
        }
        // The longest match wins, so that a secret that begins with another one is hidden whole.
        needles.sort_by_key(|needle| std::cmp::Reverse(needle.bytes.len()));
    }

    /// `text` with every secret replaced by `***`.
    pub(crate) fn text(&self, text: &str) -> String {
        let mut stream = MaskStream::new(self.clone(), Reader::Person);
        let mut bytes = stream.push(text.as_bytes());
        bytes.extend(stream.finish());
        // Needles are text, so that what is left of text is text.
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The same for a JSON value's strings, keys included.
    pub(crate) fn json(&self, value: &serde_json::Value) -> serde_json::Value {
        use serde_json::Value;
        match value {
            Value::String(text) => Value::String(self.text(text)),
            Value::Array(items) => items.iter().map(|item| self.json(item)).collect(),
            Value::Object(entries) => entries
                .iter()
                .map(|(key, item)| (self.text(key), self.json(item)))
                .collect::<serde_json::Map<_, _>>()
                .into(),
            other => other.clone(),
        }
    }
}

/// Every way in which `value` is looked for.
fn spellings(value: &str) -> Vec<Vec<u8>> {
    let mut spellings = Vec::new();
    for text in std::iter::once(value).chain(value.lines()) {
        if text.len() < SHORTEST {
            continue;
        }
        spellings.push(text.as_bytes().to_vec());
        spellings.push(STANDARD_NO_PAD.encode(text).into_bytes());
        spellings.push(URL_SAFE_NO_PAD.encode(text).into_bytes());
        let percent = percent_encoded(text);
        spellings.push(percent.to_ascii_lowercase().into_bytes());
        spellings.push(percent.into_bytes());
    }
    spellings.sort();
    spellings.dedup();
    spellings
}

/// RFC 3986: all but the unreserved characters.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// Masks a stream that comes in pieces, secrets that are cut in two included.
#[derive(Debug)]
pub(crate) struct MaskStream {
    masker: Masker,
    reader: Reader,
    /// The end of what was pushed, as far as it could be the beginning of a secret.
    held: Vec<u8>,
}

impl MaskStream {
    pub(crate) fn new(masker: Masker, reader: Reader) -> MaskStream {
        MaskStream { masker, reader, held: Vec::new() }
    }

    /// What can be shown once `data` is known too.
    pub(crate) fn push(&mut self, data: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(data);
        self.show(false)
    }

    /// The rest: nothing more will come.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        self.show(true)
    }

    fn show(&mut self, last: bool) -> Vec<u8> {
        let needles = self.masker.needles.read().unwrap_or_else(PoisonError::into_inner);
        let needles: Vec<&[u8]> = needles
            .iter()
            .filter(|needle| self.reader == Reader::Person || !needle.revealed)
            .map(|needle| needle.bytes.as_slice())
            .collect();
        if needles.is_empty() {
            return std::mem::take(&mut self.held);
        }
        let (shown, taken) = mask(&self.held, &needles, last);
        self.held.drain(..taken);
        shown
    }
}

/// Masks `data`, and says how much of it was dealt with: the rest might be the beginning of a needle, unless this is the
/// last of the data.
fn mask(data: &[u8], needles: &[&[u8]], last: bool) -> (Vec<u8>, usize) {
    let starts = needles.iter().fold([false; 256], |mut starts, needle| {
        starts[usize::from(needle[0])] = true;
        starts
    });
    let mut shown = Vec::with_capacity(data.len());
    let mut at = 0;
    while at < data.len() {
        let rest = &data[at..];
        if !starts[usize::from(rest[0])] {
            shown.push(rest[0]);
            at += 1;
            continue;
        }
        // Checked before a match: a longer needle may be under way of which a shorter one is the beginning.
        if !last && needles.iter().any(|needle| needle.len() > rest.len() && needle.starts_with(rest)) {
            break;
        }
        match needles.iter().find(|needle| rest.starts_with(needle)) {
            Some(needle) => {
                shown.extend_from_slice(MASK);
                at += needle.len();
            }
            None => {
                shown.push(rest[0]);
                at += 1;
            }
        }
    }
    (shown, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "s3cr3t/with+signs";

    fn masker() -> Masker {
        let masker = Masker::default();
        masker.add(SECRET, false);
        masker
    }

    #[test]
    fn every_spelling_is_masked() {
        let masker = masker();
        assert_eq!(masker.text("a s3cr3t/with+signs b"), "a *** b");
        assert_eq!(masker.text("s3cr3t%2Fwith%2Bsigns"), "***");
        assert_eq!(masker.text("s3cr3t%2fwith%2bsigns"), "***");
        let padded = base64::engine::general_purpose::STANDARD.encode(SECRET);
        assert_eq!(masker.text(&padded).trim_end_matches('='), "***");
    }

    #[test]
    fn a_secret_is_masked_wherever_the_stream_is_cut() {
        let text = format!("before {SECRET} after");
        for cut in 0..=text.len() {
            let mut stream = MaskStream::new(masker(), Reader::Person);
            let mut shown = stream.push(&text.as_bytes()[..cut]);
            shown.extend(stream.push(&text.as_bytes()[cut..]));
            shown.extend(stream.finish());
            assert_eq!(String::from_utf8(shown).unwrap(), "before *** after", "cut at {cut}");
        }
    }

    #[test]
    fn the_longest_secret_wins_and_lines_of_a_key_are_masked_alone() {
        let masker = Masker::default();
        masker.add("token", false);
        masker.add("token-of-gold", false);
        masker.add("first line\nsecond line", false);
        assert_eq!(masker.text("token-of-gold token"), "*** ***");
        assert_eq!(masker.text("x second line y"), "x *** y");
    }

    #[test]
    fn a_guest_sees_what_was_revealed_to_it_and_nothing_else() {
        let masker = Masker::default();
        masker.add("shown-to-it", true);
        masker.add("kept-from-it", false);
        let mut stream = MaskStream::new(masker.clone(), Reader::Guest);
        let mut seen = stream.push(b"shown-to-it kept-from-it");
        seen.extend(stream.finish());
        assert_eq!(seen, b"shown-to-it ***");
        assert_eq!(masker.text("shown-to-it kept-from-it"), "*** ***");
    }

    #[test]
    fn too_short_a_secret_leaves_the_log_alone() {
        let masker = Masker::default();
        masker.add("abc", false);
        assert_eq!(masker.text("abcdef"), "abcdef");
    }
}
