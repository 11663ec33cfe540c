//! The events of a run, as `--format json` writes them.

mod gate;
mod measure;
mod outcome;
mod release;
mod source;
mod stage;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

pub use gate::{
    CaptureEntry, DecisionEntry, FieldEntry, FieldKindName, FindingEntry, GateEntry, GateKindName, MadeEntry,
    SignalEntry,
};
pub use measure::{FailedTestEntry, MetricEntry, TestCaseEntry, TestOutcomeName};
pub use outcome::{
    FailureEntry, FailureKindName, FilePlaceEntry, LevelName, MissingGrantEntry, OutcomeName, ProblemEntry,
    TextRangeEntry,
};
pub use release::{ArtifactEntry, DeployedReleaseEntry, ReleaseOriginName, RolloutEntry, RolloutPhaseName};
pub use source::{GitStateEntry, ReleaseSourceEntry, RunSourceEntry, SourceChangeEntry, TriggerEntry};
pub use stage::{EffectClassName, FidelityName, StageKindName, StageSummaryEntry};

/// A line of `--format json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct EventLine {
    /// [`VERSION`](crate::VERSION).
    pub v: u32,
    /// Counts the run's recorded events from 0. Events that aren't recorded (`log`, `progress`, `decision-refused`) have
    /// the number of the recorded one before them.
    pub seq: u64,
    /// When it happened, in milliseconds since the Unix epoch.
    pub at: u64,
    /// The event; its fields are those of the line.
    #[serde(flatten)]
    pub event: EventEntry,
    /// The name of the stage that the event's `stage` numbers, matrix values included. Left out where the event has no
    /// `stage`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage_id: Option<String>,
    /// The names of the stages that `waiting` numbers. Only present for `run-suspended`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_ids: Option<Vec<String>>,
    /// The name of the stage that `because` numbers. Only present for `undo-started`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because_id: Option<String>,
}

