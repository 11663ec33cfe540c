//! AVA: the list of tests has the names of those that failed, and a block for each of them follows.

use crate::collector::Collector;
use crate::matchers::{Claim, Matcher};
use crate::place::{alone, stack_frame};
use crate::problem::{FailedTest, SourcePlace};

/// The most failures that wait for their blocks.
const MOST: usize = 100;

#[derive(Default)]
pub(crate) struct AvaMatcher {
    /// What follows `✘ [fail]:`. The name of the test, and maybe a message.
    listed: Vec<String>,
    block: Option<FailedTest>,
}

impl Matcher for AvaMatcher {
    fn line(&mut self, line: &str, collector: &mut Collector) -> Claim {
        let text = line.trim();
        if let Some(name) = ["✘ [fail]: ", "✖ [fail]: "].iter().find_map(|mark| text.strip_prefix(mark)) {
            if self.listed.len() < MOST {
                self.listed.push(name.to_owned());
            }
            return Claim::Line;
        }
        if self.listed.is_empty() && self.block.is_none() {
            return Claim::No;
        }
        if text == "─" {
            self.report_block(collector);
            return Claim::Line;
        }
        let is_title =
            |listed: &String| listed.strip_prefix(text).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '));
        if line.starts_with("  ")
            && !text.is_empty()
            && let Some(index) = self.listed.iter().position(is_title)
        {
            self.report_block(collector);
            self.listed.remove(index);
            self.block = Some(FailedTest::new(text));
            return Claim::Open;
        }
        let Some(test) = &mut self.block else { return Claim::No };
        if let Some(place) = stack_frame(line).or_else(|| alone(text.strip_prefix("› ").unwrap_or(text))) {
            improve(&mut test.place, place);
        } else if !is_code(text) && !text.starts_with("at ") {
            test.because(text);
        }
        Claim::Open
    }

    fn end(&mut self, collector: &mut Collector) {
        self.report_block(collector);
        self.listed.drain(..).for_each(|name| collector.add_test(FailedTest::new(&name)));
    }
}

impl AvaMatcher {
    fn report_block(&mut self, collector: &mut Collector) {
        self.block.take().into_iter().for_each(|test| collector.add_test(test));
    }
}

/// Takes the column of a later line, whose path may be relative to another folder.
fn improve(known: &mut Option<SourcePlace>, place: SourcePlace) {
    match known {
        None if !place.is_foreign() => *known = Some(place),
        Some(known) if known.column.is_none() && known.line == place.line => known.column = place.column,
        _ => {}
    }
}

/// `2: test('adds zero', …`.
fn is_code(text: &str) -> bool {
    text.split_once(':').is_some_and(|(number, _)| number.parse::<u32>().is_ok())
}
