//! Splits expressions into tokens before CEL's parser sees them: to find the end of an expression in `${{ }}`, to quote
//! names with hyphens, and to limit nesting. Offsets are in bytes.

use std::borrow::Cow;
use std::ops::Range;

/// Variables whose members may have hyphens in their names.
const HYPHENATED_ROOTS: [&str; 5] = ["stages", "inputs", "matrix", "region", "environments"];

/// Words that CEL's lexer never treats as names.
const KEYWORDS: [&str; 4] = ["in", "true", "false", "null"];

/// CEL's parser and evaluator are recursive. These limits keep both well within a thread's stack of 2 MiB.
const MAX_BYTES: usize = 8 * 1024;
const MAX_NESTING: usize = 24;
const MAX_OPERATORS: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CelToken {
    /// A name, plain or in backticks, or a keyword.
    Word,
    /// A string or bytes literal, including its prefix and quotes.
    Text,
    Number,
    Dot,
    Open,
    Close,
    /// White space or a comment.
    Space,
    /// Any other single character.
    Other,
}

/// Splits a text into tokens that together cover all of it. Never fails: text that CEL rejects becomes tokens too.
pub(super) struct Tokens<'a> {
    source: &'a str,
    at: usize,
}

impl<'a> Tokens<'a> {
    pub(super) fn new(source: &'a str, at: usize) -> Tokens<'a> {
        Tokens { source, at }
    }

    fn rest(&self) -> &'a [u8] {
        &self.source.as_bytes()[self.at..]
    }
}

impl Iterator for Tokens<'_> {
    type Item = (CelToken, Range<usize>);

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest();
        let (token, length) = match *rest.first()? {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => {
                let word = length_while(rest, is_name_byte);
                match rest.get(word) {
                    Some(b'"' | b'\'') if is_string_prefix(&rest[..word]) => {
                        let is_raw = rest[..word].iter().any(|byte| byte.eq_ignore_ascii_case(&b'r'));
                        (CelToken::Text, word + string_length(&rest[word..], is_raw))
                    }
                    _ => (CelToken::Word, word),
                }
            }
            b'"' | b'\'' => (CelToken::Text, string_length(rest, false)),
            b'`' => (CelToken::Word, 1 + length_through(&rest[1..], b'`')),
            b'0'..=b'9' => (CelToken::Number, length_while(rest, is_name_byte)),
            b'/' if rest.starts_with(b"//") => (CelToken::Space, length_through(rest, b'\n')),
            byte if byte.is_ascii_whitespace() => {
                (CelToken::Space, length_while(rest, |byte| byte.is_ascii_whitespace()))
            }
            b'.' => (CelToken::Dot, 1),
            b'(' | b'[' | b'{' => (CelToken::Open, 1),
            b')' | b']' | b'}' => (CelToken::Close, 1),
            _ => (CelToken::Other, self.source[self.at..].chars().next().map_or(1, char::len_utf8)),
        };
        let start = self.at;
        self.at += length;
        Some((token, start..self.at))
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn length_while(bytes: &[u8], holds: impl Fn(u8) -> bool) -> usize {
    bytes.iter().position(|&byte| !holds(byte)).unwrap_or(bytes.len())
}

fn length_through(bytes: &[u8], end: u8) -> usize {
    bytes.iter().position(|&byte| byte == end).map_or(bytes.len(), |position| position + 1)
}

fn is_string_prefix(word: &[u8]) -> bool {
    matches!(word, [b'r' | b'R' | b'b' | b'B'] | [b'r' | b'R', b'b' | b'B'] | [b'b' | b'B', b'r' | b'R'])
}

/// Length of the literal that starts with the quote at the front of `bytes`, or all of `bytes` if it isn't closed.
fn string_length(bytes: &[u8], is_raw: bool) -> usize {
    let quote = bytes[0];
    let fence = if bytes.starts_with(&[quote; 3]) { 3 } else { 1 };
    let mut at = fence;
    while at < bytes.len() {
        if bytes[at..].starts_with(&[quote; 3][..fence]) {
            return at + fence;
        }
        at += if bytes[at] == b'\\' && !is_raw { 2 } else { 1 };
    }
    bytes.len()
}

