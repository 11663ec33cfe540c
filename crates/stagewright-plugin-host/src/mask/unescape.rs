//! Resolves the escapes of JSON, C, Rust, Python, shells, URLs and HTML in a text. Secrets are searched in the result as
//! well as in the text itself, since any of their characters may be escaped: there are more mixed forms than could be
//! listed.

use memchr::memchr3;

/// The bytes that begin an escape.
const INTRODUCERS: [u8; 3] = [b'\\', b'%', b'&'];

/// The longest HTML entity, as in `&#x10ffff;`. A longer one that hasn't ended isn't waited for.
const LONGEST_ENTITY: usize = 10;

/// A text with its escapes resolved, and where in the original its bytes come from.
#[derive(Debug, Default)]
pub(super) struct Unescaped {
    pub(super) text: Vec<u8>,
    parts: Vec<Segment>,
    /// The start of an incomplete escape at the end of the original; the original's length when there is none.
    whole: usize,
}

/// A part of the text, which extends to the start of the next one.
#[derive(Debug)]
struct Segment {
    /// Its start in the text.
    start: usize,
    /// Its start in the original.
    original: usize,
    /// The length of the escape in the original; none for plain text.
    escape: Option<usize>,
}

/// Whether the text may contain escapes.
pub(super) fn has_escapes(text: &[u8]) -> bool {
    memchr3(INTRODUCERS[0], INTRODUCERS[1], INTRODUCERS[2], text).is_some()
}

/// `text` with its escapes resolved.
pub(super) fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut unescaped = Unescaped::default();
    unescaped.fill(text);
    // At the end of a text, an incomplete escape is plain text.
    unescaped.text.extend_from_slice(&text[unescaped.whole..]);
    unescaped.text
}

/// One escape, with its length in bytes.
enum Unit {
    /// It stands for a character.
    Character(usize, char),
    /// It stands for a byte.
    Byte(usize, u8),
    /// It stands for something that a search leaves out: a line break, a control character, a backslash.
    Nothing(usize),
    /// The text ends within it.
    Unfinished,
}

impl Unescaped {
    pub(super) fn fill(&mut self, original: &[u8]) {
        self.text.clear();
        self.parts.clear();
        self.whole = original.len();
        let mut at = 0;
        while let Some(plain) = memchr3(INTRODUCERS[0], INTRODUCERS[1], INTRODUCERS[2], &original[at..]) {
            self.push(&original[at..at + plain], at, None);
            at += plain;
            let length = match unit(&original[at..]) {
                Unit::Character(length, character) => {
                    self.push(character.encode_utf8(&mut [0; 4]).as_bytes(), at, Some(length));
                    length
                }
                Unit::Byte(length, byte) => {
                    self.push(&[byte], at, Some(length));
                    length
                }
                Unit::Nothing(length) => length,
                Unit::Unfinished => {
                    self.whole = at;
                    return;
                }
            };
            at += length;
        }
        self.push(&original[at..], at, None);
    }

    fn push(&mut self, bytes: &[u8], original: usize, escape: Option<usize>) {
        if !bytes.is_empty() {
            self.parts.push(Segment { start: self.text.len(), original, escape });
            self.text.extend_from_slice(bytes);
        }
    }

    /// The range of the original that stands for the byte at `at`.
    fn place(&self, at: usize) -> (usize, usize) {
        let after = self.parts.partition_point(|part| part.start <= at);
        let part = &self.parts[after - 1];
        match part.escape {
            Some(length) => (part.original, part.original + length),
            None => (part.original + at - part.start, part.original + at - part.start + 1),
        }
    }

    /// The range of the original that stands for `length` bytes of the text from `start` on. None when it contains no
    /// escape, because a search of the original finds that already.
    pub(super) fn original(&self, start: usize, length: usize) -> Option<(usize, usize)> {
        let (first, last) = (self.place(start).0, self.place(start + length - 1).1);
        (last - first > length).then_some((first, last))
    }

