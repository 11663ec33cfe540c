//! Converts offsets in the value of a TOML string to offsets in the file.

use crate::span::SourceSpan;

/// The offset in `file` of the byte at `offset` in a string's value. `string` spans the literal including its quotes.
pub(crate) fn locate(file: &str, string: SourceSpan, offset: usize) -> usize {
    let raw = file.get(string.start..string.end).unwrap_or_default();
    let fence = if raw.starts_with("\"\"\"") || raw.starts_with("'''") { 3 } else { 1 };
    let mut at = fence;
    if fence == 3 {
        // A line break directly after the opening quotes isn't part of the value.
        let body = &raw[fence..];
        at += if body.starts_with("\r\n") { 2 } else { usize::from(body.starts_with('\n')) };
    }
    let is_basic = raw.starts_with('"');
    let mut value = 0;
    while value < offset && at < raw.len() {
        let (written, meant) = if is_basic { next_character(&raw[at..]) } else { one_character(&raw[at..]) };
        at += written;
        value += meant;
    }
    (string.start + at).min(string.end)
}

/// The length of the next character in bytes, in the file and in the value.
fn next_character(raw: &str) -> (usize, usize) {
    let mut characters = raw.chars();
    if characters.next() != Some('\\') {
        return one_character(raw);
    }
    let hexadecimal = |digits: usize| {
        let code = raw.get(2..2 + digits).and_then(|code| u32::from_str_radix(code, 16).ok());
        (2 + digits, code.and_then(char::from_u32).map_or(1, char::len_utf8))
    };
    match characters.next() {
        Some('x') => hexadecimal(2),
        Some('u') => hexadecimal(4),
        Some('U') => hexadecimal(8),
        // A backslash at the end of a line removes the white space up to the next character.
        Some(character) if character.is_whitespace() => (raw.len() - raw[1..].trim_start().len(), 0),
        _ => (2, 1),
    }
}

fn one_character(raw: &str) -> (usize, usize) {
    let length = raw.chars().next().map_or(1, char::len_utf8);
    (length, length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_account_for_quotes_and_escapes() {
        for literal in [
            r#""ab X""#,
            r"'ab X'",
            r#""a\"X""#,
            r#""\u00e9\U0001F600X""#,
            r#""\x41X""#,
            "\"\"\"\nab\nX\"\"\"",
            "'''\r\nabX'''",
            "\"\"\"ab \\\n     cX\"\"\"",
            "\"é X\"",
        ] {
            let file = format!("key = {literal} # X");
            let table = toml::de::DeTable::parse(&file).unwrap();
            let value = table.get_ref().get("key").unwrap();
            let offset = value.get_ref().as_str().unwrap().find('X').unwrap();
            assert_eq!(locate(&file, value.span().into(), offset), file.find('X').unwrap(), "{literal}");
        }
    }
}
