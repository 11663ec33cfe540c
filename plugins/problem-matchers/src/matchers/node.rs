//! The `spec` reporter of Node's test runner: the list of failures at the end.

use crate::collector::Collector;
use crate::matchers::{Claim, Matcher};
use crate::place::{alone, stack_frame};
use crate::problem::{FailedTest, SourcePlace};

#[derive(Default)]
pub(crate) struct NodeMatcher {
    in_list: bool,
    /// The place of the next test.
    place: Option<SourcePlace>,
    test: Option<FailedTest>,
    in_stack: bool,
}

impl Matcher for NodeMatcher {
    fn line(&mut self, line: &str, collector: &mut Collector) -> Claim {
        if line.starts_with("✖ failing tests:") {
            self.in_list = true;
            return Claim::Open;
        }
        if !self.in_list {
            return Claim::No;
        }
        let text = line.trim();
        if let Some(place) = line.strip_prefix("test at ") {
            self.end(collector);
            self.place = alone(place);
        } else if let Some(name) = line.strip_prefix("✖ ") {
            let (name, _duration) = name.rsplit_once(" (").unwrap_or((name, ""));
            let place = self.place.take();
            let identity = format!("{name} {place:?}");
            self.test = Some(FailedTest { identity, place, ..FailedTest::new(name) });
            self.in_stack = false;
        } else if text.is_empty() || line.starts_with(' ') {
            let Some(test) = &mut self.test else { return Claim::Open };
            if let Some(place) = stack_frame(line).filter(|place| !place.is_foreign() && !self.in_stack) {
                // The place of the assertion says more than that of the test.
                test.place = Some(place);
            }
            self.in_stack |= text.starts_with("at ");
            if !self.in_stack {
                test.because(text);
            }
        } else {
            self.end(collector);
            self.in_list = false;
            return Claim::No;
        }
        Claim::Open
    }

    fn end(&mut self, collector: &mut Collector) {
        self.test.take().into_iter().for_each(|test| collector.add_test(test));
    }
}
