//! Splits a stream into lines of text, as a reader would see them on a terminal without colours.

use std::borrow::Cow;

/// The bytes of a line that are kept. Longer lines are data rather than messages.
const LONGEST: usize = 4096;

/// The end of a stream that isn't a whole line yet.
#[derive(Default)]
pub(crate) struct LineSplitter {
    rest: Vec<u8>,
}

impl LineSplitter {
    pub(crate) fn push(&mut self, data: &[u8], mut on_line: impl FnMut(&str)) {
        for piece in data.split_inclusive(|&byte| byte == b'\n') {
            let text = piece.strip_suffix(b"\n");
            let room = LONGEST.saturating_sub(self.rest.len());
            let text_or_piece = text.unwrap_or(piece);
            self.rest.extend_from_slice(&text_or_piece[..text_or_piece.len().min(room)]);
            if text.is_some() {
                on_line(&shown(&self.rest));
                self.rest.clear();
            }
        }
    }

    /// The last line, if the stream doesn't end with a line end.
    pub(crate) fn finish(self, mut on_line: impl FnMut(&str)) {
        if !self.rest.is_empty() {
            on_line(&shown(&self.rest));
        }
    }
}

/// The text without control sequences, as it was after its last carriage return. Most lines have nothing to leave out.
fn shown(line: &[u8]) -> Cow<'_, str> {
    let is_shown = |letter: char| letter == '\t' || !letter.is_control();
    let whole = line.strip_suffix(b"\r").unwrap_or(line);
    if let Ok(text) = std::str::from_utf8(whole)
        && text.chars().all(is_shown)
    {
        return Cow::Borrowed(text);
    }
    let text = String::from_utf8_lossy(line);
    let text = without_sequences(&text);
    let text = text.trim_end_matches('\r');
    let last = text.rsplit('\r').next().unwrap_or_default();
    Cow::Owned(last.chars().filter(|&letter| is_shown(letter)).collect())
}

/// `text` without the control sequences of ECMA-48: colours, links and cursor movements.
fn without_sequences(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, sequence)) = rest.split_once('\u{1b}') {
        kept.push_str(before);
        rest = match sequence.as_bytes().first() {
            Some(b'[') => after(&sequence[1..], |letter| ('\u{40}'..='\u{7e}').contains(&letter)),
            // A link or a title, up to BEL or to the backslash of its terminator.
            Some(b']') => after(&sequence[1..], |letter| matches!(letter, '\u{7}' | '\\')),
            _ => {
                let mut letters = sequence.chars();
                letters.next();
                letters.as_str()
            }
        };
    }
    kept.push_str(rest);
    kept
}

/// What follows the first character of this kind.
fn after(text: &str, is_last: impl Fn(char) -> bool) -> &str {
    text.char_indices().find(|(_, letter)| is_last(*letter)).map_or("", |(at, letter)| &text[at + letter.len_utf8()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let (mut splitter, mut found) = (LineSplitter::default(), Vec::new());
        pieces.iter().for_each(|piece| splitter.push(piece, |line| found.push(line.to_owned())));
        splitter.finish(|line| found.push(line.to_owned()));
        found
    }

    #[test]
    fn a_line_may_come_in_pieces_that_split_characters_and_sequences() {
        assert_eq!(lines(&[b"a\nb", b"c\r\n", b"\xe2\x9c", b"\x96 d\x1b[3", b"1mred\x1b[0m"]), ["a", "bc", "✖ dred"]);
    }

    #[test]
    fn colours_links_and_overwritten_text_are_left_out() {
        let line =
            "\u{1b}[1m\u{1b}[38;5;9merror\u{1b}[0m: \u{1b}]8;;https://a\u{1b}\\E0308\u{1b}]8;;\u{1b}\\\u{1b}(B\u{7}";
        assert_eq!(lines(&[line.as_bytes()]), ["error: E0308B"]);
        assert_eq!(lines(&[b" 10%\r 20%\rdone\r\n\x1b["]), ["done", ""]);
    }

    #[test]
    fn only_the_beginning_of_a_long_line_is_kept() {
        let mut splitter = LineSplitter::default();
        let mut lengths = Vec::new();
        for _ in 0..1000 {
            splitter.push(&[b'x'; 1000], |line| lengths.push(line.len()));
            assert!(splitter.rest.len() <= LONGEST);
        }
        splitter.push(b"\ny\n", |line| lengths.push(line.len()));
        assert_eq!(lengths, [LONGEST, 1]);
    }
}
