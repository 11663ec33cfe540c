//! Runs stages: WASM components under wasmtime, and pinned native libraries, behind the engine's `StageRunner`.
//!
//! In flows an attempt's request; out come its log, its outputs and how it ended. A component has no power of its own:
//! all that it can do is call the interfaces of `plugins/wit`, each of which is a module of `capability`. Whether a call
//! is granted is decided by `policy` before anything happens, and every answer is masked by `mask` before it is read.
//!
//! Three things have three lifetimes:
//!
//! - A [`PluginRuntime`] is what a machine has, once for a process: wasmtime's engine with its pool of instances, compiled
//!   plugins, what plugins answered about themselves, native libraries, and the connections to other hosts.
//! - A [`PluginHost`] is what a run has, on a runtime: its workspace and what is reserved there, secrets and the masker that
//!   knows them, registries and services, the sandbox, the origins of package hosts, and the owner of its download caches.
//! - An `AttemptContext` is what an attempt has: its grants as policies, its log, its effects, denials and limits. Each
//!   capability builds itself from it (`for_attempt`); together they are an `Attempt`, the data of the guest's store.
//!
//! ```text
//! runtime ── resolve, inspected, native ── wasm (aot, pool)
//!    │                                       │
//! host ── attempt ── since_0_1 (WIT) ── capability::* ── policy, packages
//!            └── attempt::context ──────────┘ │   └─ net (addresses, proxy)
//!                                             └─ log ── mask
//! ```
//!
//! A secret's value is masked in everything that its own run writes and returns, whichever stage requested it, and not in
//! other runs of the process.
//!
//! Denied unless a pipeline grants it: files, processes, network, secrets, images, services, variables of the
//! environment. Never available to a component: sockets, threads, the engine's own folders, another stage's memory.
//!
//! Architecture invariant: nothing here knows the journal or the terminal, reads the process's environment, or starts
//! a process other than through `stagewright-process`.

#[doc(hidden)]
pub mod fuzzing;
pub use stagewright_oci as registry;
pub use stagewright_services as service;

mod aot;
mod attempt;
mod blocking;
mod call;
#[expect(unreachable_pub, reason = "generated bindings re-export the types of handles")]
mod capability;
mod client_config;
mod confine;
mod denial;
mod digest;
mod error;
mod host;
mod inspected;
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
mod report;
mod reserved;
mod resolve;
mod runtime;
mod since_0_1;
mod stop;
mod strip;
mod wasm;

#[cfg(test)]
mod testing;

pub use capability::artifacts::{ArtifactFolder, RemovedArtifacts, remove_runs};
pub use capability::secrets::{Secret, SecretError, SecretSource};
pub use confine::{RemovedKept, SandboxConfig, StageOwner, remove_kept};
pub use error::{CapabilityError, ErrorCode, causes_of};
pub use host::{HostConfig, HostError, PluginHost};
pub use limits::DEFAULT_BOUNDS;
pub use mask::SHORTEST_MASKED;
#[doc(hidden)]
pub use mask::mask;
pub use observer::{Compilation, CompileObserver};
pub use packages::{ClosedOrigin, CredentialFile, PackageHosts, credential_files};
pub use plugin::{Description, Manifest, OutputDeclaration, PluginError};
pub use reserved::{Claim, Purpose, Reserved, UserGit, git_directories};
pub use resolve::Pulls;
pub use runtime::{PluginRuntime, RuntimeConfig};
pub use strip::stripped;
