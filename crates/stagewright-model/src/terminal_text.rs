//! Text that was written for a terminal, reduced to what a reader of that terminal would see.
//!
//! Programs colour their output, set titles, write links, and redraw a line by returning to its start. None of that means
//! anything in a log, a report or another terminal, so text of others passes through here once before it is kept or shown.
//!
//! The shapes are those of ECMA-48: `ESC [ … final` (CSI), `ESC ] … BEL|ST` and its kin (strings), `ESC x`, and the same
//! begun by one character of U+0080 to U+009F.

use std::borrow::Cow;
use std::collections::VecDeque;

use crate::is_invisible;

/// In place of a sequence that erases from the cursor to the end of the line, for [`last_state`].
const ERASE_RIGHT: char = '\u{b}';
/// In place of a sequence that erases the whole line.
const ERASE_LINE: char = '\u{c}';

/// Recognises control sequences in text that comes in pieces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControlSequences {
    state: State,
    /// Whether invisible characters that belong to no sequence are kept, for a caller that escapes them.
    keeps_hidden: bool,
    /// Whether the cursor has moved back on the line at hand, so that what is erased matters.
    has_moved_back: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    Began,
    /// Between `ESC (` or the like and its final byte.
    Intermediate,
    /// With the last of its parameters.
    ControlSequence(u8),
    String,
    /// An ESC within a string: the string ends if a backslash follows.
    StringEnd,
}

impl ControlSequences {
    /// Whether the text so far ends outside of a sequence.
    pub fn is_at_rest(&self) -> bool {
        self.state == State::Text
    }

    /// Takes in the next character, and returns what is kept in its place: the character itself when it is text, a mark
    /// for [`last_state`] when it ends a sequence that erases, and else nothing.
    pub fn take(&mut self, character: char) -> Option<char> {
        let (next, kept) = self.step(character);
        self.state = next;
        let kept = kept.filter(|&one| self.keeps_hidden || !is_hidden(one));
        match kept {
            Some('\n') => self.has_moved_back = false,
            Some('\r' | '\u{8}') => self.has_moved_back = true,
            // At the end of a line there is nothing to erase.
            Some(ERASE_RIGHT) if !self.has_moved_back => return None,
            _ => {}
        }
        kept
    }

    fn step(&self, character: char) -> (State, Option<char>) {
        match (self.state, character) {
            (State::StringEnd, '\\') | (State::String | State::StringEnd, '\u{9c}') => (State::Text, None),
            // No sequence spans lines, whatever a program forgot to end.
            (_, '\n') => (State::Text, Some('\n')),
            (State::String | State::StringEnd, '\u{1b}') => (State::StringEnd, None),
            (State::String, '\u{7}') => (State::Text, None),
            (State::String | State::StringEnd, _) => (State::String, None),
            (_, '\u{1b}') => (State::Began, None),
            (_, '\u{9b}') => (State::ControlSequence(0), None),
            (_, '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}') => (State::String, None),
            (State::Began, '[') => (State::ControlSequence(0), None),
            (State::Began, ']' | 'P' | 'X' | '^' | '_') => (State::String, None),
            (State::Began | State::Intermediate, ' '..='/') => (State::Intermediate, None),
            (State::Began | State::Intermediate, '0'..='~') => (State::Text, None),
            (State::ControlSequence(parameter), 'K') => (State::Text, erased(parameter)),
            // To the first column, which has two numbers, or so far back that no line is as long.
            (State::ControlSequence(0 | 1), 'G') | (State::ControlSequence(u8::MAX), 'D') => (State::Text, Some('\r')),
            (State::ControlSequence(_), '@'..='~') => (State::Text, None),
            (State::ControlSequence(parameter), '0'..='9') => {
                let digit = character as u8 - b'0';
                (State::ControlSequence(parameter.saturating_mul(10).saturating_add(digit)), None)
            }
            (State::ControlSequence(_), ';') => (State::ControlSequence(0), None),
            // A terminal obeys these even within a sequence.
            (State::ControlSequence(_), '\r' | '\u{8}') => (self.state, Some(character)),
            // Only of these bytes is a sequence made; a character beyond is the text's, and not swallowed with it.
            (State::ControlSequence(_), '\0'..='?' | '\u{7f}') => (self.state, None),
            // They stand for sequences that erase.
            (_, ERASE_RIGHT | ERASE_LINE) => (State::Text, None),
            (_, character) => (State::Text, Some(character)),
        }
    }
}

