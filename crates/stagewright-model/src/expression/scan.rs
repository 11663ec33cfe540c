//! What has to be known of CEL's tokens before its parser sees a text: where an expression in `${{ }}` ends, which
//! names hold a hyphen, and whether the nesting is sane. Offsets are bytes.

use std::borrow::Cow;
use std::ops::Range;

/// Members of these may be written with a hyphen.
const HYPHENATED_ROOTS: [&str; 3] = ["stages", "inputs", "matrix"];

/// Words that CEL's lexer never takes for a name.
const KEYWORDS: [&str; 4] = ["in", "true", "false", "null"];

/// CEL's parser and evaluator recurse; these keep both well inside a thread's stack of 2 MiB.
const MAX_BYTES: usize = 8 * 1024;
const MAX_NESTING: usize = 24;
const MAX_OPERATORS: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A name, plain or in backticks, or a keyword.
    Word,
    /// A string or bytes literal, prefix and quotes included.
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

/// Splits a text into tokens that together cover all of it. Never fails: what CEL would refuse comes out as something.
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
    type Item = (Token, Range<usize>);

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest();
        let (token, length) = match *rest.first()? {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => {
                let word = length_while(rest, is_name_byte);
                match rest.get(word) {
                    Some(b'"' | b'\'') if is_string_prefix(&rest[..word]) => {
                        let is_raw = rest[..word].iter().any(|byte| byte.eq_ignore_ascii_case(&b'r'));
                        (Token::Text, word + string_length(&rest[word..], is_raw))
                    }
                    _ => (Token::Word, word),
                }
            }
            b'"' | b'\'' => (Token::Text, string_length(rest, false)),
            b'`' => (Token::Word, 1 + length_through(&rest[1..], b'`')),
            b'0'..=b'9' => (Token::Number, length_while(rest, is_name_byte)),
            b'/' if rest.starts_with(b"//") => (Token::Space, length_through(rest, b'\n')),
            byte if byte.is_ascii_whitespace() => (Token::Space, length_while(rest, |byte| byte.is_ascii_whitespace())),
            b'.' => (Token::Dot, 1),
            b'(' | b'[' | b'{' => (Token::Open, 1),
            b')' | b']' | b'}' => (Token::Close, 1),
            _ => (Token::Other, self.source[self.at..].chars().next().map_or(1, char::len_utf8)),
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

/// Length of the literal that starts with a quote at the front of `bytes`; all of them when it isn't closed.
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

/// Where the `}}` stands that ends the expression which starts at `start`.
pub(super) fn end_of_expression(source: &str, start: usize) -> Option<usize> {
    let mut braces = 0_usize;
    for (_, range) in Tokens::new(source, start).filter(|(token, _)| matches!(token, Token::Open | Token::Close)) {
        match &source.as_bytes()[range.start..] {
            [b'{', ..] => braces += 1,
            [b'}', b'}', ..] if braces == 0 => return Some(range.start),
            [b'}', ..] => braces = braces.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// Refuses what would take CEL's recursive parser or evaluator too deep. The error says why and where.
pub(super) fn check_size(source: &str) -> Result<(), (String, usize)> {
    if source.len() > MAX_BYTES {
        return Err((format!("it is longer than {MAX_BYTES} bytes"), MAX_BYTES));
    }
    let (mut nesting, mut operators) = (0_usize, 0_usize);
    for (token, range) in Tokens::new(source, 0) {
        match token {
            Token::Open => nesting += 1,
            Token::Close => nesting = nesting.saturating_sub(1),
            Token::Dot | Token::Other => operators += 1,
            Token::Word | Token::Text | Token::Number | Token::Space => {}
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

/// A text in which every member name that CEL wouldn't take as a name stands in backticks.
pub(super) struct Quoted<'a> {
    pub(super) text: Cow<'a, str>,
    /// Where in `text` a backtick was put in.
    inserted: Vec<usize>,
}

impl Quoted<'_> {
    /// The offset in the text as written for an offset in `text`.
    pub(super) fn original(&self, offset: usize) -> usize {
        offset - self.inserted.partition_point(|&inserted| inserted < offset)
    }
}

/// Puts backticks around hyphenated members of `stages`, `inputs` and `matrix`, however far down the chain.
///
/// CEL takes `stages.deploy-staging.outputs.url` for a subtraction, which nobody means who named a stage
/// `deploy-staging`. So in a chain that starts with one of these names a hyphen between two letters or digits belongs
/// to the name, and a subtraction is written with spaces: `inputs.replicas - 1`.
pub(super) fn quote_names(source: &str) -> Quoted<'_> {
    let mut inserted = Vec::new();
    let mut text = String::new();
    let mut copied = 0;
    let mut tokens = Tokens::new(source, 0);
    // Whether the text up to here is a chain from one of the roots; the stack keeps it for each open bracket.
    let (mut in_chain, mut after_dot) = (false, false);
    let mut outer = Vec::new();
    while let Some((token, range)) = tokens.next() {
        match token {
            Token::Word | Token::Number if after_dot && in_chain => {
                let name = range.start..range.start + name_length(&source.as_bytes()[range.start..]);
                // A name that is in backticks already has length 0 here.
                if name.end > range.end || token == Token::Number || KEYWORDS.contains(&&source[name.clone()]) {
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
            Token::Word => in_chain = !after_dot && HYPHENATED_ROOTS.contains(&&source[range.clone()]),
            Token::Open => {
                outer.push(in_chain);
                in_chain = false;
            }
            Token::Close => in_chain = outer.pop().unwrap_or(false),
            Token::Dot | Token::Space => {}
            // `a.?b` selects an optional member.
            Token::Other if after_dot && &source[range.clone()] == "?" => continue,
            Token::Text | Token::Number | Token::Other => in_chain = false,
        }
        after_dot = token == Token::Dot || (after_dot && token == Token::Space);
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
    fn a_hyphen_inside_a_member_belongs_to_the_name() {
        quoted("stages.deploy-staging.outputs.url", "stages.`deploy-staging`.outputs.url");
        quoted("stages.test-2.outputs.my-out + 'x'", "stages.`test-2`.outputs.`my-out` + 'x'");
        quoted("stages['deploy-staging'].outputs.my-out", "stages['deploy-staging'].outputs.`my-out`");
        quoted("f(inputs.my-input, matrix.my-axis)", "f(inputs.`my-input`, matrix.`my-axis`)");
        quoted("{'a': stages.b-c.result}[inputs.d-e]", "{'a': stages.`b-c`.result}[inputs.`d-e`]");
        quoted("stages . a-b . ?c-d", "stages . `a-b` . ?`c-d`");
        quoted("stages.1st.result", "stages.`1st`.result");
    }

    #[test]
    fn other_hyphens_subtract() {
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
    fn an_expression_ends_outside_strings_and_braces() {
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
