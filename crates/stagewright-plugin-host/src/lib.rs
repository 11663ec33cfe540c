//! Runs stages: WASM components under wasmtime, and pinned native libraries, behind the engine's `StageRunner`.
//!
//! An attempt's request goes in; its log, its outputs and its outcome come out. A component can do nothing but call the
//! interfaces in `plugins/wit`, each of which is a module of `capability`. `policy` decides whether a call is granted
//! before the call has any effect, and `mask` removes secrets from every result before anyone reads it.
//!
//! State has one of three lifetimes:
//!
//! - A [`PluginRuntime`] lives as long as the process and is shared by all its runs: wasmtime's engine with its pool of
//!   instances, compiled plugins, the manifests and findings of plugins, native libraries, and connections to other hosts.
//! - A [`PluginHost`] belongs to a run and uses a runtime: the workspace and its reserved paths, secrets and their masker,
//!   registries and services, the sandbox, the origins of package hosts, and the owner of the run's download caches.
//! - An `AttemptContext` belongs to an attempt: its grants as policies, its log, effects, denials and limits. Each
//!   capability builds itself from it (`for_attempt`); together they form an `Attempt`, the data of the guest's store.
//!
//! ```text
//! runtime ── resolve, inspected, native ── wasm (aot, pool)
//!    │                                       │
//! host ── attempt ── since_0_1 (WIT) ── capability::* ── policy, packages
//!            └── attempt::context ──────────┘ │   └─ net (addresses, proxy)
//!                                             └─ log ── mask
//! ```
//!
//! A secret's value is masked in everything that its own run writes and returns, whichever stage requested it, but not in
//! other runs of the process.
//!
//! Denied unless a pipeline grants it: files, processes, network, secrets, images, services, environment variables. Never
//! available to a component: sockets, threads, the engine's own folders, another stage's memory.
//!
//! Architecture invariant: nothing here uses the journal or the terminal, reads the process's environment, or starts
//! a process other than through `stagewright-process`.

#[doc(hidden)]
pub mod fuzzing;
pub use stagewright_oci as registry;
pub use stagewright_services as service;

mod aot;
mod attempt;
mod blocking;
mod builtin;
mod call;
#[expect(unreachable_pub, reason = "generated bindings re-export the types of handles")]
mod capability;
mod changes;
mod client_config;
mod confine;
mod contract;
mod denial;
mod digest;
mod error;
mod guest;
mod handles;
mod host;
mod inspected;
mod inspection;
mod learn;
mod learner;
mod limits;
mod log;
mod mask;
mod native;
mod net;
mod observer;
mod outcome;
mod packages;
mod plugin;
mod policy;
mod rehearsal;
mod releases;
mod report;
mod reserved;
mod resolve;
mod runtime;
mod since_0_1;
mod since_0_2;
mod stop;
mod strip;
mod wasm;

#[cfg(test)]
mod testing;

pub use builtin::{BuiltinPlugins, ComponentOrigin, EmbeddedPlugin};
pub use capability::artifacts::{ArtifactFolder, NamedArtifact, RemovedArtifacts, SaveRequest, remove_runs};
pub use capability::credentials::SignerSource;
pub use capability::secrets::{Secret, SecretError, SecretSource};
pub use changes::{ChangeSource, ChangesUnknown, Commit, History, HistoryEnd};
pub use confine::{RemovedKept, SandboxConfig, StageOwner, remove_kept};
pub use contract::{contract_interface, plain_function, plugin_interface};
pub use denial::DENIED;
pub use error::{CapabilityError, ErrorCode, causes_of};
pub use host::{HostConfig, HostError, PluginHost};
pub use learn::{LEARNED, NOT_LEARNED};
pub use learner::Learning;
pub use limits::DEFAULT_BOUNDS;
pub use mask::SHORTEST_MASKED;
#[doc(hidden)]
pub use mask::mask;
pub use native::require_native_support;
pub use observer::{Compilation, CompileObserver};
pub use packages::{ClosedOrigin, CredentialFile, PackageHosts, credential_files};
pub use plugin::{DeclaredOutputs, Description, PluginError, PluginManifest, Requirement};
pub use releases::{GoodRelease, ReleaseLedger, ReleasesUnknown};
pub use reserved::{Claim, Purpose, Reserved, UserGit, git_directories};
pub use resolve::Pulls;
pub use runtime::{PluginRuntime, RuntimeConfig};
pub use strip::stripped;
