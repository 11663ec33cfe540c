//! Images by digest.

use serde::Deserialize;
use stagewright_sdk::{JsonSchema, Problem, schemars};

/// An image by digest: `REPOSITORY@sha256:…`.
///
/// Any text can be read as one, so that a plugin can say which grants it needs before an expression in it has a value;
/// [`Image::problem`] says whether it is valid.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Image(String);

impl Image {
    /// The whole reference.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Why it isn't an image by digest, as a mistake at this key of `with`.
    pub fn problem(&self, key: &str) -> Option<Problem> {
        let text = &self.0;
        let help = "a tag could move between the test and the deploy. Use the digest that the registry confirmed, as in \
                    \"${{ stages.push.outputs.reference }}\"";
        let Some((repository, digest)) = text.split_once('@') else {
            return Some(Problem::at(key, format!("`{text}` has no digest, and {help}")));
        };
        let message = format!("`{text}` isn't of the form REPOSITORY@sha256: and 64 hexadecimal digits; {help}");
        (repository.is_empty() || !is_digest(digest)).then(|| Problem::at(key, message))
    }
}

/// The digest of an image reference; empty if it has none.
pub fn digest_of(reference: &str) -> &str {
    reference.rsplit_once('@').map_or("", |(_, digest)| digest)
}

/// Whether a text is `sha256:` and 64 hexadecimal digits in lower case.
pub(crate) fn is_digest(text: &str) -> bool {
    let hex = text.strip_prefix("sha256:").unwrap_or_default();
    hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
