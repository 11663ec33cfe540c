//! What a TAP producer says about a failure. No two of them have the same keys, so several spellings are tried.

use crate::place::{alone, in_frame};
use crate::problem::{FailedTest, SourcePlace};

/// The most entries that are kept.
const MOST: usize = 100;

/// The YAML block of a failure, as far as it is needed: keys with their values, and texts of several lines.
#[derive(Default)]
pub(crate) struct Diagnostics {
    /// The entries, by key; those of a nested table have its key before theirs.
    entries: Vec<(String, Vec<String>)>,
    /// The indentation of the block.
    base: Option<usize>,
    /// The key of the nested table, or of the text of several lines, that is open.
    parent: String,
}

impl Diagnostics {
    pub(crate) fn push(&mut self, line: &str) {
        let text = line.trim();
        let indent = line.len() - line.trim_start().len();
        let base = *self.base.get_or_insert(indent);
        if text.is_empty() || self.entries.len() == MOST {
            return;
        }
        if indent > base {
            return self.nested(text);
        }
        let Some((key, value)) = text.split_once(':') else { return };
        key.trim().clone_into(&mut self.parent);
        let value = plain(value);
        let value = Some(value).filter(|value| !matches!(*value, "" | "|" | "|-" | ">" | ">-" | "|+"));
        self.entries.push((self.parent.clone(), value.into_iter().map(str::to_owned).collect()));
    }

    /// A line of the value of the last key.
    fn nested(&mut self, text: &str) {
        if let Some((_, lines)) = self.entries.iter_mut().rfind(|(key, _)| *key == self.parent)
            && lines.len() < MOST
        {
            // The key of a text of several lines.
            let text = text.strip_suffix(" |-").or(text.strip_suffix(" >-")).unwrap_or(text);
            let text = text.strip_suffix("':").and_then(|text| text.strip_prefix('\'')).unwrap_or(text);
            lines.push(text.to_owned());
        }
    }

    /// The lines of the first of these keys that has any.
    fn lines(&self, keys: &[&str]) -> &[String] {
        let of = |key: &&str| self.entries.iter().find(|(name, lines)| name == *key && !lines.is_empty());
        keys.iter().find_map(of).map_or(&[], |(_, lines)| lines)
    }

    fn value(&self, keys: &[&str]) -> Option<&str> {
        match self.lines(keys) {
            [value] => Some(value),
            _ => None,
        }
    }

    /// A value of a nested table.
    fn inner(&self, key: &str, inner: &str) -> Option<&str> {
        let mut pairs = self.lines(&[key]).iter().filter_map(|line| line.split_once(": "));
        pairs.find(|(name, _)| name.trim() == inner).map(|(_, value)| plain(value))
    }

    /// Adds the reason and the place to the failure.
    pub(crate) fn explain(&self, test: &mut FailedTest) {
        self.lines(&["message", "error", "reason", "failure"]).iter().for_each(|line| test.because(line));
        let values = (self.value(&["expected", "wanted"]), self.value(&["actual", "found", "got"]));
        match values {
            _ if !test.why.is_empty() => {}
            (Some(expected), Some(actual)) => test.because(&format!("expected {expected}, got {actual}")),
            _ => {
                let difference = self.lines(&["diff", "details"]);
                difference.iter().filter(|line| !line.starts_with("@@")).for_each(|line| test.because(line));
            }
        }
        test.place = self.place();
    }

    fn place(&self) -> Option<SourcePlace> {
        let line = |text: Option<&str>| text?.parse().ok();
        if let Some(path) = self.inner("at", "fileName").or_else(|| self.inner("at", "file")) {
            let numbers = (self.inner("at", "lineNumber"), self.inner("at", "columnNumber"));
            let numbers = (line(numbers.0.or_else(|| self.inner("at", "line"))), line(numbers.1));
            return Some(SourcePlace::new(path, numbers.0, numbers.1));
        }
        // The frames before the place of the whole test: an assertion says more.
        let frames = self.lines(&["stack"]).iter().map(|frame| frame.strip_prefix("at ").unwrap_or(frame));
        let places =
            frames.filter_map(in_frame).chain(self.lines(&["at", "location"]).iter().filter_map(|at| in_frame(at)));
        let mut places = places.chain(self.lines(&["location"]).iter().filter_map(|at| alone(at)));
        places.find(|place| !place.is_foreign()).or_else(|| {
            let path = self.value(&["file", "fileName"])?;
            Some(SourcePlace::new(path, line(self.value(&["line", "lineNumber"])), line(self.value(&["column"]))))
        })
    }
}

/// The value without its quotes.
fn plain(value: &str) -> &str {
    let value = value.trim();
    let quoted = ['\'', '"'].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
    quoted.unwrap_or(value)
}

/// A comment below a failure: `at t/a.t line 3.` of Perl, `(in test file a.bats, line 5)` of bats, or a reason.
pub(crate) fn comment(text: &str, test: &mut FailedTest) {
    let in_perl = text.strip_prefix("at ").and_then(|rest| rest.strip_suffix('.')?.split_once(" line "));
    let in_bats = text.strip_prefix("(in test file ").and_then(|rest| rest.strip_suffix(')')?.split_once(", line "));
    match in_perl.or(in_bats) {
        Some((path, line)) => test.place = Some(SourcePlace::new(path, line.parse().ok(), None)),
        None if text.starts_with("Failed test") || text.starts_with("Looks like you") => {}
        None => test.because(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_below_a_failure_name_its_place() {
        let explained = |comments: &[&str]| {
            let mut test = FailedTest::new("x");
            comments.iter().for_each(|text| comment(text, &mut test));
            (test.place, test.why)
        };
        let perl = explained(&["Failed test 'x'", "at t/a.t line 3.", "got: '5'", "expected: '4'"]);
        assert_eq!(perl.0, Some(SourcePlace::new("t/a.t", Some(3), None)));
        assert_eq!(perl.1, ["got: '5'", "expected: '4'"]);
        let bats = explained(&["(in test file a.bats, line 5)", "`[ \"$x\" = 4 ]' failed"]);
        assert_eq!((bats.0, bats.1.len()), (Some(SourcePlace::new("a.bats", Some(5), None)), 1));
    }
}
