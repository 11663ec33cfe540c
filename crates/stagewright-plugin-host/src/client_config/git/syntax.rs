//! A parser for git's configuration, after `git-config(1)` and git's own parser.

use std::iter::Peekable;
use std::str::Chars;

/// A key with its value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    /// In lower case.
    pub(crate) section: String,
    /// As it is written.
    pub(crate) subsection: Option<String>,
    /// In lower case.
    pub(crate) key: String,
    /// None for a key without a value, which means true.
    pub(crate) value: Option<String>,
}

/// All settings in their order, up to the first syntax error.
pub(crate) fn parse(text: &str) -> Vec<Setting> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    let mut rest = text.chars().peekable();
    let mut settings = Vec::new();
    let mut place: Option<(String, Option<String>)> = None;
    while let Some(letter) = rest.next() {
        match letter {
            letter if letter.is_ascii_whitespace() => {}
            '#' | ';' => while rest.next_if(|letter| *letter != '\n').is_some() {},
            '[' => match header(&mut rest) {
                Some(found) => place = Some(found),
                None => break,
            },
            letter if letter.is_ascii_alphabetic() => {
                let (Some((section, subsection)), Some((key, value))) = (&place, key_value(letter, &mut rest)) else {
                    break;
                };
                settings.push(Setting { section: section.clone(), subsection: subsection.clone(), key, value });
            }
            _ => break,
        }
    }
    settings
}

/// Parses the rest of a header after `[`: `section]`, `section "Subsection"]`, or `section.subsection]`, which is converted
/// to lower case.
fn header(rest: &mut Peekable<Chars<'_>>) -> Option<(String, Option<String>)> {
    let mut name = String::new();
    loop {
        match rest.next()? {
            ']' => {
                let (section, subsection) = match name.split_once('.') {
                    Some((section, subsection)) => (section.to_owned(), Some(subsection.to_owned())),
                    None => (name, None),
                };
                return Some((section, subsection));
            }
            letter if letter.is_ascii_alphanumeric() || matches!(letter, '-' | '.') => {
                name.push(letter.to_ascii_lowercase());
            }
            ' ' | '\t' => break,
            _ => return None,
        }
    }
    while rest.next_if(|letter| matches!(letter, ' ' | '\t')).is_some() {}
    rest.next_if_eq(&'"')?;
    let mut subsection = String::new();
    loop {
        match rest.next()? {
            '"' => break,
            '\n' => return None,
            '\\' => subsection.push(rest.next().filter(|letter| *letter != '\n')?),
            letter => subsection.push(letter),
        }
    }
    rest.next_if_eq(&']')?;
    Some((name, Some(subsection)))
}

fn key_value(first: char, rest: &mut Peekable<Chars<'_>>) -> Option<(String, Option<String>)> {
    let mut key = first.to_ascii_lowercase().to_string();
    while let Some(letter) = rest.next_if(|letter| letter.is_ascii_alphanumeric() || *letter == '-') {
        key.push(letter.to_ascii_lowercase());
    }
    while rest.next_if(|letter| matches!(letter, ' ' | '\t')).is_some() {}
    match rest.next() {
        None | Some('\n') => Some((key, None)),
        Some('=') => Some((key, Some(value(rest)?))),
        Some(_) => None,
    }
}

/// Parses a value up to the end of its line; after a `\` at the end it continues on the next line. Spaces around the value
/// are removed unless they are quoted.
fn value(rest: &mut Peekable<Chars<'_>>) -> Option<String> {
    let (mut value, mut is_quoted, mut is_comment) = (String::new(), false, false);
    // The length of the value without trailing spaces.
    let mut end = 0;
    loop {
        match rest.next() {
            None | Some('\n') if is_quoted => return None,
            None | Some('\n') => {
                value.truncate(end);
                return Some(value);
            }
            Some(_) if is_comment => continue,
            Some(letter) if letter.is_ascii_whitespace() && !is_quoted => {
                if !value.is_empty() {
                    value.push(letter);
                }
                continue;
            }
            Some('#' | ';') if !is_quoted => {
                is_comment = true;
                continue;
            }
            Some('"') => is_quoted = !is_quoted,
            Some('\\') => match rest.next()? {
                '\n' => continue,
                't' => value.push('\t'),
                'b' => value.push('\u{8}'),
                'n' => value.push('\n'),
                letter @ ('\\' | '"') => value.push(letter),
                _ => return None,
            },
            Some(letter) => value.push(letter),
        }
        end = value.len();
    }
}

/// The text in quotes, for a value or a subsection. It must not contain line breaks.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let line = |setting: Setting| {
            let Setting { section, subsection, key, value } = setting;
            let subsection = subsection.map(|name| format!(".{name}")).unwrap_or_default();
            format!("{section}{subsection}.{key}={}", value.unwrap_or_else(|| "(true)".to_owned()))
        };
        parse(text).into_iter().map(line).collect()
    }

    #[test]
    fn settings_are_read_as_git_reads_them() {
        let text = "\u{feff}# c\n[Core] Bare = true ; c\n\tfileMode\n[remote \"O\\\"r\\\\g\"]\r\n\turl = \"a b \" c  # c\n\
                    [http]extraHeader = Authorization: Basic \\\n\t\tCANARY\n[a.B]\nx = \"#;\\t\\n\"\n[empty]\ny =\n";
        let expected = [
            "core.bare=true",
            "core.filemode=(true)",
            "remote.O\"r\\g.url=a b  c",
            "http.extraheader=Authorization: Basic \t\tCANARY",
            "a.b.x=#;\t\n",
            "empty.y=",
        ];
        assert_eq!(shown(text), expected);
    }

    #[test]
    fn settings_end_at_a_syntax_error() {
        for text in ["[a]\nx = 1\n[b\ny = 2", "[a]\nx = 1\n= 2\n", "[a]\nx = 1\ny = \"2\n", "[a]\nx = 1\ny \\q = 2\n"] {
            assert_eq!(shown(text), ["a.x=1"], "{text}");
        }
        assert_eq!(shown("x = 1\n"), [""; 0]);
    }
}
