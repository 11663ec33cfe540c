//! `outputs`: values for other stages, and Markdown for people.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::error::{CapabilityError, ErrorCode};
use crate::limits::ByteSize;
use crate::mask::Masker;

/// The most bytes of all outputs of an attempt, as JSON: they are journalled, and every expression gets them.
const TOTAL: usize = 1024 * 1024;
/// The most outputs of an attempt.
const NUMBER: usize = 1000;
/// The most bytes of all summaries of an attempt.
const SUMMARY: usize = 1024 * 1024;

/// Whether an output or a metric can have this name.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// The outputs of an attempt so far, and how much of its limits they use.
#[derive(Debug, Default)]
pub(crate) struct Outputs {
    values: BTreeMap<String, Json>,
    /// Bytes of each output, including its name.
    sizes: BTreeMap<String, usize>,
    size: usize,
    summary: usize,
}

impl Outputs {
    /// Sets an output; a later value replaces an earlier one. `value` is JSON.
    pub(crate) fn set(&mut self, name: &str, value: &str, masker: &Masker) -> Result<(), CapabilityError> {
        let invalid = |message: String| CapabilityError::new(ErrorCode::InvalidArgument, message);
        if !is_name(name) {
            return Err(invalid(format!("invalid output name `{name}`"))
                .with_help("use letters, digits, `-`, `_` and `.` only"));
        }
        if masker.finds_in(name) {
            return Err(invalid("the name of an output contains a secret".to_owned()).with_help("choose another name"));
        }
        let json: Json = serde_json::from_str(value)
            .map_err(|error| invalid(format!("the value of output `{name}` isn't JSON: {error}")))?;
        if self.values.len() >= NUMBER && !self.values.contains_key(name) {
            let message = format!("could not set output `{name}`: a stage may have at most {NUMBER}");
            return Err(CapabilityError::new(ErrorCode::ResourceExhausted, message)
                .with_help("combine several values in one output, as a JSON object"));
        }
        let others = self.size - self.sizes.get(name).unwrap_or(&0);
        if others + name.len() + value.len() > TOTAL {
            let limit = ByteSize(TOTAL as u64);
            let message = format!("could not set output `{name}`: a stage's outputs may have at most {limit} together");
            return Err(CapabilityError::new(ErrorCode::ResourceExhausted, message)
                .with_help("publish large data as an artifact, and set an output to its name"));
        }
        self.size = others + name.len() + value.len();
        self.sizes.insert(name.to_owned(), name.len() + value.len());
        self.values.insert(name.to_owned(), masker.json(&json));
        Ok(())
    }

    /// Takes the outputs that were set.
    pub(crate) fn take(&mut self) -> BTreeMap<String, Json> {
        std::mem::take(&mut self.values)
    }

    /// The summary, truncated if it exceeds the limit; none when an earlier one exceeded it already.
    pub(crate) fn admit_summary(&mut self, markdown: &str, masker: &Masker) -> Option<String> {
        let room = SUMMARY.checked_sub(self.summary)?;
        self.summary += markdown.len();
        if markdown.len() <= room {
            return Some(markdown.to_owned());
        }
        // Masked before it is truncated: half of a secret would not be recognised.
        let mut text = masker.text(markdown);
        text.truncate(text.floor_char_boundary(room));
        text.push_str("\n\n(truncated)");
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_value_replaces_an_earlier_one_and_is_masked() {
        let (mut outputs, masker) = (Outputs::default(), Masker::default());
        masker.add("hunter22", false);
        outputs.set("a", "1", &masker).unwrap();
        outputs.set("a", "{\"x\":[\"is hunter22\"]}", &masker).unwrap();
        assert_eq!(outputs.take(), BTreeMap::from([("a".to_owned(), serde_json::json!({ "x": ["is ***"] }))]));
    }

    #[test]
    fn summaries_share_a_limit_and_are_masked_before_they_are_truncated() {
        let (mut outputs, masker) = (Outputs::default(), Masker::default());
        masker.add("hunter22", false);
        assert_eq!(outputs.admit_summary("one", &masker).as_deref(), Some("one"));
        let long = format!("{}hunter22", "x".repeat(SUMMARY - 7));
        let cut = outputs.admit_summary(&long, &masker).unwrap();
        assert!(cut.ends_with("x***\n\n(truncated)") && !cut.contains("hunter"), "{}", &cut[SUMMARY - 20..]);
        assert_eq!(outputs.admit_summary("more", &masker), None);
    }

    #[test]
    fn an_invalid_output_is_refused() {
        let (mut outputs, masker) = (Outputs::default(), Masker::default());
        assert_eq!(outputs.set("a b", "1", &masker).unwrap_err().code, ErrorCode::InvalidArgument);
        masker.add("hunter22", true);
        assert_eq!(
            outputs.set("is-hunter22", "1", &masker).unwrap_err().message,
            "the name of an output contains a secret"
        );
        assert_eq!(outputs.set("a", "not json", &masker).unwrap_err().code, ErrorCode::InvalidArgument);
        let half = format!("\"{}\"", "x".repeat(TOTAL / 2));
        outputs.set("a", &half, &masker).unwrap();
        outputs.set("a", &half, &masker).unwrap();
        assert_eq!(outputs.set("b", &half, &masker).unwrap_err().code, ErrorCode::ResourceExhausted);
    }
}
