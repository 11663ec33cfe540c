//! Parses places in files, as programs write them.

use crate::problem::SourcePlace;

/// A line that begins with a place, such as `src/a.c:3:5: error`: the place, and what follows its last colon.
pub(crate) fn at_start(line: &str) -> Option<(SourcePlace, &str)> {
    let (path, rest) = line.match_indices(':').map(|(at, _)| (&line[..at], &line[at + 1..])).find(|(_, rest)| {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        digits > 0 && rest[digits..].starts_with(':')
    })?;
    let (line, rest) = number(rest)?;
    let rest = rest.strip_prefix(':')?;
    let (column, rest) = match number(rest) {
        Some((column, after)) if after.starts_with(':') => (Some(column), &after[1..]),
        Some((column, after)) if after.starts_with(' ') => (Some(column), after),
        _ => (None, rest),
    };
    is_path(path).then(|| (SourcePlace::new(path, Some(line), column), rest))
}

/// A place alone, such as `src/lib.rs:8:5`, `lib/add.js:7` or `file:///home/me/a.mjs:1:2`.
pub(crate) fn alone(text: &str) -> Option<SourcePlace> {
    let text = text.trim();
    let text = text.strip_prefix("file://").unwrap_or(text);
    let (path, numbers) =
        text.match_indices(':').map(|(at, _)| (&text[..at], &text[at + 1..])).find(|(_, numbers)| {
            !numbers.is_empty() && numbers.bytes().all(|byte| byte.is_ascii_digit() || byte == b':')
        })?;
    let mut numbers = numbers.split(':').map(str::parse);
    let line = numbers.next()?.ok()?;
    let column = match numbers.next() {
        Some(column) => Some(column.ok()?),
        None => None,
    };
    (numbers.next().is_none() && is_path(path)).then(|| SourcePlace::new(path, Some(line), column))
}

/// A frame of a JavaScript stack: `at add (lib/add.js:7:3)`, or `at lib/add.js:7:3`.
pub(crate) fn stack_frame(line: &str) -> Option<SourcePlace> {
    let frame = line.trim_start().strip_prefix("at ")?;
    in_frame(frame)
}

/// The place of a frame without `at`.
pub(crate) fn in_frame(frame: &str) -> Option<SourcePlace> {
    let inner = frame.rsplit_once('(').and_then(|(_, place)| place.trim_end().strip_suffix(')'));
    alone(inner.unwrap_or_else(|| frame.strip_prefix("async ").unwrap_or(frame)))
}

/// Digits, and what follows them.
pub(crate) fn number(text: &str) -> Option<(u32, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    Some((text[..digits].parse().ok()?, &text[digits..]))
}

/// Whether the text is likely to be the path of a file: it has an extension or a folder, and isn't a URL or a sentence.
pub(crate) fn is_path(text: &str) -> bool {
    let name = text.rsplit('/').next().unwrap_or(text);
    let has_extension = name.rsplit_once('.').is_some_and(|(_, extension)| {
        extension.starts_with(|letter: char| letter.is_ascii_alphabetic())
            && extension.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-_".contains(&byte))
    });
    let is_named = has_extension || (text.contains('/') && !name.is_empty()) || name.ends_with("file");
    is_named
        && !text.contains("://")
        && !text.starts_with([' ', '[', '(', '-', '"'])
        && !text.ends_with(' ')
        && text.matches(' ').count() <= 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(line: &str) -> Option<(String, Option<u32>, Option<u32>, &str)> {
        at_start(line).map(|(place, rest)| (place.path, place.line, place.column, rest))
    }

    #[test]
    fn a_place_at_the_start_of_a_line_has_a_line_and_maybe_a_column() {
        assert_eq!(start("src/a.c:3:5: error: x"), Some(("src/a.c".to_owned(), Some(3), Some(5), " error: x")));
        assert_eq!(start("a.py:9: error: 1:2: x"), Some(("a.py".to_owned(), Some(9), None, " error: 1:2: x")));
        assert_eq!(start("b.ts:1:7 - error"), Some(("b.ts".to_owned(), Some(1), Some(7), " - error")));
        assert_eq!(start("Makefile:2: *** x"), Some(("Makefile".to_owned(), Some(2), None, " *** x")));
        for line in
            ["12:30:45: done", "http://a.b:80:1: x", "error: a", "a.c:99999999999: x", "one two three four.c:1: x"]
        {
            assert_eq!(start(line), None, "{line}");
        }
    }

    #[test]
    fn frames_of_a_stack_name_files() {
        for frame in
            ["    at f (/a/b.js:1:2)", "at /a/b.js:1:2", "at async file:///a/b.js:1:2", "at new X (file:///a/b.js:1:2)"]
        {
            assert_eq!(stack_frame(frame), Some(SourcePlace::new("/a/b.js", Some(1), Some(2))), "{frame}");
        }
        assert!(stack_frame("at node:internal/process:5:2").is_none_or(|place| place.is_foreign()));
        assert_eq!(stack_frame("at new Promise (<anonymous>)"), None);
        assert_eq!(stack_frame("at noon (12:30)"), None);
    }
}
