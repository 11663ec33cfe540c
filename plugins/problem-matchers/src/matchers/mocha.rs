//! Mocha: the numbered list of failures at the end.

use crate::collector::Collector;
use crate::matchers::{Claim, Matcher};
use crate::place::{number, stack_frame};
use crate::problem::FailedTest;

#[derive(Default)]
pub(crate) struct MochaMatcher {
    in_list: bool,
    entry: Option<Entry>,
}

struct Entry {
    test: FailedTest,
    /// Whether its title, which may have several lines, is complete.
    has_title: bool,
    in_stack: bool,
    in_difference: bool,
}

impl Matcher for MochaMatcher {
    fn line(&mut self, line: &str, collector: &mut Collector) -> Claim {
        if let Some(("", count)) = line.trim_end().strip_suffix(" failing").map(|count| ("", count.trim())) {
            self.in_list = count.parse::<u32>().is_ok();
            return if self.in_list { Claim::Open } else { Claim::No };
        }
        if !self.in_list {
            return Claim::No;
        }
        if let Some(title) = entry_title(line) {
            self.end(collector);
            let mut entry =
                Entry { test: FailedTest::default(), has_title: false, in_stack: false, in_difference: false };
            entry.title(title);
            self.entry = Some(entry);
            return Claim::Open;
        }
        let is_blank = line.trim().is_empty();
        match &mut self.entry {
            // Before the first entry, and between entries.
            None if is_blank => Claim::Open,
            Some(entry) if is_blank || !entry.in_stack || line.starts_with("      ") => {
                entry.line(line);
                Claim::Open
            }
            _ => {
                self.end(collector);
                self.in_list = false;
                Claim::No
            }
        }
    }

    fn end(&mut self, collector: &mut Collector) {
        let Some(Entry { mut test, .. }) = self.entry.take() else { return };
        test.identity.clone_from(&test.name);
        collector.add_test(test);
    }
}

impl Entry {
    fn title(&mut self, text: &str) {
        let (part, is_last) = text.strip_suffix(':').map_or((text, false), |part| (part, true));
        if !self.test.name.is_empty() {
            self.test.name.push(' ');
        }
        self.test.name.push_str(part.trim());
        self.has_title = is_last;
    }

    fn line(&mut self, line: &str) {
        let text = line.trim();
        if !self.has_title {
            // A title without a colon has no more than the lines of its suites.
            if text.is_empty() { self.has_title = true } else { self.title(text) }
        } else if text.starts_with("at ") {
            self.in_stack = true;
            if let Some(place) = stack_frame(line).filter(|place| !place.is_foreign()) {
                self.test.place.get_or_insert(place);
            }
        } else if text == "+ expected - actual" {
            self.in_difference = true;
        } else if !self.in_difference && !self.in_stack {
            self.test.because(text);
        }
    }
}

/// `  1) add`: the beginning of a title.
fn entry_title(line: &str) -> Option<&str> {
    let (_, rest) = number(line.strip_prefix("  ")?)?;
    rest.strip_prefix(") ").map(str::trim)
}
