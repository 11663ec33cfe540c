//! Problems whose first line is recognised by itself, with lines below that belong to it.

use crate::collector::Collector;
use crate::matchers::{Claim, Matcher};
use crate::problem::MatchedProblem;

/// A matcher for such a kind of output.
pub(crate) struct HeadedMatcher {
    /// The problem that a line begins.
    head: fn(&str) -> Option<MatchedProblem>,
    /// Whether a line belongs to the problem above it.
    continues: fn(&str) -> bool,
    open: Option<MatchedProblem>,
}

impl HeadedMatcher {
    pub(crate) fn new(head: fn(&str) -> Option<MatchedProblem>, continues: fn(&str) -> bool) -> HeadedMatcher {
        HeadedMatcher { head, continues, open: None }
    }
}

impl Matcher for HeadedMatcher {
    fn line(&mut self, line: &str, collector: &mut Collector) -> Claim {
        if let Some(problem) = (self.head)(line) {
            self.end(collector);
            self.open = Some(collector.located(problem));
            return Claim::Open;
        }
        match &mut self.open {
            Some(problem) if (self.continues)(line) => {
                problem.detail(line);
                Claim::Open
            }
            _ => {
                self.end(collector);
                Claim::No
            }
        }
    }

    fn end(&mut self, collector: &mut Collector) {
        self.open.take().into_iter().for_each(|problem| collector.add(problem));
    }
}
