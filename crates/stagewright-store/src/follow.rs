//! Follows the logs of a run while another process writes them.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use stagewright_engine::{RunId, StoreError};
use stagewright_model::StageIndex;

use crate::{LogLine, LogReader, Store};

/// Reads what has been added to the logs of a run since the last call, in the order in which it was written.
#[derive(Debug)]
pub struct LogFollower {
    run: RunId,
    known: BTreeSet<(StageIndex, u32)>,
    logs: Vec<FollowedLog>,
}

#[derive(Debug)]
struct FollowedLog {
    stage: StageIndex,
    attempt: u32,
    reader: LogReader,
    next: Option<LogLine>,
}

impl FollowedLog {
    /// Reads the next line, and returns what orders it among the lines of all logs; none if there is none yet.
    fn advance(&mut self) -> Result<Option<(u64, u64)>, StoreError> {
        self.next = self.reader.next().transpose()?;
        Ok(self.next.as_ref().map(|line| (line.after, line.number)))
    }
}

impl LogFollower {
    /// Begins with the first line of each log.
    pub fn new(run: RunId) -> LogFollower {
        LogFollower { run, known: BTreeSet::new(), logs: Vec::new() }
    }

    /// Calls `on_line` with the stage, the attempt and the text of every new line of the attempts that are `wanted`.
    ///
    /// To miss none, ask the journal whether the run has ended before the last call, and not after it: the lines of an
    /// attempt are written before its end is recorded.
    ///
    /// # Errors
    /// If a log can't be read, and those of `on_line`.
    pub fn read<E: From<StoreError>>(
        &mut self,
        store: &Store,
        wanted: impl Fn(StageIndex, u32) -> bool,
        mut on_line: impl FnMut(StageIndex, u32, &LogLine) -> Result<(), E>,
    ) -> Result<(), E> {
        for (stage, attempt) in store.all_logs(&self.run)? {
            if wanted(stage, attempt) && self.known.insert((stage, attempt)) {
                let reader = store.read_log(&self.run, stage, attempt);
                self.logs.push(FollowedLog { stage, attempt, reader, next: None });
            }
        }
        let mut order = BinaryHeap::new();
        for (index, log) in self.logs.iter_mut().enumerate() {
            order.extend(log.advance()?.map(|key| Reverse((key, index))));
        }
        while let Some(Reverse((_, index))) = order.pop() {
            let log = &mut self.logs[index];
            if let Some(line) = log.next.take() {
                on_line(log.stage, log.attempt, &line)?;
            }
            order.extend(log.advance()?.map(|key| Reverse((key, index))));
        }
        Ok(())
    }
}
