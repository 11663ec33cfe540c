//! What the engine asks of the world: traits that other crates implement.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use stagewright_model::{Limits, PathPattern, Permissions, PluginRef, Queue, RehearsalTerms, StageIndex, Trust};
use tokio::sync::{mpsc, oneshot, watch};

use crate::event::{
    Capture, Event, Failure, Finding, Gate, Interrupt, Made, Outcome, Problem, Release, RunId, Stream, Timestamp,
};
use crate::lines::{Lines, Piece};

/// Runs attempts.
pub trait StageRunner: Send + Sync {
    /// Runs one attempt to its end.
    ///
    /// `interrupt` turns to `Some` when the attempt should stop; dropping the future is never how it is stopped. After
    /// [`Interrupt::Graceful`] the future must be ready within fifteen seconds, after [`Interrupt::Kill`] within five,
    /// whatever the stage does: the engine goes on without it then. The runner enforces
    /// [`AttemptRequest::timeout`] itself.
    fn run(
        &self,
        request: AttemptRequest,
        output: AttemptOutput,
        interrupt: watch::Receiver<Option<Interrupt>>,
    ) -> BoxFuture<'static, AttemptReport>;

    /// Captures the files that stages behind a gate will be given, before people are asked. None where stages have no
    /// files.
    ///
    /// # Errors
    /// When it can't be done, or when the stages before the gate didn't leave them so.
    fn capture(&self, _: CaptureRequest) -> BoxFuture<'static, Result<Option<Capture>, Failure>> {
        Box::pin(std::future::ready(Ok(None)))
    }
}

/// Which files are to be captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureRequest {
    /// The run.
    pub run: RunId,
    /// Unique name of the stage at whose gate it is.
    pub stage_id: String,
    /// The capture's [`opening`](Capture::opening).
    pub opening: u64,
    /// Globs of all that the stages behind the gate may read, write or start.
    pub paths: Vec<PathPattern>,
    /// What the files are to be now.
    pub basis: Basis,
}

/// Which files an attempt is given, and what has to hold of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Basis {
    /// The captures of the gates that it comes after, oldest first. It is given the last one, which must hold what was
    /// approved at the others. Empty: it works on the workspace itself.
    pub captures: Vec<Approved>,
    /// What the stages that it needs, directly or not, have made; in the order in which they ended.
    pub made: Vec<MadeBefore>,
    /// Globs of what other stages of the run may have written meanwhile: changes there are not refused.
    pub unordered: Vec<PathPattern>,
    /// Globs of all that stages behind the last gate may write.
    pub writable: Vec<PathPattern>,
    /// Globs of its results: its `outputs`, else all that it may write.
    pub results: Vec<PathPattern>,
    /// Globs of what later stages may read. What of its results matches is recorded once it has succeeded.
    pub readers: Vec<PathPattern>,
}

/// A capture that people approved of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approved {
    /// Unique name of the stage at whose gate that was.
    pub stage_id: String,
    /// The files.
    pub capture: Capture,
    /// Globs of what stages of the run may have written since.
    pub written_since: Vec<PathPattern>,
}

/// What an earlier stage of the run made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeBefore {
    /// Its unique name.
    pub stage_id: String,
    /// What it left.
    pub made: Made,
    /// Globs of the results that `made` is about.
    pub results: Vec<PathPattern>,
    /// Globs of all that it may have written.
    pub writable: Vec<PathPattern>,
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
    /// What the plugin is called for.
    pub call: Call,
    /// Which plugin.
    pub uses: PluginRef,
    /// Component or pinned native library.
    pub trust: Trust,
    /// `sha256:…` that the plugin must have; none when any will do.
    pub plugin: Option<String>,
    /// The `with` table.
    pub config: Json,
    /// The `env` table.
    pub env: BTreeMap<String, String>,
    /// What the TOML grants.
    pub permissions: Permissions,
    /// The environment that it acts on.
    pub environment: Option<EnvironmentView>,
    /// The outputs of the stage's direct needs, by stage name.
    pub needs: BTreeMap<String, Json>,
    /// Wall time.
    pub timeout: Option<Duration>,
    /// Bytes of guest memory.
    pub memory: Option<u64>,
    /// Bytes of log.
    pub log_limit: Option<u64>,
    /// The other bounds.
    pub limits: Limits,
    /// Globs of the only files of those it may read that it is to read, since its result counts as made from them
    /// alone; none for all.
    pub declared: Option<Vec<PathPattern>>,
    /// Whether an earlier result may stand for this attempt; none when it may not.
    pub cache: Option<CacheRequest>,
    /// JSON of the [`Decision`](crate::Decision) when the stage goes on after a gate.
    pub resumption: Option<Json>,
    /// In a rehearsal, what it may reach for real; none in a real run.
    pub rehearsal: Option<RehearsalTerms>,
    /// Which files it is given.
    pub basis: Basis,
    /// The folder whose files stand for those of the workspace; none for the workspace itself. The engine never says so:
    /// it is for runners that stand before others.
    pub folder: Option<PathBuf>,
}

