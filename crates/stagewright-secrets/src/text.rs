//! Values as text.

use zeroize::Zeroizing;

use crate::error::Fault;

/// Text of bytes that are wiped when they are none.
pub(crate) fn text(bytes: Vec<u8>, whose: &str) -> Result<Zeroizing<String>, Fault> {
    String::from_utf8(bytes).map(Zeroizing::new).map_err(|error| {
        drop(Zeroizing::new(error.into_bytes()));
        Fault::new(format!("is no text: {whose} isn't UTF-8")).help("store it in base64")
    })
}

/// Editors and programs end a text with a newline that is no part of the secret.
pub(crate) fn without_last_newline(mut text: Zeroizing<String>) -> Zeroizing<String> {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    text
}
