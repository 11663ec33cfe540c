//! Where journals and logs are kept.

use stagewright_model::StageIndex;

use crate::event::{Event, RunId, Stream, Timestamp};
use crate::lines::Lines;

/// Stores the journals of runs.
pub trait RunStore: Send {
    /// Appends to the run's journal, in order and all or nothing. When `durable`, the events (and all before them) are
    /// on disk once this returns; otherwise they may be lost with the machine, but not reordered.
    fn append(&mut self, run: &RunId, events: &[Event], durable: bool) -> Result<(), StoreError>;
}

/// Stores the logs of one run.
pub trait LogSink: Send {
    /// Appends lines to an attempt's log. `after`: `seq` of the run's last event before them, which is where they
    /// are put when the run is replayed.
    fn append(
        &mut self,
        at: Timestamp,
        after: u64,
        stage: StageIndex,
        attempt: u32,
        stream: Stream,
        lines: &Lines,
    ) -> Result<(), StoreError>;
    /// No more lines will come for this attempt; what was appended is on disk once this returns.
    fn seal(&mut self, stage: StageIndex, attempt: u32) -> Result<(), StoreError>;
}

/// A failure of the store. It stops the run: what can't be recorded must not be done.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct StoreError {
    /// Where the fault lies.
    pub kind: StoreErrorKind,
    /// What failed, with the path.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// The cause.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Where the fault of a [`StoreError`] lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// The disk, the state folder, or a defect.
    Storage,
    /// The request names a run that doesn't exist, or an abbreviation that fits several.
    NotFound,
    /// Another process drives the run.
    Busy,
}
