//! What the engine asks of the world: traits that other crates implement.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::Value as Json;
use stagewright_model::{Permissions, PluginRef, StageIndex, Trust};
use tokio::sync::{mpsc, watch};

use crate::event::{Event, Failure, Gate, Interrupt, Outcome, Problem, RunId, Stream, Timestamp};

/// Runs attempts.
pub trait StageRunner: Send + Sync {
    /// Runs one attempt to its end.
    ///
    /// `interrupt` turns to `Some` when the attempt should stop; dropping the future is never how it is stopped. After
    /// [`Interrupt::Kill`] the future must be ready within two seconds, whatever the stage does. The runner enforces
    /// [`AttemptRequest::timeout`] itself.
    fn run(
        &self,
        request: AttemptRequest,
        output: AttemptOutput,
        interrupt: watch::Receiver<Option<Interrupt>>,
    ) -> BoxFuture<'static, AttemptReport>;
}

/// All that an attempt is given. Expressions are evaluated.
#[derive(Clone, Debug, PartialEq)]
pub struct AttemptRequest {
    /// The run.
    pub run: RunId,
    /// `[pipeline] name`.
    pub pipeline: String,
    /// Position in the plan.
    pub stage: StageIndex,
    /// Unique name, matrix values included.
    pub stage_id: String,
    /// The table of the pipeline file that it comes from, as in `stages.test`; for errors that name a place.
    pub table: String,
    /// 1 for the first try.
    pub attempt: u32,
    /// Which plugin.
    pub uses: PluginRef,
    /// Component or pinned native library.
    pub trust: Trust,
    /// The `with` table.
    pub config: Json,
    /// The `env` table.
    pub env: BTreeMap<String, String>,
    /// What the TOML grants.
    pub permissions: Permissions,
    /// The environment's name.
    pub environment: Option<String>,
    /// The outputs of the stage's direct needs, by stage name.
    pub needs: BTreeMap<String, Json>,
    /// Wall time.
    pub timeout: Option<Duration>,
    /// Bytes of guest memory.
    pub memory: Option<u64>,
    /// Bytes of log.
    pub log_limit: Option<u64>,
    /// JSON of the [`Decision`](crate::Decision) when the stage goes on after a gate.
    pub resumption: Option<Json>,
    /// Whether effects act on local stand-ins.
    pub rehearsal: bool,
}

/// What an attempt came to.
#[derive(Clone, Debug, PartialEq)]
pub struct AttemptReport {
    /// How it ended.
    pub end: AttemptEnd,
    /// JSON values by name; kept for a failed attempt too.
    pub outputs: BTreeMap<String, Json>,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub enum AttemptEnd {
    /// It did what it is for.
    Succeeded,
    /// It found nothing to do, and says why.
    Skipped(String),
    /// It waits for a person, and holds nothing meanwhile.
    Suspended(Gate),
    /// It did not succeed. The outcome is one of failed, errored, timed-out, cancelled, lost or inconclusive.
    Unsuccessful(Outcome, Failure),
}

/// Where an attempt's log, progress and findings go while it runs.
#[derive(Clone, Debug)]
pub struct AttemptOutput {
    stage: StageIndex,
    attempt: u32,
    live: mpsc::Sender<Live>,
}

impl AttemptOutput {
    /// For the attempt of one stage. The channel's bound is what slows a stage down that logs faster than it can be
    /// written.
    pub fn new(stage: StageIndex, attempt: u32, live: mpsc::Sender<Live>) -> AttemptOutput {
        AttemptOutput { stage, attempt, live }
    }

    /// Complete lines, masked, without their line ends. Waits while the reader is behind.
    pub async fn lines(&self, stream: Stream, lines: Vec<String>) {
        self.send(LiveKind::Lines(stream, lines)).await;
    }

    /// How far it is. Lost when the reader is behind: the next one says more.
    pub fn progress(&self, message: String, current: u32, total: Option<u32>) {
        let kind = LiveKind::Progress { message, current, total };
        let _ = self.live.try_send(Live { stage: self.stage, attempt: self.attempt, kind });
    }

    /// Markdown to be shown with the run.
    pub async fn summary(&self, markdown: String) {
        self.send(LiveKind::Summary(markdown)).await;
    }

    /// A finding.
    pub async fn problem(&self, problem: Problem) {
        self.send(LiveKind::Problem(problem)).await;
    }

    async fn send(&self, kind: LiveKind) {
        // Nobody listens any more only when the loop itself is gone, and then nothing is lost that could be kept.
        let _ = self.live.send(Live { stage: self.stage, attempt: self.attempt, kind }).await;
    }
}

/// Something a running attempt said.
#[derive(Clone, Debug, PartialEq)]
pub struct Live {
    /// The stage.
    pub stage: StageIndex,
    /// Which try.
    pub attempt: u32,
    /// What it said.
    pub kind: LiveKind,
}

/// What a running attempt can say.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each is the event of the same name")]
pub enum LiveKind {
    Lines(Stream, Vec<String>),
    Progress { message: String, current: u32, total: Option<u32> },
    Summary(String),
    Problem(Problem),
}

/// Keeps runs.
pub trait RunStore: Send {
    /// Appends to the run's journal, in order and all or nothing. When `durable`, the events (and all before them) are
    /// on disk once this returns; otherwise they may be lost with the machine, but not reordered.
    fn append(&mut self, run: &RunId, events: &[Event], durable: bool) -> Result<(), StoreError>;
}

/// Keeps the logs of one run.
pub trait LogSink: Send {
    /// Appends lines to an attempt's log.
    fn append(
        &mut self,
        at: Timestamp,
        stage: StageIndex,
        attempt: u32,
        stream: Stream,
        lines: &[String],
    ) -> Result<(), StoreError>;
    /// No more lines will come for this attempt; what was appended is on disk once this returns.
    fn seal(&mut self, stage: StageIndex, attempt: u32) -> Result<(), StoreError>;
}

/// A store that can't do what it is for. Stops the run: what can't be recorded must not be done.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct StoreError {
    /// What failed, with the path.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// The cause.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
    /// Ready after the duration.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// Watches a run.
pub trait Observer: Send {
    /// Called for every event in order, after it was recorded.
    fn on_event(&mut self, event: &Event);
}
