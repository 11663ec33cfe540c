//! Pipeline files: from TOML text to a validated [`Plan`].
//!
//! In flows the text of one pipeline file and the names of the plugins that exist; out comes either a plan, whose
//! every reference holds, or all the mistakes of the file at once, each with its place and a remedy. Expressions
//! are parsed here and evaluated here, against values that the caller supplies.
//!
//! Architecture invariant: this crate does no I/O, reads no clock, no environment and no randomness, and knows
//! nothing of how a stage is run. Time zones come from the database that is compiled in, never from the machine's.

mod code;
mod diagnostic;
mod expression;
mod freeze;
mod grants;
mod input;
mod interface;
mod invisible;
mod lock;
mod misconfigured;
mod nearest;
mod person;
mod plan;
mod policy;
pub mod range;
mod read;
mod rehearse;
mod secret;
mod shape;
mod terminal_text;
mod way_out;
mod words;

pub use diagnostic::{Diagnostic, Diagnostics};
pub use expression::{EvaluationError, Expression, NeedsStatus, Scope, Template, fields_of, render_json};
pub use freeze::{Freeze, FreezeWindow, Frozen, WeeklyWindow};
pub use grants::{
    Amount, Bounds, HostPattern, Limits, NamedBy, NetRule, NetTarget, Origin, OriginError, OriginRule, PROXY_VARIABLES,
    PackageManager, PackageOrigin, Permission, Permissions, ProcessRule, ProcessRuleError, Sandbox, Scheme,
    is_harmless_variable, is_localhost, remarks,
};
pub use input::InputError;
pub use interface::Interface;
pub use invisible::is_invisible;
pub use lock::{Change, Lock, LockedPipeline, LockedSecret, LockedStage, PluginPin};
pub use misconfigured::{Mistake, MistakePlace};
pub use person::{PersonName, PersonNameError, same_person};
pub use plan::{
    Backoff, CacheUse, Concurrency, Environment, EnvironmentRef, InputDeclaration, InputKind, MatrixCell, Plan,
    PluginRef, Queue, Retry, RetryCause, SecretDeclaration, SourceSpan, Stage, StageIndex, StageKind, Triggers, Trust,
};
pub use policy::{OperatorPolicy, Said};
pub use read::PluginNames;
pub use rehearse::{RehearsalTerms, Rehearse};
pub use secret::{
    BadSecretFrom, SecretFrom, SecretGrant, SecretHolder, SecretReach, SecretShape, SecretUse, hosts_admit,
};
pub use shape::{duration, json_schema};
pub use terminal_text::{
    ControlSequences, condensed, is_joiner, last_state, moves_cursor, terminal_text, visible_text,
};
pub use way_out::{AnyImports, Code, EffectClass, Fidelity, Imports, InRehearsal, Reach, Reaches, WayOut};
pub use words::{count, list};
