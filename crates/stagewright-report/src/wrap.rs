//! Lines that are wider than the terminal, broken between words instead of wherever the terminal's edge is.

use std::borrow::Cow;

use crate::text::width;

/// `line` in lines of at most `columns`, but for words that are longer. Those after the first are indented to where the
/// last column of the line begins, so that a table stays one. Sequences that colour (ECMA-48, SGR) take no column.
pub(crate) fn wrapped(line: &str, columns: usize) -> Vec<String> {
    if seen_width(line) <= columns {
        return vec![line.to_owned()];
    }
    let indent = hanging_indent(line, columns);
    let mut lines = Vec::new();
    let (mut current, mut has_word) = (String::new(), false);
    let room = columns.saturating_sub(indent);
    for (blanks, word) in words(line).flat_map(|(blanks, word)| parts(blanks, word, room)) {
        let is_full = seen_width(&current) + blanks.len() + seen_width(word) > columns;
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

/// A list or a name with a digest that has no room in a line, in parts that can be read by themselves.
fn parts<'a>(blanks: &'a str, word: &'a str, room: usize) -> Vec<(&'a str, &'a str)> {
    if seen_width(word) <= room {
        return vec![(blanks, word)];
    }
    let parts = word.split_inclusive(['@', ',']).enumerate();
    parts.map(|(index, part)| (if index == 0 { blanks } else { "" }, part)).collect()
}

/// Words, each with the blanks before it.
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

/// Where the lines after the first begin: below the last column of a table, which two blanks set apart, unless too little
/// room would be left; else a little further than the first.
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

fn seen_width(text: &str) -> usize {
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
    fn lines_break_between_words_and_keep_their_column() {
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
    fn nothing_is_lost_and_no_word_is_broken() {
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
