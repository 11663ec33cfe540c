//! `dotenv:`: one value of a dotenv file.
//!
//! There is no standard for these files; the syntax here is what their parsers have in common. What they read differently,
//! such as `${NAME}` and `$NAME`, which some replace by a variable, is refused, so that a secret is never another one than expected.

use zeroize::Zeroizing;

use crate::error::Fault;
use crate::local::read_bytes;
use crate::text::into_text;
use crate::{LARGEST, SourceContext};

/// The value of the variable `key` in the file at `path`.
pub(crate) fn read(path: &str, key: &str, context: &SourceContext) -> Result<Zeroizing<String>, Fault> {
    let shown = context.root.join(path).display().to_string();
    let text = into_text(read_bytes(path, LARGEST, context)?, &shown)?;
    match value(&text, key) {
        Ok(Some(value)) => Ok(value),
        Ok(None) => Err(Fault::new(format!("is not set: {shown} has no variable {key}"))
            .help(format!("add a line `{key}=…` to the file, or change `from` in [secrets.*]"))),
        Err(SyntaxError { line, what, help }) => {
            Err(Fault::new(format!("can't be read from {shown}: line {line} {what}")).help(help))
        }
    }
}

/// Why a file can't be read. Contains nothing of the file but the number of a line.
#[derive(Debug, PartialEq, Eq)]
struct SyntaxError {
    line: usize,
    /// The predicate of a sentence about the line.
    what: &'static str,
    help: &'static str,
}

/// The value of a variable; none if the file doesn't set it.
fn value(text: &str, key: &str) -> Result<Option<Zeroizing<String>>, SyntaxError> {
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
    let mut rest = text;
    let mut found = None;
    while !rest.is_empty() {
        let line = text[..text.len() - rest.len()].matches('\n').count() + 1;
        let error = |what, help| SyntaxError { line, what, help };
        let (first, following) = rest.split_once('\n').unwrap_or((rest, ""));
        let first = first.trim();
        if first.is_empty() || first.starts_with('#') {
            rest = following;
            continue;
        }
        let Some((name, _)) = first.split_once('=') else {
            return Err(error("isn't an assignment", "write `KEY=value`, and `#` in front of a comment"));
        };
        let name = without_export(name.trim());
        let assigned = &rest[rest.find('=').map_or(rest.len(), |at| at + 1)..];
        let assigned = assigned.trim_start_matches([' ', '\t']);
        let parsed;
        (parsed, rest) = match assigned.chars().next() {
            Some(quote @ ('\'' | '"')) => {
                let quoted = quoted(&assigned[1..], quote);
                quoted.ok_or_else(|| {
                    error(
                        "has an unclosed quote, or text after a quote",
                        "close the quote, and leave only a comment after it",
                    )
                })?
            }
            Some('`') => return Err(error("begins a value with a backtick", "use single quotes")),
            _ => unquoted(assigned),
        };
        if name != key {
            continue;
        }
        if parsed.contains_variable {
            return Err(error(
                "has a `$` with a name, which some programs replace by a variable and others don't",
                "write the value itself, in single quotes if the `$` belongs to it",
            ));
        }
        if found.replace(parsed.value).is_some() {
            return Err(error("sets the variable again", "remove one of the two lines"));
        }
    }
    Ok(found)
}

/// A value of the file.
struct Parsed {
    value: Zeroizing<String>,
    /// Whether other parsers would replace a part of it by a variable.
    contains_variable: bool,
}

fn without_export(name: &str) -> &str {
    let after = name.strip_prefix("export").filter(|after| after.starts_with([' ', '\t']));
    after.map_or(name, str::trim_start)
}

/// Whether a text begins with what some parsers replace: `$NAME`, `${NAME}`, or the output of a program, `$(PROGRAM)`.
fn is_variable(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next() == Some('$') && letters.next().is_some_and(|next| next.is_alphabetic() || "_{(".contains(next))
}

/// A value up to the end of its line or a comment, and the following lines.
fn unquoted(text: &str) -> (Parsed, &str) {
    let (line, following) = text.split_once('\n').unwrap_or((text, ""));
    let mut before = ' ';
    let comment = line.char_indices().find(|&(_, letter)| {
        let begins = letter == '#' && matches!(before, ' ' | '\t');
        before = letter;
        begins
    });
    let value = line[..comment.map_or(line.len(), |(at, _)| at)].trim();
    (
        Parsed {
            value: Zeroizing::new(value.to_owned()),
            contains_variable: value.match_indices('$').any(|(at, _)| is_variable(&value[at..])),
        },
        following,
    )
}

