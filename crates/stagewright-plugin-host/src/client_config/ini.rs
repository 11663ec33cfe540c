//! Parsers for the INI dialects of npm and pip.

/// A key with its value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct IniEntry {
    /// The section in pip's files; none before the first header, and in npm's files.
    pub(crate) section: Option<String>,
    /// In pip's files in lower case, with `-` for `_`.
    pub(crate) key: String,
    /// Without quotes. The lines of a multi-line value are separated by newlines.
    pub(crate) value: String,
    /// The 1-based number of its first line.
    pub(crate) line: usize,
}

/// The entries of an `.npmrc`, as the package `ini` reads them: `;` and `#` begin comments, a value may be quoted, and
/// `key[]` is an element of a list. Sections aren't read by npm, so the entries end at the first header.
pub(crate) fn npmrc_entries(text: &str) -> Vec<IniEntry> {
    let mut entries = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('[') {
            break;
        }
        if line.is_empty() || line.starts_with([';', '#']) {
            continue;
        }
        // A key without a value is true.
        let (key, value) = line.split_once('=').unwrap_or((line, "true"));
        entries.push(IniEntry { section: None, key: unquoted(key), value: unquoted(value), line: at + 1 });
    }
    entries
}

fn unquoted(text: &str) -> String {
    let text = text.trim();
    for quote in ['"', '\''] {
        if let Some(inner) = text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote)) {
            return match quote {
                '"' => serde_json::from_str(text).unwrap_or_else(|_| inner.to_owned()),
                _ => inner.to_owned(),
            };
        }
    }
    let end = text.char_indices().find(|&(at, letter)| matches!(letter, ';' | '#') && !text[..at].ends_with('\\'));
    text[..end.map_or(text.len(), |(at, _)| at)].trim_end().to_owned()
}

/// The entries of a `pip.conf`, as Python's `configparser` reads them: `=` or `:` follows the key, and an indented line
/// continues the value before it.
pub(crate) fn pip_entries(text: &str) -> Vec<IniEntry> {
    let mut entries: Vec<IniEntry> = Vec::new();
    let mut section = None;
    let mut is_continued = false;
    for (at, line) in text.lines().enumerate() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if line.starts_with(char::is_whitespace) && is_continued {
            if let Some(last) = entries.last_mut() {
                last.value.push('\n');
                last.value.push_str(trimmed);
            }
            continue;
        }
        if let Some(name) = trimmed.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            section = Some(name.0.to_owned());
            is_continued = false;
            continue;
        }
        is_continued = true;
        let (key, value) = trimmed.split_once(['=', ':']).unwrap_or((trimmed, ""));
        let key = key.trim().to_ascii_lowercase().replace('_', "-");
        entries.push(IniEntry { section: section.clone(), key, value: value.trim().to_owned(), line: at + 1 });
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(entries: &[IniEntry]) -> Vec<(&str, &str, usize)> {
        entries.iter().map(|entry| (entry.key.as_str(), entry.value.as_str(), entry.line)).collect()
    }

    #[test]
    fn an_npmrc_is_read_as_npm_reads_it() {
        let text = "; mine\nregistry = \"https://a.test/\" \n@x:registry=https://b.test/ ; theirs\nca[]='one'\nfund\n[s]\nregistry=c\n";
        let expected = [
            ("registry", "https://a.test/", 2),
            ("@x:registry", "https://b.test/", 3),
            ("ca[]", "one", 4),
            ("fund", "true", 5),
        ];
        assert_eq!(pairs(&npmrc_entries(text)), expected);
    }

    #[test]
    fn a_pip_conf_is_read_as_pip_reads_it() {
        let text = "[global]\ntimeout: 60\nExtra_Index_Url =\n    https://a.test\n# no\n\thttps://b.test\n[install]\nuser = true\n";
        let entries = pip_entries(text);
        let expected =
            [("timeout", "60", 2), ("extra-index-url", "\nhttps://a.test\nhttps://b.test", 3), ("user", "true", 8)];
        assert_eq!(pairs(&entries), expected);
        assert_eq!(entries[2].section.as_deref(), Some("install"));
    }
}
