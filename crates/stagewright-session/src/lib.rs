//! One use of the engine on a repository: finds it, loads pipelines, checks the preconditions of runs, and starts,
//! resumes, reruns, rolls back, cancels and answers runs. All front ends share it; the command line is one of them.
//!
//! ```text
//! SessionConfig ──> Session ── load ──> Pipeline ── start ──┐
//!                      │                                    ├─> Run ── drive(DriveOptions) ──> RunSummary
//!                      ├── resume_run, rerun, roll_back ────┘    ▲
//!                      │                                         └── control: cancel, decide, suspend
//!                      ├── review, validate, update_lock, answer, explain, collect_garbage
//!                      └──> Notices: information for people
//! ```
//!
//! It takes a [`SessionConfig`] and requests. It returns runs, whose events go to the front end's observers, and
//! [`Notice`]s, diagnostics and [`SessionError`]s, whose [`ErrorKind`] a front end maps to an exit code or a status. A
//! process that drives runs must pass its arguments to [`helper_main`] first, because sandboxes and supervisors of
//! services are started from its own program.
//!
//! Architecture invariant: no terminal, no command line, no exit codes, and no reading of the environment. The front
//! end passes everything in as values, and gets everything for people as values. Nothing here decides what a pipeline
//! means (the model) or what happens next in a run (the engine).
//!
//! libgit2 is an exception: it locates the user's git configuration with the process's own environment. Opening a
//! session also makes it accept repositories of other owners, in the whole process.

mod artifacts;
mod blocking;
mod cache;
mod cancel;
mod catalog;
mod changed_files;
mod changes;
mod clock;
mod config;
mod credentials;
mod decide;
mod deploy_changes;
mod drive;
mod environment_ledger;
mod error;
mod event;
mod explain;
mod failed_tests;
mod gates;
mod gc;
mod git;
mod grant;
mod hard_links;
mod helper;
mod host;
mod init;
mod journal;
mod learn;
mod live;
mod load;
mod locate;
mod lock;
mod lock_file;
mod missing;
mod mode;
mod notice;
mod packages;
mod plugin_runtime;
mod policy;
mod preflight;
mod promote;
mod repository;
mod reserved;
mod restore;
mod resume;
mod review;
mod revision;
mod rollback;
mod rollout;
mod run_fingerprint;
mod sandbox;
mod secrets;
mod select;
mod session;
mod signal;
mod start;
mod store;
mod unmatched;
mod validate;
mod watch;
mod why;

pub use artifacts::{ArtifactList, ArtifactRequest, SavedArtifact};
pub use cache::CacheOptions;
pub use cancel::Cancelled;
pub use catalog::{CatalogEntry, PluginOrigin, StageExample};
pub use clock::SystemClock;
pub use config::SessionConfig;
pub use decide::{GateAnswer, RecordedAnswer, Settlement, Verdict, captured_digest, field_value};
pub use deploy_changes::{ConfigChange, DeployChanges};
pub use drive::{DriveOptions, Run};
pub use error::{ErrorKind, SessionError};
pub use event::RepositoryEvent;
pub use explain::{CacheDecision, RunExplanation};
pub use gates::{GateHandling, Prompter, Question};
pub use gc::{GcRequest, GcSummary};
pub use grant::{GrantProposal, GrantRequest};
pub use helper::helper_main;
pub use init::{PipelineProposal, PipelineRequest};
pub use journal::stages_of;
pub use load::Pipeline;
pub use lock::{LockUpdate, LockedChanges};
pub use lock_file::Compared;
pub use missing::{LackedGrant, StageLacks};
pub use mode::RunMode;
pub use notice::{Notice, Notices};
pub use promote::PromotionRequest;
pub use repository::{LOCK_FILE, PipelineFile, PolicyPath, Repository};
pub use restore::LostService;
pub use resume::ResumeOptions;
pub use review::Review;
pub use rollback::RollbackTarget;
pub use rollout::{DecidedRollout, RolloutDecision};
pub use session::Session;
pub use signal::{SentSignal, SignalRequest};
pub use stagewright_cache::{Explanation, KeyDifference, KeyPart, Mode as CacheMode};
pub use stagewright_plugin_host::{
    BuiltinPlugins, Compilation, CompileObserver, ComponentOrigin, EmbeddedPlugin, PluginRuntime, RuntimeConfig,
};
pub use start::{RerunOptions, RunOptions, RunRequest, StartOutcome};
pub use store::SharedStore;
pub use validate::{ValidationFindings, Validity};
pub use watch::{ChangedPaths, FileWatch};
pub use why::{RunAccount, SecretAccount, StageAccount, StageEnd};