/// What the result of an attempt depends on, and what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheRequest {
    /// Whether one is taken; not when the stage is run again after a resume: whoever asks for that wants it done.
    pub take: bool,
    /// Whether a result is kept.
    pub keep: bool,
    /// Globs of the files that it depends on; none: all that may be read.
    pub inputs: Vec<PathPattern>,
    /// Globs of the files that it makes.
    pub outputs: Vec<PathPattern>,
    /// Stages before it, needs of its needs included, that may write to the workspace; none when this one may not: then
    /// all that it sees of what they left is among its inputs.
    pub before: Vec<StageBefore>,
}

/// A stage that comes before another one, as far as it may have left something for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageBefore {
    /// Unique name, matrix values included.
    pub stage_id: String,
    /// Globs of the files that it makes.
    pub outputs: Vec<PathPattern>,
    /// Globs of all that it may write.
    pub writes: Vec<PathPattern>,
    /// Whether its result has a key.
    pub is_cached: bool,
}

/// What a plugin is called for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Call {
    /// To do what it is for.
    #[default]
    Run,
    /// To say what became of an attempt that was left in doubt: the one of [`AttemptRequest::attempt`]. It must not
    /// change anything, and ends with [`AttemptEnd::Observed`] or unsuccessfully.
    Observe,
    /// To take back what the attempt did. It may be asked for again when it was interrupted.
    Undo,
}

/// An environment, as an attempt on it sees it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EnvironmentView {
    /// A key of `[environments]`.
    pub name: String,
    /// The token that the attempt acts under, or acted under when it is asked about; none for a stage without effects
    /// beyond this machine.
    pub fence: Option<u64>,
    /// What runs there by the ledger.
    pub current: Option<Release>,
    /// What to go back to: the last release that proved good and is not the current one.
    pub last_known_good: Option<Release>,
}

/// What an attempt came to.
#[derive(Clone, Debug, PartialEq)]
pub struct AttemptReport {
    /// How it ended.
    pub end: AttemptEnd,
    /// JSON values by name; kept for a failed attempt too.
    pub outputs: BTreeMap<String, Json>,
    /// What it published.
    pub artifacts: Vec<Artifact>,
    /// What it deployed, if it did.
    pub release: Option<ReleaseNote>,
    /// What it left in the places that it may write, where [`Basis::readers`] asks for it.
    pub made: Option<Made>,
}

/// A file that a stage published under a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Artifact {
    /// The name; one of a kind in its run.
    pub name: String,
    /// `sha256:…` of the content.
    pub digest: String,
    /// As in `text/plain`.
    pub media_type: String,
    /// Bytes.
    pub size: u64,
}

/// What a plugin says of the release that it made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseNote {
    /// What runs, by digest.
    pub artifact: String,
    /// Where it answers.
    pub url: Option<String>,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub enum AttemptEnd {
    /// It did what it is for.
    Succeeded,
    /// It found nothing to do, and says why.
    Skipped(String),
    /// It is a rehearsal's, and came to something that isn't done in one: what it would have done, as in "would run …".
    Rehearsed(String),
    /// It waits for a person, and holds nothing meanwhile.
    Suspended(Gate),
    /// The answer to [`Call::Observe`].
    Observed(Observation),
    /// It did not succeed. The outcome is one of failed, errored, timed-out, cancelled, lost or inconclusive.
    Unsuccessful(Outcome, Failure),
}