    /// The number of bytes at the end of an original of `length` bytes that stand for the last `pending` bytes of the text,
    /// or belong to an incomplete escape.
    pub(super) fn pending(&self, pending: usize, length: usize) -> usize {
        let begins = if pending == 0 { self.whole } else { self.place(self.text.len() - pending).0 };
        length - begins
    }
}

/// Resolves the escape at the beginning of `text`.
fn unit(text: &[u8]) -> Unit {
    match text[0] {
        b'\\' => backslash(text),
        b'%' => match hex(&text[1..], 2) {
            Digits::Number(byte) => Unit::Byte(3, byte.to_le_bytes()[0]),
            Digits::Unfinished => Unit::Unfinished,
            Digits::No => Unit::Byte(1, b'%'),
        },
        b'&' => entity(text),
        byte => Unit::Byte(1, byte),
    }
}

/// Resolves an escape that begins with backslashes. Text that is escaped repeatedly has several of them.
fn backslash(text: &[u8]) -> Unit {
    let run = text.iter().take_while(|&&byte| byte == b'\\').count();
    let Some(&letter) = text.get(run) else { return Unit::Unfinished };
    let digits = &text[run + 1..];
    let begin = run + 1;
    match letter {
        b'u' if digits.first() == Some(&b'{') => braced(&digits[1..], begin + 1),
        b'u' => match hex(digits, 4) {
            Digits::Number(high @ 0xD800..=0xDBFF) => surrogates(high, &digits[4..], begin + 4),
            Digits::Number(number) => character(begin + 4, number),
            Digits::Unfinished => Unit::Unfinished,
            Digits::No => Unit::Byte(begin, letter),
        },
        b'U' => match hex(digits, 8) {
            Digits::Number(number) => character(begin + 8, number),
            Digits::Unfinished => Unit::Unfinished,
            Digits::No => Unit::Byte(begin, letter),
        },
        b'x' => match hex(digits, 2) {
            Digits::Number(number) => Unit::Byte(begin + 2, number.to_le_bytes()[0]),
            Digits::Unfinished => Unit::Unfinished,
            Digits::No => Unit::Byte(begin, letter),
        },
        b'0'..=b'3' => match digits {
            [second @ b'0'..=b'7', third @ b'0'..=b'7', ..] => {
                Unit::Byte(begin + 2, (letter - b'0') << 6 | (second - b'0') << 3 | (third - b'0'))
            }
            [] | [b'0'..=b'7'] => Unit::Unfinished,
            _ => Unit::Byte(begin, letter),
        },
        b'n' | b'r' | b'b' | b'f' | b'v' | b'a' | b'e' | b'E' => Unit::Nothing(begin),
        b't' => Unit::Byte(begin, b'\t'),
        // Left to be resolved by itself.
        b'%' | b'&' => Unit::Nothing(run),
        letter => Unit::Byte(begin, letter),
    }
}

/// Resolves `XXXX}` after `\u{`.
fn braced(text: &[u8], begin: usize) -> Unit {
    let count = text.iter().take(7).take_while(|byte| byte.is_ascii_hexdigit()).count();
    match (hex(text, count), text.get(count)) {
        (Digits::Number(number), Some(b'}')) if count > 0 => character(begin + count + 1, number),
        (_, None) if count < 7 => Unit::Unfinished,
        _ => Unit::Byte(begin - 1, b'u'),
    }
}

/// Resolves what follows `\u` and the first half of a surrogate pair of UTF-16.
fn surrogates(high: u32, text: &[u8], begin: usize) -> Unit {
    let run = text.iter().take_while(|&&byte| byte == b'\\').count();
    match text.get(run) {
        None => Unit::Unfinished,
        Some(b'u') if run > 0 => match hex(&text[run + 1..], 4) {
            Digits::Number(low @ 0xDC00..=0xDFFF) => {
                character(begin + run + 5, 0x1_0000 + ((high - 0xD800) << 10) + (low - 0xDC00))
            }
            Digits::Unfinished => Unit::Unfinished,
            _ => Unit::Nothing(begin),
        },
        Some(_) => Unit::Nothing(begin),
    }
}

