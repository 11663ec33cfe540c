//! The answers of commands with `--json`.

mod artifact;
mod cache;
mod diagnostic;
mod environment;
mod gc;
mod grant;
mod init;
mod plan;
mod plugin;
mod run;
mod service;
mod why;

pub use artifact::RunArtifactEntry;
pub use cache::{Difference, DifferencePart, ExplainEntry, ExplainReason};
pub use diagnostic::{DiagnosticEntry, Severity};
pub use environment::{DriftEntry, EnvironmentEntry, FreezeEntry, ReleaseEntry, RolloutStatusEntry};
pub use gc::GcAnswer;
pub use grant::GrantAnswer;
pub use init::{ProposedPipelineAnswer, ProposedStageEntry};
pub use plan::{
    CacheUseName, ConfigChangeEntry, DeployChangesEntry, LackedGrantEntry, LockChangeEntry, LockComparison,
    MountModeName, PackageOriginEntry, PackageOriginSource, PermissionsEntry, PlanAnswer, PlanStage, SandboxName,
    ToolMountEntry,
};
pub use plugin::{PluginAnswer, PluginEntry, PluginOriginName};
pub use run::{RunEntry, RunStatus};
pub use service::{ServiceEntry, ServicePhase, ServiceRelease};
pub use why::{SecretDestination, WhyEntry};