/// An event of a run. `stage` is the position of a stage in the `stages` of `run-started`, from 0; `attempt` counts the
/// tries of a stage from 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum EventEntry {
    /// The run has started. Always the first event.
    RunStarted {
        /// Id of the run.
        run: String,
        /// `[pipeline] name`.
        pipeline: String,
        /// The pipeline file, relative to the repository's root if it is inside the repository.
        file: String,
        /// Whether the run is a rehearsal.
        rehearsal: bool,
        /// Values of the pipeline's inputs by name, defaults included.
        inputs: BTreeMap<String, Json>,
        /// What the run is of, and what started it.
        source: Box<RunSourceEntry>,
        /// Every stage of the plan, in its order.
        stages: Vec<StageSummaryEntry>,
    },
    /// A run that had stopped continues, after a gate, a crash or a failure.
    RunResumed {
        /// Why, in a sentence.
        reason: String,
        /// Stages that will run again, whatever their result was before.
        again: Vec<u32>,
        /// What has changed since the run was started, and was accepted. Left out when it is nothing.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        changed: Vec<SourceChangeEntry>,
    },
    /// Of its tests, the stage runs only those that failed in an earlier run.
    TestsSelected {
        /// The stage.
        stage: u32,
        /// Id of the earlier run.
        from: String,
        /// At least one.
        tests: Vec<FailedTestEntry>,
    },
    /// A stage that is left out has the outputs that it had in an earlier run.
    OutputsInherited {
        /// The stage.
        stage: u32,
        /// Id of the earlier run.
        from: String,
        /// Values by name.
        outputs: BTreeMap<String, Json>,
    },
    /// The run waits for its concurrency group.
    GroupAwaited {
        /// Name of the group.
        group: String,
        /// Id of the run that has it.
        holder: String,
    },
    /// The run has its concurrency group.
    GroupJoined {
        /// Name of the group.
        group: String,
        /// Ids of the runs that were cancelled for this one.
        replaced: Vec<String>,
    },
    /// The run has released its concurrency group.
    GroupLeft {
        /// Name of the group.
        group: String,
    },
    /// The stage waits for another run to release its environment.
    EnvironmentAwaited {
        /// The stage.
        stage: u32,
        /// Name of the environment.
        environment: String,
        /// Id of the run that has it.
        holder: String,
    },
    /// An attempt is about to begin.
    AttemptStarted {
        /// The stage.
        stage: u32,
        /// Which try.
        attempt: u32,
        /// The token of its environment that it acts under. Left out for a stage that acts on none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fence: Option<u64>,
    },
    /// An attempt is about to have its first effect beyond this machine.
    EffectIntended {
        /// The stage.
        stage: u32,
        /// Which try.
        attempt: u32,
        /// The effect, as in `push local/app`.
        what: String,
    },
    /// The plugin of an attempt that was interrupted is asked what its outcome was.
    RecoveryStarted {
        /// The stage.
        stage: u32,
        /// The try that was interrupted.
        attempt: u32,
    },
    /// The outcome of an attempt that was interrupted is known.
    Recovered {
        /// The stage.
        stage: u32,
        /// The try that was interrupted.
        attempt: u32,
        /// The outcome.
        finding: FindingEntry,
        /// Name of the person who determined it; none when the plugin did.
        by: Option<String>,
        /// Values by name, as the plugin gave them again.
        outputs: BTreeMap<String, Json>,
    },
    /// A deploy that gives its version the requests step by step has got further.
    RolloutProgressed {
        /// The stage.
        stage: u32,
        /// Which try.
        attempt: u32,
        /// Name of the environment.
        environment: String,
        /// How far it is.
        rollout: RolloutEntry,
    },
    /// An attempt has deployed a release to its stage's environment.
    ReleaseRecorded {
        /// The stage.
        stage: u32,
        /// Which try.
        attempt: u32,
        /// The release.
        release: DeployedReleaseEntry,
    },
    /// All stages that directly need the one that deployed have succeeded: the environment can be rolled back to its
    /// release.
    ReleaseConfirmed {
        /// The stage that deployed.
        stage: u32,
    },
    /// The effect of a stage is about to be undone.
    UndoStarted {
        /// The stage.
        stage: u32,
        /// The try whose effect it is.
        attempt: u32,
        /// The stage whose failure requires it; see [`EventLine::because_id`] for its name.
        because: u32,
        /// The token of its environment that the undo acts under. Left out for a stage that acts on none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fence: Option<u64>,
    },
    /// The effect of a stage was undone, or could not be.
    UndoEnded {
        /// The stage.
        stage: u32,
        /// The try whose effect it was.
        attempt: u32,
        /// How it ended.
        outcome: OutcomeName,
        /// What went wrong, or why there was nothing to undo.
        failure: Option<FailureEntry>,
    },
    /// A line of a stage's log.
    Log {
        /// The stage.
        stage: u32,
        /// Which try.
        attempt: u32,
        /// Where the line came from.
        stream: StreamName,
        /// The line without its line end; secrets in it are masked.
        line: String,
    },
    /// How far an attempt is.
    Progress {
        /// The stage.
        stage: u32,
        /// What it does.
        message: String,
        /// Units that are done.
        current: u64,
        /// All units, when known.
        total: Option<u64>,
    },
    /// Markdown that a stage shows with the run.
    Summary {
        /// The stage.
        stage: u32,
        /// The text.
        markdown: String,
    },
    /// The result of an attempt was looked up in the cache.
    CacheAsked {
        /// The stage.
        stage: u32,
        /// Which try.
        attempt: u32,
        /// Digest of all that the result depends on.
        key: String,
        /// For a hit, id of the run that made the result. Left out for a miss.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        found: Option<String>,
    },
    /// A finding of a stage, such as a failing test or an advisory.
    Problem {
        /// The stage.
        stage: u32,
        /// The finding.
        problem: ProblemEntry,
    },
    /// Results of tests that a stage ran. A try can have several of these events.
    TestsReported {
        /// The stage.
        stage: u32,
        /// Which try.
        attempt: u32,
        /// In the order in which they were reported.
        cases: Vec<TestCaseEntry>,
    },
    /// The figures of a stage.
    MetricsReported {
        /// The stage.
        stage: u32,
        /// Which try.
        attempt: u32,
        /// Sorted by name.
        metrics: Vec<MetricEntry>,
    },
    /// The stage waits at a gate; nothing of it is running.
    GateOpened {
        /// The stage.
        stage: u32,
        /// The try that opened it, or that will begin once it is approved.
        attempt: u32,
        /// The gate: its question, and who may answer.
        gate: GateEntry,
    },
    /// The time until which a gate was closed has passed.
    GateElapsed {
        /// The stage.
        stage: u32,
    },
    /// A person answered a gate.
    GateDecided {
        /// The stage.
        stage: u32,
        /// The answer.
        decision: DecisionEntry,
    },
    /// A signal ended the wait of a stage.
    GateSignalled {
        /// The stage.
        stage: u32,
        /// The signal.
        signal: SignalEntry,
    },
    /// A signal came before the wait that it is for: it is kept, and ends that wait as soon as it begins.
    SignalKept {
        /// The signal.
        signal: SignalEntry,
    },
    /// A signal was refused.
    SignalRefused {
        /// The token that it named.
        token: String,
        /// Name of the person who sent it.
        by: String,
        /// Why it was refused.
        reason: String,
    },
    /// An answer to a gate was refused; the gate stays as it is.
    DecisionRefused {
        /// The stage.
        stage: u32,
        /// Name of the person who answered.
        by: String,
        /// Why it was refused.
        reason: String,
    },
    /// An attempt published a file under a name. Comes before the end of the attempt. Of several artifacts with the same
    /// name, the last one counts.
    ArtifactPublished {
        /// The stage.
        stage: u32,
        /// Which try.
        attempt: u32,
        /// The file.
        artifact: ArtifactEntry,
    },
    /// An attempt is over.
    AttemptEnded {
        /// The stage.
        stage: u32,
        /// Which try.
        attempt: u32,
        /// How it ended.
        outcome: OutcomeName,
        /// What went wrong, or why it was skipped.
        failure: Option<FailureEntry>,
        /// Values by name; those of a failed attempt, too.
        outputs: BTreeMap<String, Json>,
        /// Digest of the files that it left where it may write. Left out where no later stage can read them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        made: Option<MadeEntry>,
    },
    /// The stage will be tried again.
    RetryScheduled {
        /// The stage.
        stage: u32,
        /// The try to come.
        attempt: u32,
        /// Milliseconds from now.
        after: u64,
    },
    /// Nothing more will happen to the stage in this run.
    StageEnded {
        /// The stage.
        stage: u32,
        /// How it ended.
        outcome: OutcomeName,
        /// The same after `continue-on-error`: what the run's conclusion and the stages that need it depend on.
        conclusion: OutcomeName,
        /// Why, for a stage that never started or that was skipped.
        reason: Option<String>,
    },
    /// The run is to end early.
    CancelRequested {
        /// How fast.
        how: InterruptName,
        /// By whom or what.
        reason: String,
    },
    /// Nothing but gates is left: the process ends, and the run can be resumed once they are answered.
    RunSuspended {
        /// The stages that wait; see [`EventLine::waiting_ids`] for their names.
        waiting: Vec<u32>,
    },
    /// The run is over. The last event of a run that isn't resumed.
    RunEnded {
        /// `succeeded`, `failed`, `rejected` or `cancelled`.
        conclusion: OutcomeName,
    },
}

/// Where a log line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StreamName {
    /// Standard output of a program.
    Stdout,
    /// Standard error of a program.
    Stderr,
    /// The plugin.
    Plugin,
    /// The engine, about the stage.
    Engine,
}

/// How fast a run is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InterruptName {
    /// Attempts are asked to stop, and have a grace period.
    Graceful,
    /// Attempts are killed.
    Kill,
}
