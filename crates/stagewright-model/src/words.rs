//! Helpers for the text of messages.

use std::fmt::Write as _;

/// A number with its noun in the singular or plural, as in `1 stage` and `2 entries`.
pub fn count<N: std::fmt::Display + Copy + PartialEq + From<u8>>(number: N, noun: &str) -> String {
    match (number == N::from(1), noun.strip_suffix('y')) {
        (true, _) => format!("1 {noun}"),
        (false, Some(stem)) => format!("{number} {stem}ies"),
        (false, None) => format!("{number} {noun}s"),
    }
}

/// Joins entries by commas. An entry is put in quotes if it could be mistaken for several entries or for the end of the
/// list: if it contains a comma, semicolon or quote, or spaces that are easily overlooked.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_is_singular() {
        assert_eq!([0, 1, 2].map(|number| count(number, "line")), ["0 lines", "1 line", "2 lines"]);
        assert_eq!([1, 2].map(|number| count(number, "entry")), ["1 entry", "2 entries"]);
    }

    #[test]
    fn ambiguous_list_entries_are_quoted() {
        assert_eq!(list(["curl", "git hash-object"]), "curl, git hash-object");
        assert_eq!(list(["sh, curl", "", " a", "b  c", "d\"e"]), r#""sh, curl", "", " a", "b  c", "d\"e""#);
        assert_eq!(list(Vec::<String>::new()), "");
    }
}