/// Whether nothing of `character` is seen, and it isn't needed to lay the text out.
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

/// Whether an invisible character is part of how others are written, as in many emoji, in Persian and in Hindi: it stays
/// in the text, and a search passes it over.
pub fn is_joiner(character: char) -> bool {
    matches!(character, '\u{200c}' | '\u{200d}' | '\u{fe0e}' | '\u{fe0f}')
}

/// `text` as a terminal would leave it on the screen: without control sequences and invisible characters, and of a line
/// that was redrawn the last state.
pub fn terminal_text(text: &str) -> Cow<'_, str> {
    reduced(text, false)
}

/// The same, but invisible characters that belong to no sequence stay: they are for the caller to escape.
pub fn visible_text(text: &str) -> Cow<'_, str> {
    reduced(text, true)
}

fn reduced(text: &str, keeps_hidden: bool) -> Cow<'_, str> {
    let is_plain = |character: char| matches!(character, '\t' | '\n') || !is_invisible(character);
    if text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut sequences = ControlSequences { keeps_hidden, ..ControlSequences::default() };
    let kept: String = text.chars().filter_map(|character| sequences.take(character)).collect();
    if !kept.contains(moves_cursor) {
        return Cow::Owned(kept);
    }
    let lines = kept.split('\n').map(last_state);
    Cow::Owned(lines.collect::<Vec<_>>().join("\n"))
}

/// Whether [`last_state`] has something to do for a line with `character`.
pub fn moves_cursor(character: char) -> bool {
    matches!(character, '\r' | '\u{8}' | ERASE_RIGHT | ERASE_LINE)
}

/// What a terminal shows of `line` in the end. A carriage return moves the cursor to the line's start and a backspace one
/// column back; what follows overwrites what was there. `line`: as [`ControlSequences`] left it, without its line end.
pub fn last_state(line: &str) -> Cow<'_, str> {
    // Most often it belongs to the line's end.
    let line = line.trim_end_matches('\r');
    if !line.contains(moves_cursor) {
        return Cow::Borrowed(line);
    }
    Cow::Owned(Redrawn::of(line).text())
}

/// `line`, which goes on, in as few characters as have the same effect on a terminal.
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

/// A line of a terminal. Every character counts as one column.
///
/// To erase the line is to forget its cells. The blanks that this leaves before the cursor are counted and not written, or
/// a line that is erased again and again would take quadratic time.
#[derive(Default)]
struct Redrawn {
    /// Columns before the first of `cells`; they are blank.
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

    /// The whole line.
    fn text(&self) -> String {
        std::iter::repeat_n(' ', self.blanks).chain(self.cells.iter().copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complete_sequences_leave_nothing() {
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
    fn lone_characters_stay_for_a_caller_that_escapes_them() {
        assert_eq!(visible_text("\u{1b}[31mred\u{1b}[0m\u{1}x"), "red\u{1}x");
        assert_eq!(visible_text("user\u{202e}nimda \u{1b}[?25lx"), "user\u{202e}nimda x");
    }

    /// Quadratic time would keep this test from ending.
    #[test]
    fn a_line_that_is_erased_again_and_again_is_read_once() {
        let text = format!("{}end", "ab\u{1b}[2Kc\u{8}".repeat(500_000));
        assert_eq!(terminal_text(&format!("\r{text}")).trim_start(), "end");
    }

    #[test]
    fn of_a_redrawn_line_the_last_state_stays() {
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
    fn a_condensed_line_goes_on_as_the_whole_one() {
        for line in ["10%\r20%\r3", "abc\r", "abc\u{8}", "abc\u{8}\u{b}", "plain"] {
            let short = condensed(line);
            assert!(short.len() <= 2 * line.len(), "{short:?}");
            for rest in ["", "x", "\rx", "\u{b}y"] {
                assert_eq!(last_state(&format!("{short}{rest}")), last_state(&format!("{line}{rest}")), "{line:?}");
            }
        }
    }
}
