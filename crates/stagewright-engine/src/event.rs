//! The one vocabulary in which a run speaks: the journal keeps it, the terminal, the web and JSON readers show it.

mod artifact;
mod capture;
mod gate;
mod outcome;
mod release;
mod source;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use stagewright_model::{EffectClass, Fidelity, StageIndex, StageKind};

pub use artifact::Artifact;
pub use capture::{Capture, Made};
pub use gate::{Decision, Field, FieldKind, Finding, Gate, GateKind};
pub use outcome::{Failure, FailureKind, Level, Outcome, Problem};
pub use release::{Release, ReleaseOrigin};
pub use source::{GitState, RollbackSource, RunSource, Trigger};

/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Milliseconds from `earlier` to this; 0 when the clock went back.
    pub fn since(self, earlier: Timestamp) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Names a run. Sorts by the time of its start.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub String);

impl std::fmt::Display for RunId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// One thing that happened in a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Counts the run's recorded events from 0. A log line or progress carries that of the record before it.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What can happen in a run. Stages are named by their index in the plan; [`EventKind::RunStarted`] names them all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum EventKind {
    /// Always the first event.
    RunStarted {
        /// The run.
        run: RunId,
        /// `[pipeline] name`.
        pipeline: String,
        /// The pipeline file, as it was given.
        file: String,
        /// Whether effects act on local stand-ins.
        rehearsal: bool,
        /// Values of the pipeline's inputs.
        inputs: BTreeMap<String, Json>,
        /// What it is of, and what started it. Boxed, since most events are small.
        source: Box<RunSource>,
        /// In plan order.
        #[serde(with = "crate::shared::list")]
        stages: Vec<Arc<StageSummary>>,
    },
    /// A run that had stopped goes on: after a gate, a crash, or a failure.
    RunResumed {
        /// Why, for people.
        reason: String,
        /// Stages that will be run again, whatever became of them before.
        again: Vec<StageIndex>,
        /// What is no longer as it was when the run started, and was accepted.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        changed: Vec<Change>,
    },
    /// The outputs of a stage that is left out, as an earlier run had them.
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
        /// Who has the group.
        holder: RunId,
    },
    /// The run has its concurrency group.
    GroupJoined {
        /// The group.
        group: String,
        /// Runs that were asked to end because of this one.
        replaced: Vec<RunId>,
    },
    /// The run lets others of its concurrency group go on.
    GroupLeft {
        /// The group.
        group: String,
    },
    /// The stage waits for another run to be done with its environment.
    EnvironmentAwaited {
        /// The stage.
        stage: StageIndex,
        /// The environment.
        environment: String,
        /// Who has it.
        holder: RunId,
    },
    /// Recorded before the attempt begins: the intent.
    AttemptStarted {
        /// The stage.
        stage: StageIndex,
        /// 1 for the first try.
        attempt: u32,
        /// The environment's token that it acts under. No two attempts have the same.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fence: Option<u64>,
    },
    /// Recorded before an attempt's first effect beyond this machine. From here on a crash leaves it in doubt.
    EffectIntended {
        /// The stage.
        stage: StageIndex,
        /// Which try.
        attempt: u32,
        /// What it is about to do, as in `push local/app`.
        what: String,
    },
    /// An attempt was left in doubt: its plugin is asked what became of it.
    RecoveryStarted {
        /// The stage.
        stage: StageIndex,
        /// The try in doubt.
        attempt: u32,
    },
    /// What became of an attempt that was left in doubt.
    Recovered {
        /// The stage.
        stage: StageIndex,
        /// The try in doubt.
        attempt: u32,
        /// What was found.
        finding: Finding,
        /// Who said so; none when the plugin did.
        by: Option<String>,
        /// JSON values by name, as the plugin told them again.
        outputs: BTreeMap<String, Json>,
    },
    /// An attempt deployed something to its stage's environment.
    ReleaseRecorded {
        /// The stage.
        stage: StageIndex,
        /// Which try.
        attempt: u32,
        /// What.
        release: Release,
    },
    /// All stages that directly need the one that deployed have succeeded: its release is one to go back to.
    ReleaseConfirmed {
        /// The stage that deployed.
        stage: StageIndex,
    },
    /// Recorded before the effect of a stage is undone.
    UndoStarted {
        /// The stage whose effect it is.
        stage: StageIndex,
        /// The try whose effect it is.
        attempt: u32,
        /// The stage that failed and asks for it.
        because: StageIndex,
        /// The environment's token that it acts under.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fence: Option<u64>,
    },
    /// The effect of a stage was undone, or could not be.
    UndoEnded {
        /// The stage whose effect it was.
        stage: StageIndex,
        /// The try whose effect it was.
        attempt: u32,
        /// How it ended.
        outcome: Outcome,
        /// What went wrong, or why there was nothing to undo.
        failure: Option<Failure>,
    },
    /// One line of a stage's log. Not recorded here: logs have a store of their own.
    Log {
        /// The stage.
        stage: StageIndex,
        /// Which try.
        attempt: u32,
        /// Where it came from.
        stream: Stream,
        /// Masked, without its line end.
        line: String,
    },
    /// How far an attempt is. Not recorded.
    Progress {
        /// The stage.
        stage: StageIndex,
        /// What it does.
        message: String,
        /// Units done.
        current: u32,
        /// Units in all, when known.
        total: Option<u32>,
    },
    /// Markdown that the stage wants shown with the run.
    Summary {
        /// The stage.
        stage: StageIndex,
        /// The text.
        markdown: String,
    },
    /// The result of an attempt was looked up in the cache. Journals have kept the names of an earlier version.
    #[serde(rename = "cache-asked")]
    CacheLookedUp {
        /// The stage.
        stage: StageIndex,
        /// Which try.
        attempt: u32,
        /// `sha256:…` of all that the result depends on.
        key: String,
        /// For a hit, the run that made the result; none for a miss: the work is done now.
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
    /// The stage waits for a person; nothing of it is running.
    GateOpened {
        /// The stage.
        stage: StageIndex,
        /// Which try opened it.
        attempt: u32,
        /// What is asked of whom.
        gate: Gate,
    },
    /// The time that a gate waits for has come.
    GateElapsed {
        /// The stage.
        stage: StageIndex,
    },
    /// Somebody answered a gate.
    GateDecided {
        /// The stage.
        stage: StageIndex,
        /// The answer.
        decision: Decision,
    },
    /// Somebody's answer to a gate doesn't count, and the gate stays as it is. Not recorded: nothing came of it.
    DecisionRefused {
        /// The stage.
        stage: StageIndex,
        /// Who answered.
        by: String,
        /// Why it doesn't count.
        reason: String,
    },
    /// An attempt published a file under a name. Recorded once its plugin has returned, before the end of the attempt.
    ArtifactPublished {
        /// The stage.
        stage: StageIndex,
        /// Which try; of a stage that is asked about or undone, the try that this is about.
        attempt: u32,
        /// The file. Of a later one with the same name, that one counts.
        artifact: Artifact,
    },
    /// An attempt is over.
    AttemptEnded {
        /// The stage.
        stage: StageIndex,
        /// Which try.
        attempt: u32,
        /// How it ended.
        outcome: Outcome,
        /// What went wrong, or why it was skipped.
        failure: Option<Failure>,
        /// JSON values by name.
        outputs: BTreeMap<String, Json>,
        /// What it left in the places that it may write; none where no later stage can read it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        made: Option<Made>,
    },
    /// The stage will be tried again.
    RetryScheduled {
        /// The stage.
        stage: StageIndex,
        /// The try to come.
        attempt: u32,
        /// Milliseconds from now.
        after: u64,
    },
    /// Nothing more will happen to the stage in this run.
    StageEnded {
        /// The stage.
        stage: StageIndex,
        /// Raw result.
        outcome: Outcome,
        /// Result after `continue-on-error`.
        conclusion: Outcome,
        /// Why, when it never started: its `if`, or the need that failed.
        reason: Option<String>,
    },
    /// A wish to end the run early.
    CancelRequested {
        /// How fast.
        how: Interrupt,
        /// By whom or what.
        reason: String,
    },
    /// Only gates are left: the process may end and the run go on later.
    RunSuspended {
        /// The stages that wait.
        waiting: Vec<StageIndex>,
    },
    /// Always the last event, if the run ended.
    RunEnded {
        /// Succeeded, failed, rejected, or cancelled.
        conclusion: Outcome,
    },
}

