//! The spellings of a secret that are masked: the value itself, its lines, and the encodings that are common in logs. Text
//! in which only some characters are escaped can't be listed here: `unescape` resolves it.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use stagewright_model::is_joiner;

use super::SHORTEST_MASKED;
use crate::strip::stripped;

/// The fewest bytes of a line, or of an upper-case or lower-case form, that is masked. Shorter ones are too often
/// something else.
const SHORTEST_PART: usize = 8;

/// The spellings of a value, without the characters that a search leaves out.
pub(super) struct Spellings {
    /// The value itself and its textual encodings.
    pub(super) texts: BTreeSet<Vec<u8>>,
    /// Its bytes in hexadecimal, which contains nothing that could be escaped.
    pub(super) numbers: BTreeSet<Vec<u8>>,
}

/// All spellings of `value`.
pub(super) fn spellings(value: &str) -> Spellings {
    let mut texts = vec![value.to_owned()];
    if value.len() >= SHORTEST_PART {
        // Host names and other text that is converted to one case.
        texts.extend([value.to_lowercase(), value.to_uppercase()]);
    }
    texts.extend(escaped(value));
    texts.extend(percent_encoded(value));
    let shown = stripped(value);
    if shown != value {
        texts.push(shown.into_owned());
    }
    // Form fields whose only special characters are spaces; quoted values in SQL, YAML and CSV.
    texts.extend([value.replace(' ', "+"), value.replace('\'', "''"), value.replace('"', "\"\"")]);
    let percent = value.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
    texts.extend([percent.to_uppercase(), percent]);
    texts.extend(base64(value));
    if value.contains('\n') {
        for line in lines(value) {
            texts.push(line.to_owned());
            texts.extend(base64(line));
        }
    }
    let needles = |texts: Vec<String>| {
        let squeezed = texts.into_iter().map(|text| text.replace(is_passed_over, "").into_bytes());
        squeezed.filter(|needle| needle.len() >= SHORTEST_MASKED).collect()
    };
    Spellings { texts: needles(texts), numbers: needles(hexadecimal(value)) }
}

/// Whether a search leaves out the character: line breaks, since tools wrap long values, and invisible characters and the
/// replacement character, since a reader still recognises a secret that contains them.
fn is_passed_over(character: char) -> bool {
    matches!(character, '\n' | '\r' | '\u{fffd}') || is_joiner(character)
}

/// The first bytes in UTF-8 of the characters that a search leaves out, except for line breaks.
pub(super) const PASSED_OVER: [u8; 2] = [0xE2, 0xEF];

/// The length of a character at the beginning of `text` that a search [leaves out](is_passed_over); 0 for any other. None
/// when `text` is too short to decide.
pub(super) fn passed_over(text: &[u8]) -> Option<usize> {
    match text {
        [b'\n' | b'\r', ..] => Some(1),
        [0xE2, 0x80, 0x8C | 0x8D, ..] | [0xEF, 0xB8, 0x8E | 0x8F, ..] | [0xEF, 0xBF, 0xBD, ..] => Some(3),
        [0xE2 | 0xEF] | [0xE2, 0x80] | [0xEF, 0xB8 | 0xBF] => None,
        _ => Some(0),
    }
}

