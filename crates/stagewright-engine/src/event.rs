//! The events of a run: the journal stores them, and the terminal, the web and JSON readers show them.

mod artifact;
mod capture;
mod gate;
mod measure;
mod outcome;
mod release;
mod rollout;
mod source;
mod wait;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use stagewright_model::{EffectClass, Fidelity, StageIndex, StageKind};

pub use artifact::Artifact;
pub use capture::{Capture, Made};
pub use gate::{Decision, Field, FieldKind, Finding, Gate, GateKind};
pub use measure::{FailedTest, Metric, TestCase, TestOutcome};
pub use outcome::{Failure, FailureKind, FilePlace, Level, Outcome, Problem, TextRange};
pub use release::{Release, ReleaseOrigin};
pub use rollout::{Rollout, RolloutError, RolloutPhase};
pub use source::{Change, GitState, ReleaseSource, RunSource, Trigger};
pub(crate) use wait::KEPT_SIGNALS;
pub use wait::{Signal, SignalError, TokenError, Wait, WaitError};

/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Milliseconds from `earlier` to this; 0 if this is the earlier one.
    pub fn since(self, earlier: Timestamp) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Identifies a run. Ids sort by the time at which the run started.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub String);

impl std::fmt::Display for RunId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Something that happened in a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Numbers the run's recorded events from 0. An event that isn't recorded has the number of the last one that was.
    pub seq: u64,
    /// The time at which it happened.
    pub at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What can happen in a run. Events refer to stages by plan index; [`EventKind::RunStarted`] lists their names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum EventKind {
    /// Always the first event.
    RunStarted {
        /// The run.
        run: RunId,
        /// `[pipeline] name`.
        pipeline: String,
        /// The pipeline file, relative to the repository's root if it is inside the repository.
        file: String,
        /// Whether effects act on local stand-ins.
        rehearsal: bool,
        /// Values of the pipeline's inputs.
        inputs: BTreeMap<String, Json>,
        /// The commit that it runs on, and what started it. Boxed, since most events are small.
        source: Box<RunSource>,
        /// In plan order.
        #[serde(with = "crate::shared::list")]
        stages: Vec<Arc<StageSummary>>,
    },
    /// A stopped run was resumed: after a gate, a crash, or a failure.
    RunResumed {
        /// Why it was resumed, shown to people.
        reason: String,
        /// Stages that run again, whatever their earlier result.
        again: Vec<StageIndex>,
        /// Accepted differences from the start of the run.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        changed: Vec<Change>,
        /// The pipeline file's text from now on; none if it stays.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pipeline: Option<String>,
    },
    /// Of its tests, the stage runs only those that failed in an earlier run.
    TestsSelected {
        /// The stage.
        stage: StageIndex,
        /// The earlier run.
        from: RunId,
        /// At least one.
        tests: Vec<FailedTest>,
    },
    /// A stage that is left out has its outputs from an earlier run.
    OutputsInherited {
        /// The stage.
        stage: StageIndex,
        /// The earlier run.
        from: RunId,
        /// JSON values by name.
        outputs: BTreeMap<String, Json>,
    },
    /// The run waits for its concurrency group.
    GroupAwaited {
        /// The group.
        group: String,
        /// The run that holds the group.
        holder: RunId,
    },
    /// The run acquired its concurrency group.
    GroupJoined {
        /// The group.
        group: String,
        /// Runs that got a cancel request because of this one.
        replaced: Vec<RunId>,
    },
    /// The run released its concurrency group while it waits at gates.
    GroupLeft {
        /// The group.
        group: String,
    },
    /// The stage waits for another run to release its environment.
    EnvironmentAwaited {
        /// The stage.
        stage: StageIndex,
        /// The environment.
        environment: String,
        /// The run that holds the environment.
        holder: RunId,
    },
    /// Recorded before the attempt starts, as its intent.
    AttemptStarted {
        /// The stage.
        stage: StageIndex,
        /// 1 for the first try.
        attempt: u32,
        /// The environment's fence that it acts under, unique to the attempt.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fence: Option<u64>,
    },
    /// Recorded before an attempt's first effect beyond this machine. If the run crashes after this, the attempt is
    /// unresolved.
    EffectIntended {
        /// The stage.
        stage: StageIndex,
        /// The attempt, from 1.
        attempt: u32,
        /// What it is about to do, as in `push local/app`.
        what: String,
    },
    /// The plugin is asked for the outcome of an unresolved attempt.
    RecoveryStarted {
        /// The stage.
        stage: StageIndex,
        /// The unresolved attempt.
        attempt: u32,
    },
    /// The outcome of an unresolved attempt was determined.
    Recovered {
        /// The stage.
        stage: StageIndex,
        /// The attempt.
        attempt: u32,
        /// Its outcome.
        finding: Finding,
        /// The person who recorded it; none if the plugin determined it.
        by: Option<String>,
        /// JSON values by name, as the plugin reported them.
        outputs: BTreeMap<String, Json>,
    },
    /// A deploy that gives its version the requests step by step has got further.
    RolloutProgressed {
        /// The stage.
        stage: StageIndex,
        /// The attempt; for `undo`, the attempt that is compensated for.
        attempt: u32,
        /// A key of `[environments]`.
        environment: String,
        /// How far it is.
        rollout: Box<Rollout>,
    },
    /// An attempt deployed something to its stage's environment.
    ReleaseRecorded {
        /// The stage.
        stage: StageIndex,
        /// The attempt, from 1.
        attempt: u32,
        /// The release.
        release: Release,
    },
    /// All stages that directly need the deploying one have succeeded: its release is known good, and a rollback
    /// can restore it.
    ReleaseConfirmed {
        /// The stage that deployed.
        stage: StageIndex,
    },
    /// Recorded before the plugin's `undo` compensates for the effect of a stage.
    UndoStarted {
        /// The stage that is compensated for.
        stage: StageIndex,
        /// The attempt that is compensated for.
        attempt: u32,
        /// The failed stage whose `compensate` names it.
        because: StageIndex,
        /// The environment's fence that it acts under.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fence: Option<u64>,
    },
    /// The compensation for a stage's effect ended, successfully or not.
    UndoEnded {
        /// The stage that was compensated for.
        stage: StageIndex,
        /// The attempt that was compensated for.
        attempt: u32,
        /// How it ended.
        outcome: Outcome,
        /// What went wrong, or why there was nothing to undo.
        failure: Option<Failure>,
    },
    /// One line of a stage's log. Not in the journal: logs are stored separately.
    Log {
        /// The stage.
        stage: StageIndex,
        /// The attempt, from 1.
        attempt: u32,
        /// Where it came from.
        stream: Stream,
        /// Masked, without its line end.
        line: String,
    },
    /// The progress of an attempt. Not recorded.
    Progress {
        /// The stage.
        stage: StageIndex,
        /// What it is doing.
        message: String,
        /// Units done.
        current: u64,
        /// Total units, if known.
        total: Option<u64>,
    },
    /// Markdown from a stage that is shown with the run.
    Summary {
        /// The stage.
        stage: StageIndex,
        /// The text.
        markdown: String,
    },
    /// The result of an attempt was looked up in the cache. The serialised names are those of an earlier version.
    #[serde(rename = "cache-asked")]
    CacheLookedUp {
        /// The stage.
        stage: StageIndex,
        /// The attempt, from 1.
        attempt: u32,
        /// `sha256:…` of everything that the result depends on.
        key: String,
        /// For a hit, the run that produced the result; none for a miss.
        #[serde(rename = "found", default, skip_serializing_if = "Option::is_none")]
        hit_from: Option<RunId>,
    },
    /// A finding of a stage: a failing test, an advisory.
    Problem {
        /// The stage.
        stage: StageIndex,
        /// The finding.
        problem: Problem,
    },
    /// Results of tests that an attempt ran. An attempt can have several of these events.
    TestsReported {
        /// The stage.
        stage: StageIndex,
        /// The attempt, from 1.
        attempt: u32,
        /// In the order in which they were reported.
        cases: Vec<TestCase>,
    },
    /// The figures of an attempt.
    MetricsReported {
        /// The stage.
        stage: StageIndex,
        /// The attempt, from 1.
        attempt: u32,
        /// Sorted by name.
        metrics: Vec<Metric>,
    },
    /// The stage waits at a gate, without a running process or instance.
    GateOpened {
        /// The stage.
        stage: StageIndex,
        /// The attempt that opened it, or that it precedes.
        attempt: u32,
        /// What is asked, and who may answer.
        gate: Gate,
    },
    /// The time that a gate waits for was reached.
    GateElapsed {
        /// The stage.
        stage: StageIndex,
    },
    /// A person answered a gate.
    GateDecided {
        /// The stage.
        stage: StageIndex,
        /// The answer.
        decision: Decision,
    },
    /// A signal ended the wait of a stage.
    GateSignalled {
        /// The stage.
        stage: StageIndex,
        /// The signal.
        signal: Signal,
    },
    /// A signal arrived before the wait that it is for. The run keeps it, and it ends that wait as soon as it begins.
    SignalKept {
        /// The signal.
        signal: Signal,
    },
    /// A signal was refused. Not recorded.
    SignalRefused {
        /// The token that it named.
        token: String,
        /// Who sent it.
        by: String,
        /// Why it was refused.
        reason: String,
    },
    /// An answer to a gate was refused, which leaves the gate unchanged. Not recorded.
    DecisionRefused {
        /// The stage.
        stage: StageIndex,
        /// Who answered.
        by: String,
        /// Why it was refused.
        reason: String,
    },
    /// An attempt published a file under a name. Recorded once its plugin has returned, before the end of the attempt.
    ArtifactPublished {
        /// The stage.
        stage: StageIndex,
        /// The attempt; for `observe` and `undo`, the attempt that they are called for.
        attempt: u32,
        /// The file. It replaces an earlier one of the same name.
        artifact: Artifact,
    },
    /// An attempt ended.
    AttemptEnded {
        /// The stage.
        stage: StageIndex,
        /// The attempt, from 1.
        attempt: u32,
        /// How it ended.
        outcome: Outcome,
        /// What went wrong, or why it was skipped.
        failure: Option<Failure>,
        /// JSON values by name.
        outputs: BTreeMap<String, Json>,
        /// The files that it left where it may write; none if no later stage can read them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        made: Option<Made>,
    },
    /// The stage will be retried.
    RetryScheduled {
        /// The stage.
        stage: StageIndex,
        /// The attempt to come.
        attempt: u32,
        /// The delay in milliseconds.
        after: u64,
    },
    /// The stage ended. Only a resume or a compensation can follow.
    StageEnded {
        /// The stage.
        stage: StageIndex,
        /// Raw result.
        outcome: Outcome,
        /// Result after `continue-on-error`.
        conclusion: Outcome,
        /// Why, if it never started: its `if`, or the need that failed.
        reason: Option<String>,
    },
    /// Cancelling the run was requested.
    CancelRequested {
        /// How fast.
        how: Interrupt,
        /// Who or what cancelled it.
        reason: String,
    },
    /// Only gates are left: the process ends, and the run can be resumed later.
    RunSuspended {
        /// The stages that wait at a gate.
        waiting: Vec<StageIndex>,
    },
    /// Always the last event, if the run ended.
    RunEnded {
        /// Succeeded, failed, rejected, or cancelled.
        conclusion: Outcome,
    },
}

