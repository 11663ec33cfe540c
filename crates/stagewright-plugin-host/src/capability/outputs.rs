//! `outputs`: values for other stages, Markdown for people, findings.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::error::{CapabilityError, ErrorCode};
use crate::limits::Bytes;
use crate::mask::Masker;

/// All outputs of an attempt together, as JSON: they are journalled, and seen by every expression.
const TOTAL: usize = 1024 * 1024;
/// Outputs of an attempt: each is an entry of the journal's, and is looked at whenever an expression is.
const NUMBER: usize = 1000;
/// All summaries of an attempt together.
const SUMMARY: usize = 1024 * 1024;
/// Findings of one attempt.
const PROBLEMS: usize = 10_000;

/// What an attempt has put out so far.
#[derive(Debug, Default)]
pub(crate) struct Outputs {
    values: BTreeMap<String, Json>,
    /// Bytes of each, and of all together.
    sizes: BTreeMap<String, usize>,
    size: usize,
    problems: usize,
    summary: usize,
}

impl Outputs {
    /// Sets an output; a later value replaces an earlier one. `value` is JSON.
    pub(crate) fn set(&mut self, name: &str, value: &str, masker: &Masker) -> Result<(), CapabilityError> {
        let invalid = |message: String| CapabilityError::new(ErrorCode::InvalidArgument, message);
        let named = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if !named {
            return Err(invalid(format!("`{name}` can't name an output"))
                .with_help("use letters, digits, `-`, `_` and `.` only"));
        }
        if masker.finds_in(name) {
            return Err(invalid("the name of an output holds a secret".to_owned()).with_help("choose another name"));
        }
        let json: Json = serde_json::from_str(value)
            .map_err(|error| invalid(format!("the value of output `{name}` isn't JSON: {error}")))?;
        if self.values.len() >= NUMBER && !self.values.contains_key(name) {
            let message = format!("output `{name}` takes the stage's outputs over {NUMBER}");
            return Err(CapabilityError::new(ErrorCode::ResourceExhausted, message)
                .with_help("put several values into one output, as a JSON object"));
        }
        let others = self.size - self.sizes.get(name).unwrap_or(&0);
        if others + name.len() + value.len() > TOTAL {
            let message = format!("output `{name}` takes the stage's outputs over {}", Bytes(TOTAL as u64));
            return Err(CapabilityError::new(ErrorCode::ResourceExhausted, message)
                .with_help("publish large data as an artifact, and put out its name"));
        }
        self.size = others + name.len() + value.len();
        self.sizes.insert(name.to_owned(), name.len() + value.len());
        self.values.insert(name.to_owned(), masker.json(&json));
        Ok(())
    }

    /// What was set.
    pub(crate) fn take(&mut self) -> BTreeMap<String, Json> {
        std::mem::take(&mut self.values)
    }

    /// As much of a summary, masked, as there is room for; none when there was no room for the end of an earlier one.
    pub(crate) fn admit_summary(&mut self, markdown: &str, masker: &Masker) -> Option<String> {
        let room = SUMMARY.checked_sub(self.summary)?;
        self.summary += markdown.len();
        if markdown.len() <= room {
            return Some(markdown.to_owned());
        }
        // Before it is cut: half a secret isn't found any more.
        let mut text = masker.text(markdown);
        text.truncate(text.floor_char_boundary(room));
        text.push_str("\n\n(cut here: too long)");
        Some(text)
    }

    /// Counts a finding; false when there were too many already.
    pub(crate) fn admit_problem(&mut self) -> bool {
        self.problems += 1;
        self.problems <= PROBLEMS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_stands_and_secrets_are_masked() {
        let (mut outputs, masker) = (Outputs::default(), Masker::default());
        masker.add("hunter22", false);
        outputs.set("a", "1", &masker).unwrap();
        outputs.set("a", "{\"x\":[\"is hunter22\"]}", &masker).unwrap();
        assert_eq!(outputs.take(), BTreeMap::from([("a".to_owned(), serde_json::json!({ "x": ["is ***"] }))]));
    }

    #[test]
    fn summaries_have_room_together_and_are_masked_before_they_are_cut() {
        let (mut outputs, masker) = (Outputs::default(), Masker::default());
        masker.add("hunter22", false);
        assert_eq!(outputs.admit_summary("one", &masker).as_deref(), Some("one"));
        let long = format!("{}hunter22", "x".repeat(SUMMARY - 7));
        let cut = outputs.admit_summary(&long, &masker).unwrap();
        assert!(cut.ends_with("x***\n\n(cut here: too long)") && !cut.contains("hunter"), "{}", &cut[SUMMARY - 20..]);
        assert_eq!(outputs.admit_summary("more", &masker), None);
    }

    #[test]
    fn what_is_no_output_is_refused() {
        let (mut outputs, masker) = (Outputs::default(), Masker::default());
        assert_eq!(outputs.set("a b", "1", &masker).unwrap_err().code, ErrorCode::InvalidArgument);
        masker.add("hunter22", true);
        assert_eq!(
            outputs.set("is-hunter22", "1", &masker).unwrap_err().message,
            "the name of an output holds a secret"
        );
        assert_eq!(outputs.set("a", "not json", &masker).unwrap_err().code, ErrorCode::InvalidArgument);
        let half = format!("\"{}\"", "x".repeat(TOTAL / 2));
        outputs.set("a", &half, &masker).unwrap();
        outputs.set("a", &half, &masker).unwrap();
        assert_eq!(outputs.set("b", &half, &masker).unwrap_err().code, ErrorCode::ResourceExhausted);
    }
}