impl EventKind {
    /// Whether it belongs in the journal; the rest is for those who watch.
    pub fn is_recorded(&self) -> bool {
        !matches!(self, EventKind::Log { .. } | EventKind::Progress { .. } | EventKind::DecisionRefused { .. })
    }

    /// Whether an effect may follow only once it is durable.
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

/// What readers need to know of a stage to show it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StageSummary {
    /// Unique name, matrix values included.
    pub id: String,
    /// The table's name.
    pub name: String,
    /// Main or finally.
    pub kind: StageKind,
    /// `uses`.
    pub uses: String,
    /// Indices of its needs.
    pub needs: Vec<StageIndex>,
    /// The environment it deploys to.
    pub environment: Option<String>,
    /// `sha256:…` of its plugin; none when it wasn't inspected.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::shared::text")]
    pub plugin: Option<Arc<str>>,
    /// How far its effects can reach.
    #[serde(default)]
    pub effect: EffectClass,
    /// In a rehearsal: how much of it is real, as far as that could be said before. One that ended as
    /// [`Outcome::Rehearsed`] is rehearsed, whatever this says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rehearsal: Option<Fidelity>,
}

/// Something that is no longer as it was when the run started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Change {
    /// What, as in `plugin deploy` or `commit`.
    pub what: String,
    /// As it was.
    pub then: String,
    /// As it is.
    pub now: String,
}

/// Where a log line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stream {
    /// A process's standard output.
    Stdout,
    /// A process's standard error.
    Stderr,
    /// The plugin's own words.
    Plugin,
    /// The engine's words about the stage.
    Engine,
}

/// How fast to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Interrupt {
    /// Ask, and wait for a grace period.
    Graceful,
    /// Now.
    Kill,
}

/// What became of a run.
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