impl EventKind {
    /// Whether it is stored in the journal. Others only reach observers.
    pub fn is_recorded(&self) -> bool {
        !matches!(
            self,
            EventKind::Log { .. }
                | EventKind::Progress { .. }
                | EventKind::DecisionRefused { .. }
                | EventKind::SignalRefused { .. }
        )
    }

    /// Whether it must be durable before the effect that it announces may happen.
    pub fn is_intent(&self) -> bool {
        matches!(
            self,
            EventKind::RunStarted { .. }
                | EventKind::AttemptStarted { .. }
                | EventKind::EffectIntended { .. }
                | EventKind::UndoStarted { .. }
                | EventKind::GateOpened { .. }
        )
    }
}

/// What readers need to show a stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StageSummary {
    /// Unique name, matrix values included.
    pub id: String,
    /// The table's name.
    pub name: String,
    /// Whether it is a main or a finally stage.
    pub kind: StageKind,
    /// `uses`.
    pub uses: String,
    /// Indices of its needs.
    pub needs: Vec<StageIndex>,
    /// The environment it deploys to.
    pub environment: Option<String>,
    /// `sha256:…` of its plugin; none if it wasn't inspected.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::shared::text")]
    pub plugin: Option<Arc<str>>,
    /// How far its effects can reach.
    #[serde(default)]
    pub effect: EffectClass,
    /// In a rehearsal, how much of it is real, as far as that was known before it ran. A stage that ended as
    /// [`Outcome::Rehearsed`] was rehearsed, regardless of this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rehearsal: Option<Fidelity>,
}

/// Where a log line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stream {
    /// A process's standard output.
    Stdout,
    /// A process's standard error.
    Stderr,
    /// The plugin's own log.
    Plugin,
    /// The engine's messages about the stage.
    Engine,
}

/// How fast to stop an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Interrupt {
    /// Request it to stop, and allow a grace period.
    Graceful,
    /// Stop it immediately.
    Kill,
}

/// How a run ended or was suspended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RunSummary {
    /// The run.
    pub run: RunId,
    /// None while gates are open.
    pub conclusion: Option<Outcome>,
    /// Stages at an open gate.
    pub waiting: Vec<StageIndex>,
}