/// The offset of the `}}` that ends the expression starting at `start`.
pub(super) fn end_of_expression(source: &str, start: usize) -> Option<usize> {
    let mut braces = 0_usize;
    for (_, range) in Tokens::new(source, start).filter(|(token, _)| matches!(token, CelToken::Open | CelToken::Close))
    {
        match &source.as_bytes()[range.start..] {
            [b'{', ..] => braces += 1,
            [b'}', b'}', ..] if braces == 0 => return Some(range.start),
            [b'}', ..] => braces = braces.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// Rejects a text that CEL's parser or evaluator could overflow the stack on. The error is a reason and a byte offset.
pub(super) fn check_size(source: &str) -> Result<(), (String, usize)> {
    if source.len() > MAX_BYTES {
        return Err((format!("it is longer than {MAX_BYTES} bytes"), MAX_BYTES));
    }
    let (mut nesting, mut operators) = (0_usize, 0_usize);
    for (token, range) in Tokens::new(source, 0) {
        match token {
            CelToken::Open => nesting += 1,
            CelToken::Close => nesting = nesting.saturating_sub(1),
            CelToken::Dot | CelToken::Other => operators += 1,
            CelToken::Word | CelToken::Text | CelToken::Number | CelToken::Space => {}
        }
        if nesting > MAX_NESTING {
            return Err((format!("it is nested more than {MAX_NESTING} levels deep"), range.start));
        }
        if operators > MAX_OPERATORS {
            return Err((format!("it has more than {MAX_OPERATORS} operators"), range.start));
        }
    }
    Ok(())
}

/// A text in which every member name that CEL wouldn't parse as a name is in backticks.
pub(super) struct Quoted<'a> {
    pub(super) text: Cow<'a, str>,
    /// Offsets in `text` of the added backticks, ascending.
    inserted: Vec<usize>,
}

impl Quoted<'_> {
    /// Converts an offset in `text` to one in the original text.
    pub(super) fn original(&self, offset: usize) -> usize {
        offset - self.inserted.partition_point(|&inserted| inserted < offset)
    }
}

/// Puts backticks around names with hyphens in chains of members that start with `stages`, `inputs` or `matrix`.
///
/// CEL parses `stages.deploy-staging.outputs.url` as a subtraction, which is never what a pipeline with a stage
/// `deploy-staging` means. In a chain that starts with one of these variables, a hyphen between two letters or digits
/// is therefore part of the name, and a subtraction needs spaces: `inputs.replicas - 1`.
pub(super) fn quote_names(source: &str) -> Quoted<'_> {
    let mut inserted = Vec::new();
    let mut text = String::new();
    let mut copied = 0;
    let mut tokens = Tokens::new(source, 0);
    // `in_chain`: the tokens so far end in a chain of members that starts with one of the roots. An opening bracket
    // starts a new context, as in `stages[inputs.a-b].outputs`; `outer` holds the values to restore at closing
    // brackets.
    let (mut in_chain, mut after_dot) = (false, false);
    let mut outer = Vec::new();
    while let Some((token, range)) = tokens.next() {
        match token {
            CelToken::Word | CelToken::Number if after_dot && in_chain => {
                let name = range.start..range.start + name_length(&source.as_bytes()[range.start..]);
                // `name` is empty for a word that is in backticks already, and such a word stays as it is.
                if name.end > range.end || token == CelToken::Number || KEYWORDS.contains(&&source[name.clone()]) {
                    text.push_str(&source[copied..name.start]);
                    inserted.push(text.len());
                    text.push('`');
                    text.push_str(&source[name.clone()]);
                    inserted.push(text.len());
                    text.push('`');
                    copied = name.end;
                    tokens.at = name.end;
                }
            }
            CelToken::Word => in_chain = !after_dot && HYPHENATED_ROOTS.contains(&&source[range.clone()]),
            CelToken::Open => {
                outer.push(in_chain);
                in_chain = false;
            }
            CelToken::Close => in_chain = outer.pop().unwrap_or(false),
            CelToken::Dot | CelToken::Space => {}
            // `a.?b` selects an optional member.
            CelToken::Other if after_dot && &source[range.clone()] == "?" => continue,
            CelToken::Text | CelToken::Number | CelToken::Other => in_chain = false,
        }
        after_dot = token == CelToken::Dot || (after_dot && token == CelToken::Space);
    }
    if inserted.is_empty() {
        return Quoted { text: Cow::Borrowed(source), inserted };
    }
    text.push_str(&source[copied..]);
    Quoted { text: Cow::Owned(text), inserted }
}

