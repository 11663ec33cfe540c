//! `test-reports`: results of tests, case by case.

use std::fmt;

use stagewright_engine::{FilePlace, Level, Problem, TestCase};

use crate::limits::ByteSize;
use crate::log::AttemptLog;
use crate::report::{masked_text, masked_words};

/// The most cases of an attempt.
const NUMBER: usize = 100_000;
/// The most bytes of all cases of an attempt, which are kept in the journal.
const SIZE: usize = 16 * 1024 * 1024;
/// The cases that are sent at a time. Each batch is an event.
const BATCH: usize = 1000;
/// The bytes that are sent at a time.
const BATCH_SIZE: usize = 1024 * 1024;
/// The code of the finding that says how many cases were omitted.
const OMITTED: &str = "tests-omitted";

/// The results of the tests of an attempt.
pub(crate) struct TestReports {
    log: AttemptLog,
    /// Not sent yet.
    batch: Vec<TestCase>,
    batch_size: usize,
    number: usize,
    size: usize,
    omitted: usize,
}

impl TestReports {
    pub(crate) fn new(log: AttemptLog) -> TestReports {
        TestReports { log, batch: Vec::new(), batch_size: 0, number: 0, size: 0, omitted: 0 }
    }

    /// Reports a case. Those beyond [`NUMBER`] or [`SIZE`] are omitted, and counted.
    pub(crate) async fn report(&mut self, case: TestCase) {
        // Not even masked: for megabytes that takes longer than it takes a guest to report them.
        if self.omitted > 0 || self.number == NUMBER {
            self.omitted += 1;
            return;
        }
        let case = self.masked(case);
        let optional = [&case.message, &case.output].into_iter().flatten().map(String::len).sum::<usize>();
        let size = case.suite.len() + case.name.len() + optional;
        if self.size + size > SIZE {
            self.omitted += 1;
            return;
        }
        self.number += 1;
        self.size += size;
        self.batch_size += size;
        self.batch.push(case);
        if self.batch.len() == BATCH || self.batch_size >= BATCH_SIZE {
            self.send().await;
        }
    }

    fn masked(&self, case: TestCase) -> TestCase {
        let masker = self.log.masker();
        let words = |text: Option<String>| text.map(|text| masked_words(&text, masker));
        let place = |place: FilePlace| FilePlace { path: masked_text(&place.path, masker), ..place };
        TestCase {
            suite: masked_text(&case.suite, masker),
            name: masked_text(&case.name, masker),
            message: words(case.message),
            output: words(case.output),
            place: case.place.map(place),
            ..case
        }
    }

    async fn send(&mut self) {
        self.batch_size = 0;
        let batch = std::mem::take(&mut self.batch);
        if !batch.is_empty() {
            self.log.output().tests(batch).await;
        }
    }

    /// Sends the rest, and how many cases were omitted, if any were.
    pub(crate) async fn finish(&mut self) {
        self.send().await;
        if self.omitted > 0 {
            let (omitted, limit) = (self.omitted, ByteSize(SIZE as u64));
            let message =
                format!("the results of {omitted} more tests were omitted: at most {NUMBER} of {limit} are kept");
            self.log.problem(Problem::new(Level::Warning, OMITTED, message)).await;
        }
    }
}

impl fmt::Debug for TestReports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestReports")
            .field("number", &self.number)
            .field("omitted", &self.omitted)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use stagewright_engine::{AttemptMessageKind, TestOutcome};

    use super::*;
    use crate::testing::TestLog;

    #[tokio::test]
    async fn cases_are_masked_and_sent_in_batches() {
        let mut log = TestLog::new();
        log.log.masker().add("hunter22", false);
        let mut reports = TestReports::new(log.log.clone());
        for number in 0..BATCH + 1 {
            reports
                .report(TestCase {
                    suite: "s".to_owned(),
                    name: number.to_string(),
                    outcome: TestOutcome::Failed,
                    duration: None,
                    message: Some("is hunter22".to_owned()),
                    output: None,
                    place: None,
                    failures: 0,
                })
                .await;
        }
        reports.finish().await;
        let batches = log.messages().into_iter().filter_map(|message| match message {
            AttemptMessageKind::Tests(cases) => Some(cases),
            _ => None,
        });
        let batches = batches.collect::<Vec<_>>();
        assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [BATCH, 1]);
        assert_eq!(batches[1][0].message.as_deref(), Some("is ***"));
    }
}
