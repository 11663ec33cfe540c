//! Reduces text that was written for a terminal to what a reader of the terminal would see.
//!
//! Programs colour their output, set titles, write links, and redraw lines by returning to their start. None of this is
//! useful in a log, a report or another terminal. Untrusted text is therefore reduced before it is stored or shown.
//!
//! The control sequences are those of ECMA-48: `ESC [ … final` (CSI), `ESC ] … BEL|ST` and the like (strings), `ESC x`,
//! and the forms that start with a single character from U+0080 to U+009F.

use std::borrow::Cow;
use std::collections::VecDeque;

use crate::is_invisible;

/// Replaces a sequence that erases from the cursor to the end of the line, for [`last_state`].
const ERASE_RIGHT: char = '\u{b}';
/// Replaces a sequence that erases the whole line, for [`last_state`].
const ERASE_LINE: char = '\u{c}';

/// A parser that removes control sequences from text that arrives in chunks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControlSequences {
    state: SequenceState,
    /// Whether to keep invisible characters outside of sequences, for a caller that escapes them.
    keeps_hidden: bool,
    /// Whether the cursor may be before the end of the current line, so that erasing to the right has an effect.
    has_moved_back: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum SequenceState {
    /// Outside of a sequence.
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// Between `ESC (` or the like and its final byte.
    Intermediate,
    /// In a CSI sequence, with the value of its last parameter so far.
    ControlSequence(u8),
    /// In a string.
    String,
    /// After an ESC in a string, which ends if a backslash follows.
    StringEnd,
}

impl ControlSequences {
    /// Whether the text so far ends outside of a sequence.
    pub fn is_at_rest(&self) -> bool {
        self.state == SequenceState::Text
    }

    /// Processes the next character. Returns the character if it is text, a marker for [`last_state`] if it completes a
    /// sequence that erases, and otherwise none.
    pub fn push(&mut self, character: char) -> Option<char> {
        let (next, kept) = self.step(character);
        self.state = next;
        let kept = kept.filter(|&character| self.keeps_hidden || !is_hidden(character));
        match kept {
            Some('\n') => self.has_moved_back = false,
            Some('\r' | '\u{8}') => self.has_moved_back = true,
            // With the cursor at the end of the line there is nothing to erase. Programs that colour their output often
            // erase to the right after each colour change; without the markers, most lines can be used without
            // redrawing them.
            Some(ERASE_RIGHT) if !self.has_moved_back => return None,
            _ => {}
        }
        kept
    }

    fn step(&self, character: char) -> (SequenceState, Option<char>) {
        match (self.state, character) {
            (SequenceState::StringEnd, '\\') | (SequenceState::String | SequenceState::StringEnd, '\u{9c}') => {
                (SequenceState::Text, None)
            }
            // A line break ends every sequence. Otherwise, an unfinished sequence would hide all later lines.
            (_, '\n') => (SequenceState::Text, Some('\n')),
            (SequenceState::String | SequenceState::StringEnd, '\u{1b}') => (SequenceState::StringEnd, None),
            (SequenceState::String, '\u{7}') => (SequenceState::Text, None),
            (SequenceState::String | SequenceState::StringEnd, _) => (SequenceState::String, None),
            (_, '\u{1b}') => (SequenceState::Escape, None),
            (_, '\u{9b}') => (SequenceState::ControlSequence(0), None),
            (_, '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}') => (SequenceState::String, None),
            (SequenceState::Escape, '[') => (SequenceState::ControlSequence(0), None),
            (SequenceState::Escape, ']' | 'P' | 'X' | '^' | '_') => (SequenceState::String, None),
            (SequenceState::Escape | SequenceState::Intermediate, ' '..='/') => (SequenceState::Intermediate, None),
            (SequenceState::Escape | SequenceState::Intermediate, '0'..='~') => (SequenceState::Text, None),
            (SequenceState::ControlSequence(parameter), 'K') => (SequenceState::Text, erased(parameter)),
            // These move to the first column: 0 and 1 both mean that column, and a very large number of columns back
            // also reaches it.
            (SequenceState::ControlSequence(0 | 1), 'G') | (SequenceState::ControlSequence(u8::MAX), 'D') => {
                (SequenceState::Text, Some('\r'))
            }
            (SequenceState::ControlSequence(_), '@'..='~') => (SequenceState::Text, None),
            (SequenceState::ControlSequence(parameter), '0'..='9') => {
                let digit = character as u8 - b'0';
                (SequenceState::ControlSequence(parameter.saturating_mul(10).saturating_add(digit)), None)
            }
            (SequenceState::ControlSequence(_), ';') => (SequenceState::ControlSequence(0), None),
            // Terminals execute these even inside a sequence.
            (SequenceState::ControlSequence(_), '\r' | '\u{8}') => (self.state, Some(character)),
            // A sequence only contains these bytes. Any other character is text and must be kept.
            (SequenceState::ControlSequence(_), '\0'..='?' | '\u{7f}') => (self.state, None),
            // In the input, these characters could be confused with the markers.
            (_, ERASE_RIGHT | ERASE_LINE) => (SequenceState::Text, None),
            (_, character) => (SequenceState::Text, Some(character)),
        }
    }
}

