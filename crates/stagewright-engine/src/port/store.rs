//! Storage of journals and logs.

use stagewright_model::StageIndex;

use crate::event::{Event, RunId, Stream, Timestamp};
use crate::lines::Lines;

/// Stores the journals of runs.
pub trait RunStore: Send {
    /// Appends all events to the run's journal in order, or none. If `durable`, these events and all earlier ones are
    /// on disk once this returns; otherwise a crash of the machine may lose them, but can't reorder them.
    fn append(&mut self, run: &RunId, events: &[Event], durable: bool) -> Result<(), StoreError>;
}

/// Stores the logs of one run.
pub trait LogSink: Send {
    /// Appends lines to an attempt's log. `after` is the `seq` of the run's last event before them; a replay shows them
    /// after that event.
    fn append(
        &mut self,
        at: Timestamp,
        after: u64,
        stage: StageIndex,
        attempt: u32,
        stream: Stream,
        lines: &Lines,
    ) -> Result<(), StoreError>;
    /// Completes the attempt's log: no more lines follow, and what was appended is on disk once this returns.
    fn seal(&mut self, stage: StageIndex, attempt: u32) -> Result<(), StoreError>;
}

/// A failure of the store. It stops the run, because nothing may happen that can't be recorded.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct StoreError {
    /// Whose fault it is.
    pub kind: StoreErrorKind,
    /// What failed, including the path.
    pub message: String,
    /// How to fix it.
    pub help: Option<String>,
    /// The cause.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Whose fault a [`StoreError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// That of the disk, of the state folder, or of Stagewright itself.
    Storage,
    /// The request names a run that doesn't exist, or an ambiguous abbreviation.
    NotFound,
    /// Another process drives the run.
    Busy,
}
