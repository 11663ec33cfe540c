//! Removes terminal codes and invisible characters from text, also from a stream of bytes.

use std::borrow::Cow;

use stagewright_model::{ControlSequences, is_invisible, moves_cursor};

/// The number of bytes that are examined at a time.
const PLAIN: usize = 256;

/// Removes terminal codes and invisible characters from text that arrives in chunks. The result is UTF-8; invalid bytes
/// become U+FFFD. Characters that move the cursor within a line are kept for
/// [`last_state`](stagewright_model::last_state), which needs the complete line.
#[derive(Debug, Default)]
pub(crate) struct Stripper {
    sequences: ControlSequences,
    /// The bytes of an incomplete character at the end of the last chunk.
    partial: Vec<u8>,
}

/// `text` without terminal codes and invisible characters other than carriage returns. Secrets are searched in this form.
pub fn stripped(text: &str) -> Cow<'_, str> {
    if !text.contains(is_special) {
        return Cow::Borrowed(text);
    }
    let mut sequences = ControlSequences::default();
    let kept = text.chars().filter_map(|character| sequences.push(character));
    Cow::Owned(kept.filter(|&character| character == '\r' || !moves_cursor(character)).collect())
}

fn is_special(character: char) -> bool {
    !matches!(character, '\t' | '\n') && is_invisible(character)
}

impl Stripper {
    pub(crate) fn strip<'a>(&mut self, data: &'a [u8]) -> Cow<'a, [u8]> {
        // Without branches, so that the compiler vectorises it: most output is plain.
        let is_special = |byte: u8| (byte < b' ') & (byte != b'\t') & (byte != b'\n') | (byte >= 0x7F);
        let is_plain = |part: &[u8]| !part.iter().fold(false, |found, &byte| found | is_special(byte));
        if self.is_at_rest() && data.chunks(PLAIN).all(is_plain) {
            return Cow::Borrowed(data);
        }
        let mut kept = Vec::with_capacity(data.len());
        for part in data.chunks(PLAIN) {
            match self.is_at_rest() && is_plain(part) {
                true => kept.extend_from_slice(part),
                false => self.strip_part(part, &mut kept),
            }
        }
        Cow::Owned(kept)
    }

    /// The replacement for an incomplete character at the end of the stream, if there is one.
    pub(crate) fn finish(&mut self) -> &'static [u8] {
        if std::mem::take(&mut self.partial).is_empty() { &[] } else { "\u{fffd}".as_bytes() }
    }

    fn is_at_rest(&self) -> bool {
        self.sequences.is_at_rest() && self.partial.is_empty()
    }

    fn strip_part(&mut self, part: &[u8], kept: &mut Vec<u8>) {
        let whole = match self.partial.is_empty() {
            true => Cow::Borrowed(part),
            false => Cow::Owned([std::mem::take(&mut self.partial).as_slice(), part].concat()),
        };
        let mut rest: &[u8] = &whole;
        loop {
            let error = match std::str::from_utf8(rest) {
                Ok(text) => return self.keep(text, kept),
                Err(error) => error,
            };
            let (valid, others) = rest.split_at(error.valid_up_to());
            self.keep(std::str::from_utf8(valid).unwrap_or_default(), kept);
            let Some(invalid) = error.error_len() else {
                self.partial = others.to_vec();
                return;
            };
            self.keep("\u{fffd}", kept);
            rest = &others[invalid..];
        }
    }

    fn keep(&mut self, mut text: &str, kept: &mut Vec<u8>) {
        loop {
            if self.sequences.is_at_rest() {
                let (plain, rest) = text.split_at(text.find(is_special).unwrap_or(text.len()));
                kept.extend_from_slice(plain.as_bytes());
                text = rest;
            }
            let Some(character) = text.chars().next() else { return };
            if let Some(character) = self.sequences.push(character) {
                kept.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            text = &text[character.len_utf8()..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_codes_and_invisible_characters_are_removed() {
        assert_eq!(stripped("a\u{200b}b\u{ad}c\u{0}d\u{202e}e\u{e0041}f\u{2028}g\u{85}h\tp\n"), "abcdefgh\tp\n");
        assert_eq!(stripped("\u{9b}31mred\u{9b}0m \u{9d}0;title\u{9c}x \u{1b}(Bé"), "red x é");
        assert_eq!(stripped("👩\u{200d}💻 ✔\u{fe0f} می\u{200c}خواهم"), "👩\u{200d}💻 ✔\u{fe0f} می\u{200c}خواهم");
    }

    #[test]
    fn splitting_a_stream_into_chunks_makes_no_difference() {
        let text = "é\u{1b}[1mb\u{1b}]0;x\u{7}漢\u{200b}\u{9b}2Jz\u{fffd}".as_bytes();
        let text = [text, b"\xff\xe2\x80", b"k\xe2"].concat();
        let mut whole = Stripper::default();
        let expected = [&whole.strip(&text)[..], whole.finish()].concat();
        assert_eq!(String::from_utf8_lossy(&expected), "éb漢z\u{fffd}\u{fffd}\u{fffd}k\u{fffd}");
        for size in 1..text.len() {
            let mut stripper = Stripper::default();
            let mut kept: Vec<u8> = text.chunks(size).flat_map(|piece| stripper.strip(piece).into_owned()).collect();
            kept.extend_from_slice(stripper.finish());
            assert_eq!(kept, expected, "in pieces of {size}");
        }
    }
}
