//! The last lines of a stream.

use std::collections::VecDeque;

/// Enough to hold a panic or a stack trace's top.
const LINES: usize = 20;

/// Keeps the last lines that aren't blank.
#[derive(Default)]
pub(crate) struct Tail(VecDeque<String>);

impl Tail {
    pub(crate) fn push(&mut self, line: &str) {
        if line.trim().is_empty() {
            return;
        }
        if self.0.len() == LINES {
            self.0.pop_front();
        }
        self.0.push_back(line.to_owned());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn into_lines(self) -> VecDeque<String> {
        self.0
    }
}
