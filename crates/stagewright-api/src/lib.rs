//! What Stagewright says to programs, as JSON.
//!
//! - [`EventLine`]: a line of `--format json`, which `run`, `resume`, `rerun`, `rollback` and `show` write.
//! - The answers of commands with `--json`: [`RunEntry`] (`runs`), [`ExplainEntry`] (`explain`), [`PlanAnswer`] (`plan`),
//!   [`DiagnosticEntry`] (`validate`), [`EnvironmentEntry`] and [`ReleaseEntry`] (`env`), [`ServiceEntry`]
//!   (`service status`), [`RunArtifactEntry`] (`artifacts`), [`GcAnswer`] (`gc`), [`PluginEntry`] and [`PluginAnswer`] (`plugin`).
//!
//! These types are a contract of their own. The engine's types, and the form in which the journal keeps events, may
//! change without them: front ends convert one into the other, field by field.
//!
//! Within a [`VERSION`] keys, values of enumerations and types of events may be added; programs skip what they don't
//! know. These types read what their own version of Stagewright and earlier ones print; of later ones, they ignore keys
//! and refuse the rest. A key that is changed or dropped makes a new version.
//!
//! Keys are in kebab case. Where nothing else is said, a time is in milliseconds since the Unix epoch, a digest is
//! `sha256:` with 64 hexadecimal digits, and an optional value is `null` when there is none.
//!
//! Architecture invariant: nothing here depends on another crate of the workspace, so that a client can use it alone.

mod answer;
mod event;

pub use answer::{
    CacheUseName, ConfigChangeEntry, DeployChangesEntry, DiagnosticEntry, Difference, DifferencePart, DriftEntry,
    EnvironmentEntry, ExplainEntry, ExplainReason, FreezeEntry, GcAnswer, GrantAnswer, LackedGrantEntry,
    LockChangeEntry, LockComparison, MountModeName, PackageOriginEntry, PackageOriginSource, PermissionsEntry,
    PlanAnswer, PlanStage, PluginAnswer, PluginEntry, PluginOriginName, ProposedPipelineAnswer, ProposedStageEntry,
    ReleaseEntry, RolloutStatusEntry, RunArtifactEntry, RunEntry, RunStatus, SandboxName, SecretDestination,
    ServiceEntry, ServicePhase, ServiceRelease, Severity, ToolMountEntry, WhyEntry,
};
pub use event::{
    ArtifactEntry, CaptureEntry, DecisionEntry, DeployedReleaseEntry, EffectClassName, EventEntry, EventLine,
    FailedTestEntry, FailureEntry, FailureKindName, FidelityName, FieldEntry, FieldKindName, FilePlaceEntry,
    FindingEntry, GateEntry, GateKindName, GitStateEntry, InterruptName, LevelName, MadeEntry, MetricEntry,
    MissingGrantEntry, OutcomeName, ProblemEntry, ReleaseOriginName, ReleaseSourceEntry, RolloutEntry,
    RolloutPhaseName, RunSourceEntry, SignalEntry, SourceChangeEntry, StageKindName, StageSummaryEntry, StreamName,
    TestCaseEntry, TestOutcomeName, TextRangeEntry, TriggerEntry,
};

/// The version of all types of this crate; `v` in every [`EventLine`].
pub const VERSION: u32 = 1;
