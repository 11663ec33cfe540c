//! Wraps lines that are wider than the terminal between words, instead of at the terminal's edge.

use std::borrow::Cow;

use crate::text::width;

/// `line` wrapped to at most `columns`, except where a single word is longer. Continuation lines are indented to the
/// beginning of the line's last column, so that the rows of a table stay aligned. Colour sequences (ECMA-48, SGR) have no
/// width.
pub(crate) fn wrapped(line: &str, columns: usize) -> Vec<String> {
    if visible_width(line) <= columns {
        return vec![line.to_owned()];
    }
    let indent = hanging_indent(line, columns);
    let mut lines = Vec::new();
    let (mut current, mut has_word) = (String::new(), false);
    let room = columns.saturating_sub(indent);
    for (blanks, word) in words(line).flat_map(|(blanks, word)| parts(blanks, word, room)) {
        let is_full = visible_width(&current) + blanks.len() + visible_width(word) > columns;
        if is_full && has_word {
            lines.push(std::mem::replace(&mut current, " ".repeat(indent)));
        } else {
            current.push_str(blanks);
        }
        current.push_str(word);
        has_word = true;
    }
    lines.push(current);
    lines
}

/// Splits a word that is wider than `room` after each `@` and `,`: lists, and names with a digest.
fn parts<'a>(blanks: &'a str, word: &'a str, room: usize) -> Vec<(&'a str, &'a str)> {
    if visible_width(word) <= room {
        return vec![(blanks, word)];
    }
    let parts = word.split_inclusive(['@', ',']).enumerate();
    parts.map(|(index, part)| (if index == 0 { blanks } else { "" }, part)).collect()
}

/// The words of a line, each with the spaces before it.
fn words(line: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = line.trim_end_matches(' ');
    std::iter::from_fn(move || {
        let blanks = rest.len() - rest.trim_start_matches(' ').len();
        let length = rest[blanks..].find(' ').unwrap_or(rest.len() - blanks);
        let (word, after) = rest.split_at(blanks + length);
        rest = after;
        (length > 0).then(|| word.split_at(blanks))
    })
}

/// The indent of continuation lines. Columns of a table are separated by at least two spaces: continuation lines begin
/// below the last column, unless that leaves less than a third of the width. Otherwise they are indented by two spaces
/// more than the line itself.
fn hanging_indent(line: &str, columns: usize) -> usize {
    let plain = without_styles(line);
    let leading = plain.len() - plain.trim_start_matches(' ').len();
    let (mut at, mut last) = (0, None);
    for (blanks, word) in words(&plain) {
        at += blanks.len();
        if at > leading && blanks.len() > 1 && at <= columns {
            last = Some(at);
        }
        at += width(word);
    }
    last.filter(|&last| last <= columns * 2 / 3).unwrap_or_else(|| (leading + 2).min(columns / 2))
}

fn visible_width(text: &str) -> usize {
    width(&without_styles(text))
}

fn without_styles(text: &str) -> Cow<'_, str> {
    if !text.contains('\u{1b}') {
        return Cow::Borrowed(text);
    }
    let mut parts = text.split("\u{1b}[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    parts.for_each(|part| plain.push_str(part.split_once('m').map_or(part, |(_, text)| text)));
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_wrapped_between_words_and_keep_their_column() {
        for (line, columns, expected) in [
            ("short", 20, vec!["short"]),
            ("one two three four", 9, vec!["one two", "  three", "  four"]),
            ("    needs  build, test, lint", 22, vec!["    needs  build,", "           test, lint"]),
            ("  a long word: sha256:0123456789abcdef0", 20, vec!["  a long word:", "    sha256:0123456789abcdef0"]),
            ("runs app@sha256:0123456789abcdef", 24, vec!["runs app@", "  sha256:0123456789abcdef"]),
            ("has /a/{first,second,third}", 20, vec!["has /a/{first,", "  second,third}"]),
            ("漢字漢字 漢字漢字", 10, vec!["漢字漢字", "  漢字漢字"]),
            ("\u{1b}[31mred and\u{1b}[0m green", 10, vec!["\u{1b}[31mred and\u{1b}[0m", "  green"]),
            (
                "✗ lint  skipped  –  because build failed",
                34,
                vec!["✗ lint  skipped  –  because build", "                    failed"],
            ),
        ] {
            assert_eq!(wrapped(line, columns), expected, "{line:?}");
        }
    }

    #[test]
    fn wrapping_keeps_every_word_and_breaks_none() {
        let line = "  1. build  (command 0.1.0, local)  after an approval by team:release at a gate of its own";
        let expected: Vec<_> = line.split_whitespace().collect();
        for columns in 1..100 {
            let lines = wrapped(line, columns);
            let words: Vec<_> = lines.iter().flat_map(|line| line.split_whitespace()).collect();
            assert_eq!(words, expected);
            assert!(lines.iter().all(|line| width(line) <= columns || line.split_whitespace().count() == 1));
        }
    }
}