/// What a plugin sees of an attempt that was left in doubt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// It is settled what became of it.
    Found(Finding),
    /// It still goes on: ask again later.
    InProgress,
    /// It can't tell, and why.
    Unknown(String),
}

/// Where an attempt's log, progress and findings go while it runs.
#[derive(Clone, Debug)]
pub struct AttemptOutput {
    stage: StageIndex,
    attempt: u32,
    launch: u64,
    live: mpsc::Sender<Live>,
    tap: Option<Arc<dyn Tap>>,
}

/// Hears what an attempt says, beside the loop.
pub trait Tap: Send + Sync + std::fmt::Debug {
    /// Called in the order in which it is said, for all but progress, which may be lost anyway.
    fn said(&self, kind: &LiveKind);
}

impl AttemptOutput {
    /// For the attempt of one stage. The channel's bound is what slows a stage down that logs faster than it can be
    /// written.
    pub fn new(stage: StageIndex, attempt: u32, live: mpsc::Sender<Live>) -> AttemptOutput {
        AttemptOutput { stage, attempt, launch: 0, live, tap: None }
    }

    /// With somebody else to hear it.
    #[must_use]
    pub fn tapped(self, tap: Arc<dyn Tap>) -> AttemptOutput {
        AttemptOutput { tap: Some(tap), ..self }
    }

    /// Tells this call of the plugin from others for the same attempt.
    pub(crate) fn of_launch(self, launch: u64) -> AttemptOutput {
        AttemptOutput { launch, ..self }
    }

    /// Complete lines, masked. Waits while the reader is behind.
    pub async fn lines(&self, stream: Stream, lines: Lines) {
        self.send(LiveKind::Lines(stream, lines)).await;
    }

    /// How far it is. Lost when the reader is behind: the next one says more.
    pub fn progress(&self, message: String, current: u32, total: Option<u32>) {
        let kind = LiveKind::Progress { message, current, total };
        let _ = self.live.try_send(self.says(kind));
    }

    /// Markdown to be shown with the run.
    pub async fn summary(&self, markdown: String) {
        self.send(LiveKind::Summary(markdown)).await;
    }

    /// The key of the attempt's result in the cache, and the run whose result is taken for it, if there is one.
    pub async fn cache(&self, key: String, found: Option<RunId>) {
        self.send(LiveKind::Cache { key, found }).await;
    }

    /// A finding.
    pub async fn problem(&self, problem: Problem) {
        self.send(LiveKind::Problem(problem)).await;
    }

    /// Must be called before each effect beyond this machine, as in `push local/app`. The effect may follow only when
    /// this allows it: then it is in the journal that it was about to happen.
    ///
    /// # Errors
    /// When another attempt holds the environment by now, or when the journal can't be written.
    pub async fn effect(&self, what: String) -> Result<(), EffectRefused> {
        let (answer, answered) = oneshot::channel();
        self.send(LiveKind::Effect { what, answer }).await;
        answered.await.unwrap_or(Err(EffectRefused::Unrecorded))
    }

    async fn send(&self, kind: LiveKind) {
        if let Some(tap) = &self.tap {
            tap.said(&kind);
        }
        // The receiver is closed only when the loop itself is gone, and then nothing is lost that could be kept.
        let _ = self.live.send(self.says(kind)).await;
    }

    fn says(&self, kind: LiveKind) -> Live {
        Live { stage: self.stage, attempt: self.attempt, launch: self.launch, kind }
    }
}

/// Why an effect must not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EffectRefused {
    /// Another attempt holds the environment by now.
    #[error("another attempt has taken over the environment `{0}`: this one comes too late")]
    Superseded(String),
    /// What can't be recorded must not be done.
    #[error("the effect can't be recorded in the journal, and so must not happen")]
    Unrecorded,
}

/// Something a running attempt said.
#[derive(Debug)]
pub struct Live {
    /// The stage.
    pub stage: StageIndex,
    /// Which try.
    pub attempt: u32,
    /// Which call of the plugin: an attempt that was left behind may still speak when it is asked about.
    pub launch: u64,
    /// What it said.
    pub kind: LiveKind,
}