/// A value up to the closing quote, and the following lines. None if the quote isn't closed, or if anything but a comment
/// follows it.
fn quoted(text: &str, quote: char) -> Option<(Parsed, &str)> {
    // A value is never longer than its spelling: the buffer doesn't grow, which would leave a copy in memory.
    let mut value = Zeroizing::new(String::with_capacity(text.len()));
    let mut contains_variable = false;
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        if letter == quote {
            let after = &text[at + quote.len_utf8()..];
            let (line, following) = after.split_once('\n').unwrap_or((after, ""));
            let line = line.trim();
            let is_end = line.is_empty() || line.starts_with('#');
            return is_end.then_some((Parsed { value, contains_variable }, following));
        }
        if quote == '"' && letter == '\\' {
            match letters.next()?.1 {
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                same @ ('"' | '\\' | '$') => value.push(same),
                other => value.extend(['\\', other]),
            }
            continue;
        }
        contains_variable |= quote == '"' && is_variable(&text[at..]);
        value.push(letter);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\u{FEFF}# comment with A=1\r
PLAIN=value\r
 export  SPACED = two words  # comment

EMPTY=
HASH=a#b
COMMENT= # nothing
SINGLE='a # ${HOME} \\n \"b\"' # comment
DOUBLE=\"line\\nnext\\t\\\\ \\\"q\\\" \\$x \\d # \"
URL=https://u:p=w@host/?a=b
KEY='-----BEGIN KEY-----
PLAIN=inside
-----END KEY-----'
DOLLAR=5$ or a$-b
VARIABLE=${HOME}/x
export=1
LAST=end";

    #[test]
    fn values_are_read_as_the_parsers_of_many_languages_read_them() {
        for (key, expected) in [
            ("PLAIN", "value"),
            ("SPACED", "two words"),
            ("EMPTY", ""),
            ("HASH", "a#b"),
            ("COMMENT", ""),
            ("SINGLE", "a # ${HOME} \\n \"b\""),
            ("DOUBLE", "line\nnext\t\\ \"q\" $x \\d # "),
            ("URL", "https://u:p=w@host/?a=b"),
            ("KEY", "-----BEGIN KEY-----\nPLAIN=inside\n-----END KEY-----"),
            ("DOLLAR", "5$ or a$-b"),
            ("export", "1"),
            ("LAST", "end"),
        ] {
            let found = value(FILE, key).unwrap();
            assert_eq!(found.as_deref().map(String::as_str), Some(expected), "{key}");
        }
        assert_eq!(value(FILE, "A").unwrap(), None);
        assert_eq!(value(FILE, "plain").unwrap(), None);
    }

    #[test]
    fn what_parsers_read_differently_is_refused() {
        for (text, line, what) in [
            ("A=1\nnonsense\n", 2, "isn't an assignment"),
            ("B='1\n2'\nA=\"x\n", 3, "unclosed"),
            ("A='x'y\n", 1, "text after a quote"),
            ("A=`x`\n", 1, "backtick"),
            ("A=${B}\n", 1, "has a `$`"),
            ("A=x$B\n", 1, "has a `$`"),
            ("\nA=\"x${B}\"\n", 2, "has a `$`"),
            ("A=\"$(id)\"\n", 1, "has a `$`"),
            ("A=1\nA=1\n", 2, "again"),
        ] {
            let error = value(text, "A").unwrap_err();
            assert!(error.line == line && error.what.contains(what), "{text}: {error:?}");
        }
        assert_eq!(value("B=${A}\nB=2\nA=x", "A").unwrap().as_deref().map(String::as_str), Some("x"));
    }

    #[test]
    fn an_error_names_the_line_and_nothing_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(".env"), "OTHER=confidential\nA='confidential\n").unwrap();
        let context = SourceContext { root: folder.path().to_owned(), ..SourceContext::default() };
        for key in ["A", "B"] {
            let error = read(".env", key, &context).unwrap_err().for_secret("s");
            assert!(error.message.contains(".env: line 2") && !error.message.contains("confidential"), "{error}");
        }
        std::fs::write(folder.path().join(".env"), "OTHER=confidential\n").unwrap();
        let error = read(".env", "A", &context).unwrap_err().for_secret("s");
        assert!(error.message.ends_with(".env has no variable A"), "{error}");
    }
}