/// Resolves an HTML entity: `&#39;`, `&#x27;`, and the names that every encoder uses.
fn entity(text: &[u8]) -> Unit {
    const NAMED: [(&[u8], char); 6] =
        [(b"amp", '&'), (b"lt", '<'), (b"gt", '>'), (b"quot", '"'), (b"apos", '\''), (b"nbsp", '\u{a0}')];
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'#';
    let name = &text[1..][..text[1..].iter().take(LONGEST_ENTITY).take_while(|byte| is_part(byte)).count()];
    let end = name.len() + 2;
    let decimal = |digits: &[u8]| std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u32>().ok());
    match (text.get(name.len() + 1), name) {
        (None, _) if name.len() < LONGEST_ENTITY => Unit::Unfinished,
        (Some(b';'), [b'#', b'x' | b'X', digits @ ..]) => match hex(digits, digits.len()) {
            Digits::Number(number) if !digits.is_empty() => character(end, number),
            _ => Unit::Byte(1, b'&'),
        },
        (Some(b';'), [b'#', digits @ ..]) => {
            decimal(digits).map_or(Unit::Byte(1, b'&'), |number| character(end, number))
        }
        (Some(b';'), name) => {
            let known = NAMED.iter().find(|(known, _)| *known == name);
            known.map_or(Unit::Byte(1, b'&'), |(_, named)| Unit::Character(end, *named))
        }
        _ => Unit::Byte(1, b'&'),
    }
}

fn character(length: usize, number: u32) -> Unit {
    match char::from_u32(number) {
        Some(character) if character.is_control() && character != '\t' => Unit::Nothing(length),
        Some(character) => Unit::Character(length, character),
        None => Unit::Nothing(length),
    }
}

enum Digits {
    Number(u32),
    /// There are only digits, but the text ends before there are enough.
    Unfinished,
    No,
}

/// Parses the first `count` hexadecimal digits.
fn hex(text: &[u8], count: usize) -> Digits {
    let digits = &text[..count.min(text.len())];
    let number = digits.iter().try_fold(0_u32, |number, &digit| {
        let digit = char::from(digit).to_digit(16)?;
        Some(number << 4 | digit)
    });
    match number {
        Some(number) if digits.len() == count => Digits::Number(number),
        Some(_) => Digits::Unfinished,
        None => Digits::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn is(escaped: &str, plain: &str) {
        assert_eq!(String::from_utf8_lossy(&unescaped(escaped.as_bytes())), plain, "{escaped}");
    }

    #[test]
    fn escapes_are_resolved() {
        is(
            r#"it\u0027s \"a\" \\\"b\\\" \/ \x26 \303\251 \u00e9 \ud83d\ude00 \u{1F600} \U0001f600"#,
            "it's \"a\" \"b\" / & é é 😀 😀 😀",
        );
        is("%41%c3%A9+%2B %zz 100%", "Aé++ %zz 100%");
        is("&amp;&lt;&#39;&#x27;&#X3C;&quot; &no; & &#; &#x;", "&<''<\" &no; & &#; &#x;");
        is(r"C:\new\tab \u12 \ud83d \q\", "C:ew\tab u12  q\\");
    }

    #[test]
    fn an_incomplete_escape_at_the_end_is_held_back() {
        for (text, whole) in
            [(r"ab\u00", 2), (r"ab\", 2), ("ab%4", 2), ("ab&#3", 2), (r"ab\ud83d", 2), (r"ab\u{1", 2), ("ab&q", 2)]
        {
            let mut unescaped = Unescaped::default();
            unescaped.fill(text.as_bytes());
            assert_eq!((unescaped.whole, unescaped.text.as_slice()), (whole, &b"ab"[..]), "{text}");
            assert_eq!(unescaped.pending(1, text.len()), text.len() - 1, "from the last complete byte on");
        }
    }
}