/// Whether `character` is invisible and isn't needed for the layout of the text.
fn is_hidden(character: char) -> bool {
    let is_layout = matches!(character, '\t' | '\n') || moves_cursor(character);
    is_invisible(character) && !is_layout && !is_joiner(character)
}

/// What `ESC [ parameter K` erases.
fn erased(parameter: u8) -> Option<char> {
    match parameter {
        0 => Some(ERASE_RIGHT),
        2 => Some(ERASE_LINE),
        _ => None,
    }
}

/// Whether an invisible character changes how its neighbours are displayed, as in many emoji, in Persian and in Hindi.
/// Such characters are kept in the text, and ignored by searches.
pub fn is_joiner(character: char) -> bool {
    matches!(character, '\u{200c}' | '\u{200d}' | '\u{fe0e}' | '\u{fe0f}')
}

/// Reduces `text` to what a terminal would finally show: without control sequences and invisible characters, and with
/// the last state of each redrawn line.
pub fn terminal_text(text: &str) -> Cow<'_, str> {
    reduced(text, false)
}

/// Like [`terminal_text`], but keeps invisible characters outside of sequences for the caller to escape.
pub fn visible_text(text: &str) -> Cow<'_, str> {
    reduced(text, true)
}

fn reduced(text: &str, keeps_hidden: bool) -> Cow<'_, str> {
    let is_plain = |character: char| matches!(character, '\t' | '\n') || !is_invisible(character);
    if text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut sequences = ControlSequences { keeps_hidden, ..ControlSequences::default() };
    let kept: String = text.chars().filter_map(|character| sequences.push(character)).collect();
    if !kept.contains(moves_cursor) {
        return Cow::Owned(kept);
    }
    let lines = kept.split('\n').map(last_state);
    Cow::Owned(lines.collect::<Vec<_>>().join("\n"))
}

/// Whether a line with `character` has to be passed through [`last_state`].
pub fn moves_cursor(character: char) -> bool {
    matches!(character, '\r' | '\u{8}' | ERASE_RIGHT | ERASE_LINE)
}

/// What a terminal finally shows of `line`. A carriage return moves the cursor to the start of the line and a backspace
/// moves it back by one column; text after them overwrites what is there. `line` must be the output of
/// [`ControlSequences`], without the line break.
pub fn last_state(line: &str) -> Cow<'_, str> {
    // A trailing carriage return is usually part of the line break.
    let line = line.trim_end_matches('\r');
    if !line.contains(moves_cursor) {
        return Cow::Borrowed(line);
    }
    Cow::Owned(Redrawn::of(line).text())
}

/// Shortens an unfinished line to fewer characters that have the same effect on a terminal.
pub fn condensed(line: &str) -> Cow<'_, str> {
    if !line.contains(moves_cursor) {
        return Cow::Borrowed(line);
    }
    let redrawn = Redrawn::of(line);
    let mut text = redrawn.text();
    if redrawn.cursor < redrawn.blanks + redrawn.cells.len() {
        let before: String = text.chars().take(redrawn.cursor).collect();
        text.push('\r');
        text.push_str(&before);
    }
    Cow::Owned(text)
}

/// A line of a terminal. Every character is assumed to take one column.
///
/// Erasing the line removes its cells but doesn't move the cursor. The blank columns before the cursor are only
/// counted, rather than stored as cells: otherwise, repeatedly erasing a line and writing to it would take quadratic
/// time, and untrusted output could use this to keep the engine busy.
#[derive(Default)]
struct Redrawn {
    /// Number of blank columns before the first of `cells`.
    blanks: usize,
    cells: VecDeque<char>,
    cursor: usize,
}

impl Redrawn {
    fn of(line: &str) -> Redrawn {
        let mut redrawn = Redrawn::default();
        line.chars().for_each(|character| redrawn.put(character));
        redrawn
    }

