//! Encodings of a secret.

use std::fmt::Write as _;

use serde::Deserialize;
use stagewright_sdk::{JsonSchema, schemars};

/// How a text is encoded.
#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Spelling {
    /// Unchanged.
    #[default]
    Plain,
    /// Base64 of RFC 4648, with padding.
    Base64,
    /// Hexadecimal in lower case.
    Hex,
    /// Every byte as `%XX`.
    Percent,
    /// A JSON string.
    Json,
    /// In upper case.
    Upper,
    /// With a line break after every eight characters.
    Wrapped,
}

impl Spelling {
    pub(crate) fn write(self, text: &str) -> String {
        let by_byte = |prefix: &str| {
            text.bytes().fold(String::new(), |mut written, byte| {
                let _ = write!(written, "{prefix}{byte:02x}");
                written
            })
        };
        match self {
            Spelling::Plain => text.to_owned(),
            Spelling::Base64 => base64(text.as_bytes()),
            Spelling::Hex => by_byte(""),
            Spelling::Percent => by_byte("%"),
            Spelling::Json => serde_json::json!(text).to_string(),
            Spelling::Upper => text.to_uppercase(),
            Spelling::Wrapped => {
                let characters: Vec<char> = text.chars().collect();
                characters.chunks(8).map(|line| line.iter().collect::<String>()).collect::<Vec<_>>().join("\n")
            }
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let at = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            let letter = ALPHABET[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= group.len() { letter as char } else { '=' });
        }
    }
    text
}
