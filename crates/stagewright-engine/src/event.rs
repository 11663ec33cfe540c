//! The one vocabulary in which a run speaks: the journal keeps it, the terminal, the web and JSON readers show it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use stagewright_model::{RetryCause, StageIndex, StageKind};

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
        /// The `git` and `event` objects that expressions see.
        source: Json,
        /// In plan order.
        stages: Vec<StageSummary>,
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
    /// `sha256:…` of its plugin; none when nobody looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// How far its effects can reach.
    #[serde(default)]
    pub effect: EffectClass,
}

/// How far the effects of a stage can reach. Computed from what its plugin imports and what it is granted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EffectClass {
    /// Nothing outside of the run: after a crash it can simply run again.
    Pure,
    /// This machine: files and processes.
    Local,
    /// Beyond: networks, registries, services. After a crash somebody has to find out what happened.
    #[default]
    External,
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

/// What became of an attempt that was left in doubt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "found", content = "detail")]
pub enum Finding {
    /// Its effect didn't happen: it can run again.
    NotStarted,
    /// Its effect happened, and this is what is there.
    Applied(String),
    /// Its effect happened, and didn't work.
    Failed(String),
}

/// What a stage deployed to its environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Release {
    /// A key of `[environments]`.
    pub environment: String,
    /// What runs, by digest, as in `local/app@sha256:…`.
    pub artifact: String,
    /// Where it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The token that it was deployed under.
    pub fence: u64,
    /// The stage's `with` table as it was then; secrets stand in it by name alone.
    pub config: Json,
    /// Full id of the commit that the run is of; empty outside of a repository.
    #[serde(default)]
    pub commit: String,
    /// Who started the run.
    #[serde(default)]
    pub by: String,
    /// How it came to be there.
    pub way: ReleaseWay,
}

/// How a release came to be where it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReleaseWay {
    /// A run deployed it.
    #[default]
    Deploy,
    /// `stagewright rollback` went back to it.
    Rollback,
    /// A run that failed afterwards went back to it.
    Undo,
}

/// Result of an attempt, a stage or a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It did what it is for.
    Succeeded,
    /// It did its work and the answer was no.
    Failed,
    /// It could not do its work.
    Errored,
    /// It took longer than its `timeout`.
    TimedOut,
    /// The run was cancelled, or a sibling of its matrix failed.
    Cancelled,
    /// Its `if` was false, a need of it failed, or it said so itself.
    Skipped,
    /// What ran it went away.
    Lost,
    /// A person said no.
    Rejected,
    /// It can't tell.
    Inconclusive,
}

impl Outcome {
    /// As it stands in JSON and in the terminal.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Succeeded => "succeeded",
            Outcome::Failed => "failed",
            Outcome::Errored => "errored",
            Outcome::TimedOut => "timed-out",
            Outcome::Cancelled => "cancelled",
            Outcome::Skipped => "skipped",
            Outcome::Lost => "lost",
            Outcome::Rejected => "rejected",
            Outcome::Inconclusive => "inconclusive",
        }
    }

    /// Whether stages that need this one may run.
    pub fn lets_dependents_run(self) -> bool {
        matches!(self, Outcome::Succeeded)
    }

    /// The name by which `retry.on` knows it; none for what is never tried again.
    pub fn retry_cause(self) -> Option<RetryCause> {
        match self {
            Outcome::Failed => Some(RetryCause::Failed),
            Outcome::Errored => Some(RetryCause::Errored),
            Outcome::TimedOut => Some(RetryCause::Timeout),
            Outcome::Lost => Some(RetryCause::Lost),
            Outcome::Succeeded | Outcome::Cancelled | Outcome::Skipped | Outcome::Rejected | Outcome::Inconclusive => {
                None
            }
        }
    }
}

/// Why an attempt didn't succeed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Failure {
    /// What kind of thing went wrong.
    pub kind: FailureKind,
    /// What went wrong, in a sentence.
    pub message: String,
    /// From the nearest cause to the farthest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// What to change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// False when a retry can't help, whatever `retry` says.
    pub retryable: bool,
}

/// What kind of thing went wrong in an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The plugin reported it.
    Reported,
    /// The configuration or an expression doesn't hold.
    Configuration,
    /// Asked for something that wasn't granted.
    Denied,
    /// The guest trapped.
    Trapped,
    /// The guest asked for more memory than it may have.
    OutOfMemory,
    /// The log grew over its limit.
    LogLimit,
    /// Took longer than `timeout`.
    Timeout,
    /// Stopped because the run was cancelled.
    Cancelled,
    /// Killed from outside.
    Killed,
    /// The plugin can't be loaded or isn't one.
    BadPlugin,
    /// A person said no.
    Rejected,
    /// A newer run has been to the environment, or another attempt holds it by now.
    Superseded,
    /// The engine's own fault, or its machine's.
    Internal,
}

/// A finding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Problem {
    /// How bad.
    pub level: Level,
    /// A stable name, as in `RUSTSEC-2024-0001` or `test-failed`.
    pub code: String,
    /// In a sentence.
    pub message: String,
    /// A file of the workspace, or a key of the stage's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Stops something.
    Error,
    /// Should be looked at.
    Warning,
    /// Good to know.
    Info,
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

/// A question to a person.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Gate {
    /// Names this opening of the gate.
    pub token: String,
    /// What it waits for.
    #[serde(default)]
    pub kind: GateKind,
    /// What is asked.
    pub message: String,
    /// Users, and teams as `team:NAME`; empty means anybody.
    #[serde(default)]
    pub approvers: Vec<String>,
    /// The users among the approvers, and those that are in one of the teams.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<String>,
    /// How many must approve.
    pub approvals: u32,
    /// What an approval must or may say.
    #[serde(default)]
    pub fields: Vec<Field>,
    /// When it lapses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// When it opens by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Digest of what an approval is given for: plugins, grants and inputs. When it changes, answers no longer count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<String>,
}

/// What a gate waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GateKind {
    /// The plugin asks for an approval; it goes on with the answer.
    #[default]
    Approval,
    /// The environment has approvers, and none of them has approved of the run yet.
    Environment,
    /// The environment is frozen. It opens by itself when the freeze ends; an approval overrides the freeze.
    Freeze,
    /// An attempt was left in doubt, and nobody knows what became of it: `stagewright settle` tells.
    Doubt,
}

/// A field of a gate's form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Field {
    /// Its key.
    pub name: String,
    /// Its type.
    pub kind: FieldKind,
    /// Shown beside it.
    pub description: String,
    /// Whether an approval must fill it in.
    pub required: bool,
}

/// The type of a gate's field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FieldKind {
    /// Any text.
    Text,
    /// A JSON number.
    Number,
    /// Yes or no.
    Boolean,
}

/// A person's answer to a gate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Decision {
    /// The gate's token.
    pub token: String,
    /// Yes or no.
    pub approved: bool,
    /// Who.
    pub by: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The form, filled in.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, Json>,
    /// Whether a rehearsal answered by itself.
    #[serde(default)]
    pub rehearsed: bool,
    /// To a gate of the kind [`GateKind::Doubt`]: what became of the attempt. It counts as a yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finding: Option<Finding>,
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
