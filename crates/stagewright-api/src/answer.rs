//! The answers of commands with `--json`.

mod cache;
mod diagnostic;
mod environment;
mod gc;
mod plan;
mod run;
mod service;

pub use cache::{Difference, DifferencePart, ExplainEntry, ExplainReason};
pub use diagnostic::{DiagnosticEntry, Severity};
pub use environment::{EnvironmentAnswer, FreezeEntry, ReleaseEntry};
pub use gc::GcAnswer;
pub use plan::{
    CacheUse, LockChange, LockComparison, MountMode, PackageOriginEntry, PackageOriginSource, Permissions, PlanAnswer,
    PlanStage, Sandbox, ToolMount,
};
pub use run::{RunEntry, RunStatus};
pub use service::{ServiceEntry, ServicePhase, ServiceRelease};
