//! Headers of an e-mail.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

/// The most bytes of text in one encoded word, which has at most 75 characters (RFC 2047, section 2).
const WORD: usize = 45;

/// The text of a header: as it is in ASCII, otherwise as encoded words. It is one line of the caller's.
pub(crate) fn encoded_words(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_graphic() || c == ' ';
    if text.chars().all(is_plain) && !text.contains("=?") && text.len() <= 900 {
        return text.to_owned();
    }
    let (mut words, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let (word, after) = rest.split_at(rest.floor_char_boundary(WORD));
        words.push(format!("=?utf-8?B?{}?=", STANDARD.encode(word)));
        rest = after;
    }
    words.join("\r\n ")
}

/// As in `Sat, 31 Jan 2026 12:00:00 +0000` (RFC 5322, section 3.3).
pub(crate) fn date(now: Duration) -> String {
    let now = Timestamp::from_second(now.as_secs().try_into().unwrap_or_default()).unwrap_or_default();
    now.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

/// The same for the same message of a stage of a run, so that a server or a client can recognise one that was sent twice.
pub(crate) fn message_id(run: &str, stage: &str, message: &str) -> String {
    let digest = Sha256::digest(format!("{run}\0{stage}\0{message}"));
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_ascii_in_short_lines() {
        assert_eq!(encoded_words("a: b (c)"), "a: b (c)");
        assert_eq!(encoded_words("Grüße"), "=?utf-8?B?R3LDvMOfZQ==?=");
        assert_eq!(encoded_words("=?utf-8?B?eA==?="), "=?utf-8?B?PT91dGYtOD9CP2VBPT0/PQ==?=");
        let long = encoded_words(&"ü".repeat(100));
        assert!(long.lines().count() > 4 && long.lines().all(|line| line.len() <= 76), "{long}");
        assert_eq!(date(Duration::from_secs(1_769_860_800)), "Sat, 31 Jan 2026 12:00:00 +0000");
        assert_eq!(message_id("r", "s", "m").len(), 32);
        assert_ne!(message_id("r", "s", "m"), message_id("r", "s", "n"));
    }
}
