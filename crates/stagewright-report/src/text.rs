//! Text cut, filled up and quoted, and amounts in words.

use std::borrow::Cow;
use std::fmt::Write;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::printable::{escaped, prose};

/// Columns that `text` takes in a terminal.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// `text` cut to `columns`, with `…` in the last one when something is missing.
pub(crate) fn truncate(text: &str, columns: usize) -> Cow<'_, str> {
    if width(text) <= columns {
        return Cow::Borrowed(text);
    }
    let mut kept = String::new();
    let mut used = 0;
    for character in text.chars() {
        used += character.width().unwrap_or(0);
        if used >= columns {
            break;
        }
        kept.push(character);
    }
    if columns > 0 {
        kept.push('…');
    }
    Cow::Owned(kept)
}

/// `text` cut or filled up to exactly `columns`.
pub(crate) fn pad(text: &str, columns: usize) -> String {
    let mut padded = truncate(text, columns).into_owned();
    let missing = columns.saturating_sub(width(&padded));
    let _ = write!(padded, "{:missing$}", "");
    padded
}

/// `text` as one word of a POSIX shell's command line.
pub fn shell_word(text: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@%+=,".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("'{}'", escaped(text).replace('\'', r"'\''")))
}

/// A number with its noun, as in `1 stage` and `2 entries`.
pub fn count<N: std::fmt::Display + Copy + PartialEq + From<u8>>(number: N, noun: &str) -> String {
    match (number == N::from(1), noun.strip_suffix('y')) {
        (true, _) => format!("1 {noun}"),
        (false, Some(stem)) => format!("{number} {stem}ies"),
        (false, None) => format!("{number} {noun}s"),
    }
}

/// The entries of a list, so that none can be taken for two, or for the end of the list: what holds a comma or a quote,
/// or blanks where they are easily overlooked, stands in quotes.
pub fn list<T: AsRef<str>>(entries: impl IntoIterator<Item = T>) -> String {
    let mut listed = String::new();
    for entry in entries {
        let entry = entry.as_ref();
        let is_plain =
            !entry.is_empty() && entry.trim() == entry && !entry.contains("  ") && !entry.contains([',', ';', '"']);
        let _ = match (listed.is_empty(), is_plain) {
            (true, true) => write!(listed, "{entry}"),
            (true, false) => write!(listed, "\"{}\"", entry.replace('"', "\\\"")),
            (false, true) => write!(listed, ", {entry}"),
            (false, false) => write!(listed, ", \"{}\"", entry.replace('"', "\\\"")),
        };
    }
    listed
}

/// The first line of a program's words, made printable.
pub(crate) fn first_line(text: &str) -> String {
    prose(text.lines().next().unwrap_or_default()).into_owned()
}

/// Milliseconds for people: `320 ms`, `4.2 s`, `1m 04s`, `2h 05m`, `3d 04h`.
pub fn duration(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match seconds {
        0 => format!("{milliseconds} ms"),
        1..60 => format!("{seconds}.{} s", milliseconds % 1000 / 100),
        60..3_600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {:02}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d {:02}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

pub(crate) fn stages(number: usize) -> String {
    count(number, "stage")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_change_their_unit() {
        let shown = [0, 320, 999, 1_000, 4_250, 59_999, 60_000, 64_000, 3_599_999, 3_600_000, 7_500_000, 273_600_000];
        let expected = [
            "0 ms", "320 ms", "999 ms", "1.0 s", "4.2 s", "59.9 s", "1m 00s", "1m 04s", "59m 59s", "1h 00m", "2h 05m",
            "3d 04h",
        ];
        assert_eq!(shown.map(duration), expected);
    }

    #[test]
    fn one_is_singular() {
        assert_eq!([0, 1, 2].map(|number| count(number, "line")), ["0 lines", "1 line", "2 lines"]);
        assert_eq!([1, 2].map(|number| count(number, "entry")), ["1 entry", "2 entries"]);
    }

    #[test]
    fn cuts_by_columns() {
        assert_eq!(truncate("abc", 3), "abc");
        assert_eq!(truncate("abcd", 3), "ab…");
        assert_eq!(truncate("漢字漢字", 5), "漢字…");
        assert_eq!(truncate("漢字漢字", 4), "漢…");
        assert_eq!(truncate("abc", 0), "");
        assert_eq!(pad("漢", 4), "漢  ");
    }

    #[test]
    fn an_entry_of_a_list_is_not_taken_for_two() {
        assert_eq!(list(["curl", "git hash-object"]), "curl, git hash-object");
        assert_eq!(list(["sh, curl", "", " a", "b  c", "d\"e"]), r#""sh, curl", "", " a", "b  c", "d\"e""#);
        assert_eq!(list(Vec::<String>::new()), "");
    }

    #[test]
    fn quotes_for_the_shell() {
        assert_eq!(shell_word("deploy-production"), "deploy-production");
        assert_eq!(shell_word("test (os=linux)"), "'test (os=linux)'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
        assert_eq!(shell_word(""), "''");
    }
}