    fn put(&mut self, character: char) {
        match character {
            '\r' => self.cursor = 0,
            '\u{8}' => self.cursor = self.cursor.saturating_sub(1),
            ERASE_RIGHT => {
                self.cells.truncate(self.cursor.saturating_sub(self.blanks));
                self.blanks = self.blanks.min(self.cursor);
            }
            ERASE_LINE => {
                self.cells.clear();
                self.blanks = self.cursor;
            }
            _ => {
                while self.cursor < self.blanks {
                    self.blanks -= 1;
                    self.cells.push_front(' ');
                }
                match self.cells.get_mut(self.cursor - self.blanks) {
                    Some(cell) => *cell = character,
                    None => self.cells.push_back(character),
                }
                self.cursor += 1;
            }
        }
    }

    /// The content of the whole line.
    fn text(&self) -> String {
        std::iter::repeat_n(' ', self.blanks).chain(self.cells.iter().copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complete_sequences_are_removed() {
        for (text, shown) in [
            ("\u{1b}[1m\u{1b}[31merror\u{1b}[0m: broken", "error: broken"),
            ("\u{1b}[38;2;1;2;3mx\u{1b}[m", "x"),
            ("\u{1b}]8;;https://a.example\u{7}link\u{1b}]8;;\u{7}", "link"),
            ("\u{1b}]8;;https://a.example\u{1b}\\link\u{1b}]8;;\u{1b}\\", "link"),
            ("\u{1b}(Bx\u{1b})0y\u{1b}%Gz", "xyz"),
            ("\u{1b}]0;title\u{7}\u{1b}Pq#1\u{1b}\\\u{1b}=a\u{1b}>b", "ab"),
            ("\u{9b}31mred\u{9b}0m \u{9d}0;title\u{9c}x", "red x"),
            ("lone \u{1} \u{1b}é \u{fffe}end", "lone  é end"),
        ] {
            assert_eq!(terminal_text(text), shown, "{text:?}");
        }
    }

    #[test]
    fn visible_text_keeps_invisible_characters_outside_of_sequences() {
        assert_eq!(visible_text("\u{1b}[31mred\u{1b}[0m\u{1}x"), "red\u{1}x");
        assert_eq!(visible_text("user\u{202e}nimda \u{1b}[?25lx"), "user\u{202e}nimda x");
    }

    /// With quadratic time, this test wouldn't finish.
    #[test]
    fn repeatedly_erased_line_takes_linear_time() {
        let text = format!("{}end", "ab\u{1b}[2Kc\u{8}".repeat(500_000));
        assert_eq!(terminal_text(&format!("\r{text}")).trim_start(), "end");
    }

    #[test]
    fn redrawn_line_is_reduced_to_its_last_state() {
        for (text, shown) in [
            ("10%\r20%\r30%\n", "30%\n"),
            ("a\r\nb\r\r\nc\r", "a\nb\nc"),
            ("100%\r5%", "5%0%"),
            ("downloading\r\u{1b}[Kdone\nnext", "done\nnext"),
            ("downloading\r\u{1b}[2Kdone", "done"),
            ("downloading\u{1b}[2K\u{1b}[1Gdone", "done"),
            ("10%\u{1b}[1G20%\u{1b}[G30%\u{1b}[0G40%", "40%"),
            ("downloading\u{1b}[1000D\u{1b}[Kdone", "done"),
            ("abcdef\u{1b}[2K\u{8}\u{8}x", "    x"),
            ("abcdef\u{1b}[2K\rx\u{1b}[K", "x"),
            ("\u{1b}[1;31m\u{1b}[Kmatch\u{1b}[m\u{1b}[K rest", "match rest"),
            ("|\u{8}/\u{8}-\u{8}done", "done"),
            ("b\u{8}bo\u{8}ol\u{8}ld\u{8}d", "bold"),
            ("\u{8}\u{8}x", "x"),
        ] {
            assert_eq!(terminal_text(text).trim_end_matches(' '), shown, "{text:?}");
        }
    }

    #[test]
    fn condensed_line_continues_like_the_original() {
        for line in ["10%\r20%\r3", "abc\r", "abc\u{8}", "abc\u{8}\u{b}", "plain"] {
            let short = condensed(line);
            assert!(short.len() <= 2 * line.len(), "{short:?}");
            for rest in ["", "x", "\rx", "\u{b}y"] {
                assert_eq!(last_state(&format!("{short}{rest}")), last_state(&format!("{line}{rest}")), "{line:?}");
            }
        }
    }
}
