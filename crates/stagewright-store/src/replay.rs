//! A run as its observers saw it: its journal and its logs, in one order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use stagewright_engine::{Event, EventKind, RunId, StoreError};
use stagewright_model::StageIndex;

use crate::{LogLine, LogReader, Store};

/// The next line of one attempt's log.
struct Next {
    line: LogLine,
    stage: StageIndex,
    attempt: u32,
    reader: LogReader,
}

impl Next {
    fn of(stage: StageIndex, attempt: u32, mut reader: LogReader) -> Result<Option<Next>, StoreError> {
        let line = reader.next().transpose()?;
        Ok(line.map(|line| Next { line, stage, attempt, reader }))
    }

    fn key(&self) -> (u64, u64, StageIndex, u32) {
        (self.line.after, self.line.number, self.stage, self.attempt)
    }
}

impl PartialEq for Next {
    fn eq(&self, other: &Next) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Next {}

impl PartialOrd for Next {
    fn partial_cmp(&self, other: &Next) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Next {
    fn cmp(&self, other: &Next) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl Store {
    /// Shows a run again: gives every event and every log line of it, in the order in which its observers saw them.
    /// Progress is not kept, and so not given.
    ///
    /// # Errors
    /// When the journal or a log can't be read.
    pub fn replay(&self, run: &RunId, mut observe: impl FnMut(&Event)) -> Result<(), StoreError> {
        let events = self.events(run)?;
        let mut lines = BinaryHeap::new();
        for (stage, attempt) in self.all_logs(run)? {
            lines.extend(Next::of(stage, attempt, self.read_log(run, stage, attempt))?.map(Reverse));
        }
        for event in &events {
            observe(event);
            while lines.peek().is_some_and(|Reverse(next)| next.line.after <= event.seq) {
                let Some(Reverse(Next { line, stage, attempt, reader })) = lines.pop() else { break };
                let LogLine { at, after, stream, text, .. } = line;
                let kind = EventKind::Log { stage, attempt, stream, line: text };
                observe(&Event { seq: after, at, kind });
                lines.extend(Next::of(stage, attempt, reader)?.map(Reverse));
            }
        }
        Ok(())
    }
}
