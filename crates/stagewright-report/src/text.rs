//! Truncates, pads and quotes text, and formats durations.

use std::borrow::Cow;
use std::fmt::Write;

use stagewright_model::count;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::printable::{escaped, prose};

/// The width of `text` in a terminal, in columns.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// `text` truncated to `columns`; the last column is then `…`.
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

/// `text` truncated or padded with spaces to exactly `columns`.
pub(crate) fn pad(text: &str, columns: usize) -> String {
    let mut padded = truncate(text, columns).into_owned();
    let missing = columns.saturating_sub(width(&padded));
    let _ = write!(padded, "{:missing$}", "");
    padded
}

/// `text` as one word of a POSIX shell command, quoted if needed.
pub fn shell_word(text: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@%+=,".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("'{}'", escaped(text).replace('\'', r"'\''")))
}

/// The first line of `text`, made printable.
pub(crate) fn first_line(text: &str) -> String {
    prose(text.lines().next().unwrap_or_default()).into_owned()
}

/// Formats milliseconds: `320 ms`, `4.2 s`, `1m 04s`, `2h 05m`, `3d 04h`.
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

/// Formats bytes: `320 B`, `1.2 MiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{bytes} B"),
    }
}

pub(crate) fn stages(number: usize) -> String {
    count(number, "stage")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_a_unit_that_fits() {
        let shown = [0, 1023, 1024, 1_300_000, 5 << 30].map(size);
        assert_eq!(shown, ["0 B", "1023 B", "1.0 KiB", "1.2 MiB", "5.0 GiB"]);
    }

    #[test]
    fn durations_are_shown_in_a_unit_that_fits() {
        let shown = [0, 320, 999, 1_000, 4_250, 59_999, 60_000, 64_000, 3_599_999, 3_600_000, 7_500_000, 273_600_000];
        let expected = [
            "0 ms", "320 ms", "999 ms", "1.0 s", "4.2 s", "59.9 s", "1m 00s", "1m 04s", "59m 59s", "1h 00m", "2h 05m",
            "3d 04h",
        ];
        assert_eq!(shown.map(duration), expected);
    }

    #[test]
    fn text_is_truncated_and_padded_by_columns() {
        assert_eq!(truncate("abc", 3), "abc");
        assert_eq!(truncate("abcd", 3), "ab…");
        assert_eq!(truncate("漢字漢字", 5), "漢字…");
        assert_eq!(truncate("漢字漢字", 4), "漢…");
        assert_eq!(truncate("abc", 0), "");
        assert_eq!(pad("漢", 4), "漢  ");
    }

    #[test]
    fn shell_words_are_quoted_where_needed() {
        assert_eq!(shell_word("deploy-production"), "deploy-production");
        assert_eq!(shell_word("test (os=linux)"), "'test (os=linux)'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
        assert_eq!(shell_word(""), "''");
    }
}
