//! `findings`: what a check found.

use std::fmt;

use stagewright_engine::{Level, Problem};

use crate::limits::ByteSize;
use crate::log::AttemptLog;
use crate::report::masked_problem;

/// The most findings of an attempt.
const NUMBER: usize = 10_000;
/// The most bytes of all findings of an attempt, which are kept in the journal.
const SIZE: usize = 2 * 1024 * 1024;
/// The code of the finding that says how many others were omitted.
const OMITTED: &str = "findings-omitted";

/// The findings of an attempt.
pub(crate) struct Findings {
    log: AttemptLog,
    number: usize,
    size: usize,
    omitted: usize,
}

impl Findings {
    pub(crate) fn new(log: AttemptLog) -> Findings {
        Findings { log, number: 0, size: 0, omitted: 0 }
    }

    /// Reports a finding. Those beyond [`NUMBER`] or [`SIZE`] are omitted, and counted.
    pub(crate) async fn report(&mut self, finding: Problem) {
        // Once one was omitted, all others are: the reader sees the beginning, and not a selection. They aren't masked
        // either, which for megabytes takes longer than it takes a guest to report them.
        if self.omitted > 0 || self.number == NUMBER {
            self.omitted += 1;
            return;
        }
        let finding = masked_problem(finding, self.log.masker());
        let optional = [&finding.path, &finding.help, &finding.suggestion, &finding.fingerprint];
        let optional = optional.into_iter().flatten().map(String::len).sum::<usize>();
        let size = finding.code.len() + finding.message.len() + optional;
        if self.size + size > SIZE {
            self.omitted += 1;
            return;
        }
        self.number += 1;
        self.size += size;
        self.log.output().problem(finding).await;
    }

    /// Reports how many findings were omitted, if any were.
    pub(crate) async fn finish(&self) {
        if self.omitted > 0 {
            let (omitted, limit) = (self.omitted, ByteSize(SIZE as u64));
            let message = format!("{omitted} more findings were omitted: at most {NUMBER} of {limit} are kept");
            self.log.problem(Problem::new(Level::Warning, OMITTED, message)).await;
        }
    }
}

impl fmt::Debug for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Findings").field("number", &self.number).field("omitted", &self.omitted).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestLog;

    async fn reported(number: usize, message: &str) -> Vec<String> {
        let mut log = TestLog::new();
        let mut findings = Findings::new(log.log.clone());
        let mut all = Vec::new();
        for _ in 0..number {
            findings.report(Problem::new(Level::Error, "x", message)).await;
            all.extend(log.problems());
        }
        findings.finish().await;
        all.extend(log.problems());
        all.into_iter().map(|problem| problem.message).collect()
    }

    #[tokio::test]
    async fn findings_beyond_the_limit_are_counted() {
        assert_eq!(reported(3, "a").await, ["a"; 3]);
        let many = reported(NUMBER + 2, "a").await;
        assert_eq!(many.len(), NUMBER + 1);
        assert!(many[NUMBER].starts_with("2 more findings were omitted"), "{}", many[NUMBER]);
        let large = reported(100, &"x".repeat(60 * 1024)).await;
        assert!(large.len() < 40 && large.last().unwrap().contains("more findings were omitted"), "{}", large.len());
    }
}
