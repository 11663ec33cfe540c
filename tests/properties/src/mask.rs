//! The masking of secrets. An input consists of parts separated by lines `%`: the bytes of the first part determine how the
//! text is split into chunks, the last part is the text, and those between are the secrets.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use stagewright_plugin_host::{SHORTEST_MASKED, mask};

/// The longest secret and text in bytes; longer ones take time without covering more.
const MAX_LENGTH: usize = 4096;

/// No encoding of a secret remains, wherever it was and however the text was split. What remains is part of the text. A
/// text without a secret isn't changed.
pub fn check(input: &[u8]) {
    let Ok(input) = std::str::from_utf8(input) else { return };
    let parts: Vec<&str> = input.split("\n%\n").collect();
    let [cuts, secrets @ .., text] = parts.as_slice() else { return };
    if input.len() > MAX_LENGTH || secrets.len() > 4 {
        return;
    }
    let cuts = cuts.as_bytes();
    check_strange(secrets, text, cuts);
    let spellings: Vec<String> = secrets
        .iter()
        .filter(|secret| secret.len() >= SHORTEST_MASKED)
        .flat_map(|secret| spellings(secret))
        .filter(|spelling| spelling.len() >= SHORTEST_MASKED && !spelling.contains('*'))
        .collect();
    check_text(secrets, &spellings, text, cuts);
    let middle = (0..=text.len() / 2).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    let (before, after) = text.split_at(middle);
    for spelling in &spellings {
        check_text(secrets, &spellings, &[before, spelling, after].concat(), cuts);
    }
    // The characters before an escape could be part of another escape; here there are none.
    for spelling in secrets.iter().filter(|secret| is_escapable(secret)).flat_map(|secret| escaped(secret)) {
        let text = [before, " ", &spelling, " ", after].concat();
        check_text(secrets, &[spelling], &text, cuts);
    }
}

fn check_text(secrets: &[&str], spellings: &[String], text: &str, cuts: &[u8]) {
    let shown = mask(secrets, pieces(text.as_bytes(), cuts));
    let shown = String::from_utf8(shown).expect("what is left of text is text");
    for spelling in spellings.iter().filter(|spelling| !spelling.contains(['\n', '\r'])) {
        assert!(!shown.contains(spelling.as_str()), "{spelling:?} remains in {shown:?}");
    }
    if !text.contains('*') {
        check_rest(text, &shown);
    }
    if !text.contains(['\n', '\r']) {
        let whole = mask(secrets, [text.as_bytes()]);
        assert_eq!(String::from_utf8_lossy(&whole), shown, "depends on how {text:?} is split");
    }
}

/// The text between the masks is in the original text, in the same order.
fn check_rest(text: &str, shown: &str) {
    let kept: Vec<&str> = shown.split("***").collect();
    if let [all] = kept.as_slice() {
        assert_eq!(*all, text, "changed, but nothing was masked");
    }
    let mut rest = text;
    for piece in kept {
        let at = rest.find(piece);
        rest = &rest[at.unwrap_or_else(|| panic!("{piece:?} of {shown:?} isn't in {text:?}")) + piece.len()..];
    }
}

/// Every encoding of ASCII text is ASCII, so other bytes must not be changed.
fn check_strange(secrets: &[&str], text: &str, cuts: &[u8]) {
    let strange: Vec<u8> = text.bytes().map(|byte| if byte == b'\n' { byte } else { byte | 0x80 }).collect();
    if secrets.iter().all(|secret| secret.is_ascii()) {
        assert!(mask(secrets, pieces(&strange, cuts)) == strange, "changed, although it has no secret");
    }
    assert!(mask(&[], pieces(text.as_bytes(), cuts)) == text.as_bytes(), "changed, although there are no secrets");
}

/// Splits `text` into pieces. The bytes of `cuts` are their lengths, used cyclically.
fn pieces<'t>(mut text: &'t [u8], cuts: &[u8]) -> Vec<&'t [u8]> {
    let mut cuts = cuts.iter().cycle();
    let mut pieces = Vec::new();
    while !text.is_empty() {
        // A digit is its own length.
        let length = cuts.next().map_or(text.len(), |&byte| usize::from(byte % 16).max(1));
        let (piece, rest) = text.split_at(length.min(text.len()));
        pieces.push(piece);
        text = rest;
    }
    pieces
}

/// Whether a secret is still long enough to be masked once its own backslashes and escapes are resolved.
fn is_escapable(secret: &str) -> bool {
    !secret.contains(['\\', '%', '&', '*'])
        && secret.chars().filter(|letter| !letter.is_control()).count() >= SHORTEST_MASKED
}

/// The secret with escapes for some or all characters, computed independently of the host's code.
fn escaped(secret: &str) -> Vec<String> {
    let json = serde_json::Value::from(secret).to_string();
    let json = &json[1..json.len() - 1];
    let unicode = |text: &str| text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect::<String>();
    let some = |text: &str, each: &dyn Fn(char) -> String| -> String {
        let letters = text.chars().enumerate();
        letters.map(|(at, letter)| if at % 2 == 1 { each(letter) } else { letter.to_string() }).collect()
    };
    vec![
        unicode(secret),
        json.replace('<', "\\u003C").replace('>', "\\u003e").replace('\'', "\\u0027").replace('=', "\\u003d"),
        secret.chars().map(|letter| format!("&#{};", u32::from(letter))).collect(),
        secret.chars().map(|letter| format!("&#x{:X};", u32::from(letter))).collect(),
        secret.bytes().map(|byte| format!("\\x{byte:02x}")).collect(),
        some(secret, &|letter| unicode(&letter.to_string())),
        some(secret, &|letter| letter.to_string().bytes().map(|byte| format!("%{byte:02x}")).collect()),
    ]
}

/// The encodings of common tools, computed independently of the host's code.
fn spellings(secret: &str) -> Vec<String> {
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let percent = |kept: &str| -> String {
        let one = |byte: u8| match byte.is_ascii_alphanumeric() || kept.as_bytes().contains(&byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        };
        secret.bytes().map(one).collect()
    };
    let json = serde_json::Value::from(secret).to_string();
    vec![
        secret.to_owned(),
        STANDARD.encode(secret).trim_end_matches('=').to_owned(),
        URL_SAFE_NO_PAD.encode(secret),
        secret.bytes().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" "),
        secret.bytes().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":"),
        secret.replace('\'', "''"),
        hex.to_uppercase(),
        hex,
        percent("-._~"),
        percent("-._~/"),
        json[1..json.len() - 1].to_owned(),
    ]
}