/// Length of letters, digits and underscores, with single hyphens between them.
fn name_length(bytes: &[u8]) -> usize {
    let mut length = length_while(bytes, is_name_byte);
    while length > 0 && bytes.get(length) == Some(&b'-') {
        let more = length_while(&bytes[length + 1..], is_name_byte);
        if more == 0 {
            break;
        }
        length += 1 + more;
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn quoted(source: &str, expected: &str) {
        let quoted = quote_names(source);
        assert_eq!(quoted.text, expected);
        for (offset, byte) in quoted.text.bytes().enumerate().filter(|(_, byte)| *byte != b'`') {
            assert_eq!(source.as_bytes()[quoted.original(offset)], byte, "offset {offset} of {expected}");
        }
    }

    #[test]
    fn hyphenated_member_is_quoted() {
        quoted("stages.deploy-staging.outputs.url", "stages.`deploy-staging`.outputs.url");
        quoted("stages.test-2.outputs.my-out + 'x'", "stages.`test-2`.outputs.`my-out` + 'x'");
        quoted("stages['deploy-staging'].outputs.my-out", "stages['deploy-staging'].outputs.`my-out`");
        quoted("f(inputs.my-input, matrix.my-axis)", "f(inputs.`my-input`, matrix.`my-axis`)");
        quoted("{'a': stages.b-c.result}[inputs.d-e]", "{'a': stages.`b-c`.result}[inputs.`d-e`]");
        quoted("stages . a-b . ?c-d", "stages . `a-b` . ?`c-d`");
        quoted("stages.1st.result", "stages.`1st`.result");
    }

    #[test]
    fn other_hyphens_stay_subtractions() {
        for source in [
            "inputs.replicas - 1",
            "inputs.replicas -1",
            "a.b-c",
            "1-2",
            "event.size-1",
            "'stages.a-b'",
            "stages.a.outputs.n - stages.b.outputs.n",
            "f(stages.a).b-c",
            "inputs.a--b",
            "x.inputs.a-b",
            "stages.`a-b`.result",
        ] {
            quoted(source, source);
        }
    }

    #[test]
    fn expression_ends_at_first_closing_braces_outside_of_literals() {
        let end = |text: &str| end_of_expression(text, 0).map(|end| text[..end].to_owned());
        assert_eq!(end("a }} b }}").as_deref(), Some("a "));
        assert_eq!(end("'}}' }}").as_deref(), Some("'}}' "));
        assert_eq!(end(r#""\"}}" }}"#).as_deref(), Some(r#""\"}}" "#));
        assert_eq!(end(r"r'\' }}").as_deref(), Some(r"r'\' "));
        assert_eq!(end("'''it's }}''' }}").as_deref(), Some("'''it's }}''' "));
        assert_eq!(end("{'a': {'b': 1}}['a'] }}").as_deref(), Some("{'a': {'b': 1}}['a'] "));
        assert_eq!(end("{'a': 1}}}").as_deref(), Some("{'a': 1}"));
        assert_eq!(end("'a }}"), None);
        assert_eq!(end("a }"), None);
    }
}