/// Whether the byte ends a line. A mask is repeated on each line that a secret spans.
pub(super) fn is_break(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

/// Hexadecimal in lower and upper case: without separators, with the usual separators between bytes, and in groups of two
/// and four bytes like the output of `xxd`, whose first group is shorter when the secret begins within one.
fn hexadecimal(value: &str) -> Vec<String> {
    const BETWEEN: [&str; 9] = ["", " ", ":", "-", ",", ", ", ",0x", ", 0x", " 0x"];
    let bytes: Vec<String> = value.bytes().map(|byte| format!("{byte:02x}")).collect();
    let grouped = |size: usize, first: usize| {
        let (first, rest) = bytes.split_at(first.min(bytes.len()));
        let groups = [first].into_iter().chain(rest.chunks(size)).filter(|group| !group.is_empty());
        groups.map(<[String]>::concat).collect::<Vec<_>>().join(" ")
    };
    let mut all: Vec<String> = BETWEEN.iter().map(|between| bytes.join(between)).collect();
    all.extend((0..2).map(|first| grouped(2, first)));
    all.extend((0..4).map(|first| grouped(4, first)));
    let upper = all.iter().map(|text| text.to_uppercase().replace('X', "x")).collect::<Vec<_>>();
    all.extend(upper);
    all
}

/// The lines of a key or a document that are specific to it: not the `-----BEGIN` and `-----END` lines.
fn lines(value: &str) -> impl Iterator<Item = &str> {
    value.lines().map(str::trim).filter(|line| line.len() >= SHORTEST_PART && !line.starts_with("-----"))
}

/// Base64 in both alphabets (RFC 4648), also as a part of a longer text. Three bytes become four characters, so there are
/// three forms, depending on where in a group the secret begins. Characters that also encode bits of its neighbours are
/// left out; the last one is kept in a second form, for a secret at the end of the text.
fn base64(text: &str) -> Vec<String> {
    let mut encoded = Vec::new();
    for (before, shared) in [(0, 0), (1, 2), (2, 3)] {
        let bytes = [vec![0; before], text.as_bytes().to_vec()].concat();
        let own = bytes.len() * 8 / 6;
        for whole in [STANDARD_NO_PAD.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes)] {
            encoded.push(whole[shared..].to_owned());
            encoded.push(whole[shared..own].to_owned());
        }
    }
    encoded
}

/// Percent-encoding (RFC 3986), with the sets of characters that the RFC, browsers and Python leave unencoded, and the
/// encoding of HTML forms.
fn percent_encoded(text: &str) -> Vec<String> {
    const KEPT: [&str; 7] = [
        "-._~",
        "-._~!*'()",
        "-._~/",
        "-._~!*'();:@&=+$,/?#",
        // The URL standard: query, path, user.
        "-._~!$%&()*+,/:;=?@[\\]^_`{|}",
        "-._~!$%&'()*+,/:;=@[\\]|",
        "-._~!$%&'()*+,",
    ];
    let encode = |kept: &str, upper: bool, space: &str| {
        let mut encoded = String::with_capacity(text.len());
        for byte in text.bytes() {
            match byte {
                b' ' => encoded.push_str(space),
                _ if byte.is_ascii_alphanumeric() || kept.as_bytes().contains(&byte) => encoded.push(char::from(byte)),
                _ if upper => encoded.push_str(&format!("%{byte:02X}")),
                _ => encoded.push_str(&format!("%{byte:02x}")),
            }
        }
        encoded
    };
    let mut all = Vec::new();
    for upper in [true, false] {
        all.extend(KEPT.map(|kept| encode(kept, upper, "%20")));
        all.push(encode("*-._", upper, "+"));
    }
    all
}

/// Escaped for JSON strings, shell quotes, Rust's `{:?}`, and HTML.
fn escaped(text: &str) -> Vec<String> {
    let json = serde_json::Value::from(text).to_string();
    let json = json[1..json.len() - 1].to_owned();
    let twice = serde_json::Value::from(json.as_str()).to_string();
    let twice = twice[1..twice.len() - 1].to_owned();
    let debug = format!("{text:?}");
    let each = |special: &str| {
        text.chars().flat_map(|letter| special.contains(letter).then_some('\\').into_iter().chain([letter])).collect()
    };
    let html = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    vec![
        json.replace('/', "\\/"),
        json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026"),
        ascii(&json, |unit| format!("\\u{unit:04x}")),
        ascii(&json, |unit| format!("\\u{unit:04X}")),
        json,
        twice,
        debug[1..debug.len() - 1].to_owned(),
        text.replace('\'', "'\\''"),
        text.replace('\'', "'\"'\"'"),
        text.replace('\\', "\\\\").replace('\'', "\\'"),
        each("\"$`\\"),
        each("\"$`\\!"),
        each(" \t!\"#$&'()*,;<>?[\\]^`{|}~"),
        html.replace('"', "&quot;").replace('\'', "&#39;"),
        html.replace('"', "&#34;").replace('\'', "&#39;"),
        html.replace('"', "&quot;").replace('\'', "&#x27;"),
        html.replace('"', "&quot;").replace('\'', "&apos;"),
        html,
    ]
}

/// `text` with each UTF-16 unit of its characters beyond ASCII formatted by `escape`.
fn ascii(text: &str, escape: impl Fn(u16) -> String) -> String {
    let mut all = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_ascii() {
            all.push(letter);
        } else {
            all.extend(letter.encode_utf16(&mut [0; 2]).iter().map(|&unit| escape(unit)));
        }
    }
    all
}