/// What a running attempt can say.
#[derive(Debug)]
#[expect(missing_docs, reason = "each is the event of the same name")]
pub enum LiveKind {
    Lines(Stream, Lines),
    Progress { message: String, current: u32, total: Option<u32> },
    Summary(String),
    Cache { key: String, found: Option<RunId> },
    Problem(Problem),
    Effect { what: String, answer: oneshot::Sender<Result<(), EffectRefused>> },
}

/// Keeps runs.
pub trait RunStore: Send {
    /// Appends to the run's journal, in order and all or nothing. When `durable`, the events (and all before them) are
    /// on disk once this returns; otherwise they may be lost with the machine, but not reordered.
    fn append(&mut self, run: &RunId, events: &[Event], durable: bool) -> Result<(), StoreError>;
}

/// Keeps apart what must not happen at once: deploys to one environment, and runs of one concurrency group.
///
/// What a run holds ends with the process that drives it, however that ends. Rehearsals have environments and groups of
/// their own. Whatever a call changes is on disk once it returns.
pub trait Turns: Send {
    /// Asks for an environment on behalf of an attempt. A run may ask again for what it holds, and gets a new token.
    fn claim(&mut self, claim: &Claim) -> Result<Claimed, StoreError>;
    /// Whether `fence` is still the environment's newest token.
    fn holds(&mut self, run: &RunId, environment: &str, fence: u64) -> Result<bool, StoreError>;
    /// Lets others have the environment.
    fn unclaim(&mut self, run: &RunId, environment: &str) -> Result<(), StoreError>;
    /// Says that the run is alive, for all that it holds. To be called at least every [`HEARTBEAT`].
    fn beat(&mut self, run: &RunId, now: Timestamp) -> Result<(), StoreError>;
    /// Asks for a concurrency group. Runs that this one replaces are asked to end.
    fn join(&mut self, join: &Join) -> Result<Joined, StoreError>;
    /// Lets others of the group go on.
    fn leave(&mut self, run: &RunId, group: &str) -> Result<(), StoreError>;
}

/// How often a run that holds an environment says that it is alive.
pub const HEARTBEAT: Duration = Duration::from_secs(5);

/// How long a run without a heartbeat keeps an environment when its process can't be checked.
pub const LEASE: Duration = Duration::from_secs(60);

/// A request for an environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Who asks.
    pub run: RunId,
    /// For what.
    pub environment: String,
    /// Whether a person allowed it in spite of a freeze.
    pub override_freeze: bool,
    /// When.
    pub at: Timestamp,
}

/// The answer to a [`Claim`].
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and it is handed on at once")]
pub enum Claimed {
    /// It is the run's until it lets go, ends, or falls silent.
    Granted {
        /// Larger than any before it.
        fence: u64,
        /// What runs there.
        current: Option<Release>,
        /// The last release that proved good and is not the current one.
        last_known_good: Option<Release>,
    },
    /// Another run has it.
    Held {
        /// Which.
        by: RunId,
    },
    /// A run that is newer than this one has been there.
    Superseded {
        /// Which.
        by: RunId,
    },
    /// Somebody has frozen it.
    Frozen {
        /// For how long; none until somebody lifts the freeze.
        until: Option<Timestamp>,
        /// Why, and by whom.
        reason: String,
    },
}

/// A request for a concurrency group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// Who asks.
    pub run: RunId,
    /// For what.
    pub group: String,
    /// Whether the run that has the group is asked to end.
    pub cancel_in_progress: bool,
    /// Which waiting runs are kept.
    pub queue: Queue,
    /// When.
    pub at: Timestamp,
}

/// The answer to a [`Join`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Joined {
    /// The group is the run's.
    Granted {
        /// Runs that were asked to end since this one first asked.
        replaced: Vec<RunId>,
    },
    /// Others come first. Ask again.
    Waiting {
        /// Who has the group.
        holder: RunId,
    },
}

/// Keeps the logs of one run.
pub trait LogSink: Send {
    /// Appends lines to an attempt's log. `after`: `seq` of the run's last event before them, which puts them into their
    /// place when the run is shown again.
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

/// A store that can't do what it is for. Stops the run: what can't be recorded must not be done.
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
    /// Called for the lines of logs in place of their events: whoever doesn't need each by itself saves the time.
    fn on_lines(&mut self, piece: &Piece<'_>) {
        piece.events().for_each(|event| self.on_event(&event));
    }
}
