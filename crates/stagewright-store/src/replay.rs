//! Replays a run: its events and log lines, in the order in which observers received them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use stagewright_engine::{Event, EventKind, RunId, StoreError};
use stagewright_model::StageIndex;

use crate::{LogLine, LogReader, Store};

/// The next line of one attempt's log.
struct LogCursor {
    line: LogLine,
    stage: StageIndex,
    attempt: u32,
    reader: LogReader,
}

impl LogCursor {
    fn open(stage: StageIndex, attempt: u32, mut reader: LogReader) -> Result<Option<LogCursor>, StoreError> {
        let line = reader.next().transpose()?;
        Ok(line.map(|line| LogCursor { line, stage, attempt, reader }))
    }

    fn key(&self) -> (u64, u64, StageIndex, u32) {
        (self.line.after, self.line.number, self.stage, self.attempt)
    }
}

impl PartialEq for LogCursor {
    fn eq(&self, other: &LogCursor) -> bool {
        self.key() == other.key()
    }
}

impl Eq for LogCursor {}

impl PartialOrd for LogCursor {
    fn partial_cmp(&self, other: &LogCursor) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for LogCursor {
    fn cmp(&self, other: &LogCursor) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl Store {
    /// Calls `observe` with every event and log line of the run, in the order in which its observers received them.
    /// Progress isn't stored and therefore missing.
    ///
    /// # Errors
    /// If the journal or a log can't be read.
    pub fn replay(&self, run: &RunId, mut observe: impl FnMut(&Event)) -> Result<(), StoreError> {
        let events = self.events(run)?;
        let mut lines = BinaryHeap::new();
        for (stage, attempt) in self.all_logs(run)? {
            lines.extend(LogCursor::open(stage, attempt, self.read_log(run, stage, attempt))?.map(Reverse));
        }
        for event in &events {
            observe(event);
            while lines.peek().is_some_and(|Reverse(next)| next.line.after <= event.seq) {
                let Some(Reverse(LogCursor { line, stage, attempt, reader })) = lines.pop() else { break };
                let LogLine { at, after, stream, text, .. } = line;
                let kind = EventKind::Log { stage, attempt, stream, line: text };
                observe(&Event { seq: after, at, kind });
                lines.extend(LogCursor::open(stage, attempt, reader)?.map(Reverse));
            }
        }
        Ok(())
    }
}
