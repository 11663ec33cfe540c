//! Converts fetched bytes to the text of a value.

use zeroize::Zeroizing;

use crate::error::Fault;

/// Converts UTF-8 to text without copying it. Bytes that aren't UTF-8 are wiped from memory, since the caller can no
/// longer do that. `origin` names where they come from, for the error.
pub(crate) fn into_text(bytes: Vec<u8>, origin: &str) -> Result<Zeroizing<String>, Fault> {
    String::from_utf8(bytes).map(Zeroizing::new).map_err(|error| {
        drop(Zeroizing::new(error.into_bytes()));
        Fault::new(format!("is not text: {origin} isn't valid UTF-8")).help("store the value in base64")
    })
}

/// Removes one newline, or one carriage return with a newline, from the end of the text. Editors and programs add it,
/// and it isn't part of the secret.
pub(crate) fn without_last_newline(mut text: Zeroizing<String>) -> Zeroizing<String> {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    text
}
