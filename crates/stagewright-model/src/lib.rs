//! Pipeline files: from TOML text to a validated [`Plan`].
//!
//! The input is the text of one pipeline file and the names of the built-in plugins. The output is either a plan in
//! which every reference is resolved, or all mistakes in the file, each with its place and a remedy. Expressions are
//! parsed here, and evaluated here with values that the caller supplies.
//!
//! Architecture invariant: this crate does no I/O, reads neither a clock nor the environment, uses no randomness, and
//! doesn't know how a stage is run. Time zones come from the compiled-in database, never from the machine's.

mod approvers;
mod code;
mod credential;
mod diagnostic;
mod entry;
mod expression;
mod format_error;
mod freeze;
mod grants;
mod imports;
mod input;
mod interface;
mod invisible;
mod lock;
mod misconfigured;
mod nearest;
mod outputs;
mod pattern;
mod person;
mod plan;
mod policy;
pub mod range;
mod reach;
mod read;
mod rehearsal_terms;
mod rehearse;
mod revision;
mod secret;
mod secret_value;
mod shape;
mod signing;
mod span;
mod terminal_text;
mod triggers;
mod value_path;
mod way_out;
mod words;
mod workspace_path;

pub use credential::{
    CredentialDeclaration, CredentialKind, CredentialOrigin, CredentialSetting, OriginTarget, REGISTRY_AUTH,
    SshAddress, SshHost, SshHostKey,
};
pub use diagnostic::{Diagnostic, Diagnostics};
pub use expression::{EvaluationError, Expression, JsonTemplate, NeedsStatus, Scope, Template, fields_of};
pub use format_error::FormatError;
pub use freeze::{Freeze, FreezeWindow, Frozen, WeeklyWindow};
pub use grants::complete as complete_permissions;
pub use grants::{
    Amount, Bounds, CredentialRule, CredentialUse, Grant, HostPattern, Limits, MissingGrant, NamedBy, NetRule,
    NetTarget, Origin, OriginRule, PROXY_VARIABLES, PackageManager, PackageOrigin, PathRule, Permission, PermissionSet,
    Permissions, ProcessRule, RepositoryRule, Sandbox, Scheme, SecretName, SecretRule, SecretUse, ServiceRule,
    SocketRoute, SocketRule, SocketUrl, UsedPermissionSet, VariableName, granting_lines, is_harmless_variable,
    is_localhost, remarks, with_grants,
};
pub use imports::{AnyImports, ImportedFunctions, Imports};
pub use input::InputError;
pub use interface::{InheritedVariable, Interface};
pub use invisible::is_invisible;
pub use lock::{Lock, LockChange, LockedPipeline, LockedSecret, LockedStage, PluginPin};
pub use misconfigured::{Mistake, MistakePlace};
pub use pattern::{PathPattern, PatternError, outermost};
pub use person::{PersonName, PersonNameError, same_person};
pub use plan::{
    Backoff, CacheUse, Concurrency, DEPLOY, DEPLOY_PREFIX, Environment, EnvironmentRef, InputDeclaration, InputKind,
    MatrixCell, Plan, PluginRef, Queue, Region, Retry, RetryCause, Stage, StageIndex, StageKind, Trust, Wave,
    environment_values, lock_of,
};
pub use policy::{OperatorPolicy, PolicyValue};
pub use reach::{EffectClass, Fidelity, PluginCode, Reach, Reaches};
pub use read::PluginNames;
pub use rehearsal_terms::RehearsalTerms;
pub use rehearse::Rehearse;
pub use revision::FileChanges;
pub use secret::{SecretDeclaration, SecretFrom, SecretHolder, SecretLocation, SecretReach, SecretScheme, SecretShape};
pub use secret_value::SecretValue;
pub use shape::{duration, file_reference, json_schema};
pub use signing::{BodyDigest, RequestSigner, RequestToSign, SignedHeaders, SigningError, TlsSettings};
pub use span::SourceSpan;
pub use terminal_text::{
    ControlSequences, condensed, is_joiner, last_state, moves_cursor, terminal_text, visible_text,
};
pub use triggers::{PathFilter, PullRequestTrigger, PushTrigger, TriggerEvent, Triggers};
pub use way_out::{InRehearsal, WayOut};
pub use words::{count, list};
pub use workspace_path::{PathError, PathProblem, WorkspacePath};
