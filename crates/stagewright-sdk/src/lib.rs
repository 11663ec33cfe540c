//! The SDK for stage plugins.
//!
//! A plugin is a type that implements [`Stage`]: its description ([`Stage::manifest`]), its configuration
//! ([`Stage::Config`]), the grants that it will use ([`Stage::requirements`]) and its work ([`Stage::run`]). It gets the
//! stage's `with` table and what the pipeline grants. It produces outputs, log lines, findings and an [`Outcome`]. Each
//! module is a capability of the host. A call that isn't granted returns an [`Error`] with
//! [`ErrorCode::PermissionDenied`] and the line of TOML that would grant it.
//!
//! ```
//! use serde::Deserialize;
//! use stagewright_sdk::{JsonSchema, Manifest, Outcome, Requirement, Result, Stage, outputs, schemars, workspace};
//!
//! /// The stage's `with` table.
//! #[derive(Deserialize, JsonSchema)]
//! #[serde(rename_all = "kebab-case", deny_unknown_fields)]
//! struct Config {
//!     /// The file whose lines are counted.
//!     file: String,
//! }
//!
//! struct CountLines;
//!
//! impl Stage for CountLines {
//!     type Config = Config;
//!
//!     fn manifest() -> Manifest {
//!         stagewright_sdk::manifest!().output::<usize>("lines", "Number of lines")
//!     }
//!
//!     fn requirements(config: &Config) -> Vec<Requirement> {
//!         vec![Requirement::read(&config.file).because("its lines are counted")]
//!     }
//!
//!     fn run(config: Config) -> Result<Outcome> {
//!         outputs::set("lines", &workspace::read_text(&config.file)?.lines().count())?;
//!         Ok(Outcome::Succeeded)
//!     }
//! }
//!
//! stagewright_sdk::export_stage!(CountLines);
//!
//! use stagewright_sdk::fake::FakeHost;
//! let host = FakeHost::new().config(serde_json::json!({ "file": "a.txt" })).file("a.txt", "one\ntwo\n");
//! assert_eq!(host.run::<CountLines>().outputs["lines"], 2);
//! ```
//!
//! Compiled for `wasm32`, the modules call the host. On other targets they call the scripted [`fake`] host, so a stage can
//! have ordinary unit tests.
//!
//! Architecture invariant: this crate depends on the WIT contract and on none of the host's crates.

pub mod artifacts;
#[doc(hidden)]
pub mod bindings;
mod border;
pub mod clock;
mod config;
pub mod context;
mod descriptor;
mod duration;
pub mod environment;
mod error;
mod export;
#[cfg(not(target_arch = "wasm32"))]
pub mod fake;
mod field_kind;
pub mod findings;
pub mod gate;
mod history;
pub mod http;
pub mod log;
mod manifest;
pub mod metrics;
mod need;
pub mod outputs;
pub mod poll;
mod problem;
pub mod process;
pub mod random;
pub mod registry;
mod requirement;
mod rollout;
pub mod secrets;
pub mod service;
mod service_state;
pub mod source;
pub mod ssh;
mod stage;
mod statuses;
mod test_case;
pub mod test_reports;
pub mod text;
mod url;
pub mod workspace;
mod workspace_path;

pub use bindings::imports::types::Severity;
pub use duration::DurationText;
pub use error::{Error, ErrorCode, Position, Result, Retry};
#[doc(hidden)]
#[cfg(target_arch = "wasm32")]
pub use export::Adapter;
pub use findings::Finding;
pub use manifest::Manifest;
pub use problem::Problem;
pub use requirement::{Permission, Requirement};
/// To derive for [`Stage::Config`]. Editors and the engine check `with` tables against this schema.
pub use schemars::JsonSchema;
pub use stage::{LiveDifference, Observation, Outcome, Reconcile, Stage, Suspension};
pub use statuses::Statuses;
pub use workspace_path::WorkspacePath;

/// For `use stagewright_sdk::schemars`: the code that [`JsonSchema`] derives refers to it, and a plugin needn't depend on it.
pub use schemars;

#[cfg(target_arch = "wasm32")]
use bindings::imports as host;
#[cfg(not(target_arch = "wasm32"))]
use fake::imports as host;

/// The samples of the documentation, which compile and run as tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/plugins.md")]
pub struct Documentation;

/// A [`Manifest`] with the name, the version and the description of the plugin's `Cargo.toml`.
#[macro_export]
macro_rules! manifest {
    () => {
        $crate::Manifest::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
            .description(env!("CARGO_PKG_DESCRIPTION"))
    };
}

/// Exports a [`Stage`] from the component.
#[macro_export]
macro_rules! export_stage {
    ($stage:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type Exported = $crate::Adapter<$stage>;
    $crate::bindings::stage::export!(Exported with_types_in $crate::bindings::stage);
        };
        #[cfg(not(target_arch = "wasm32"))]
        const _: () = {
            fn is_stage<S: $crate::Stage>() {}
            let _ = is_stage::<$stage>;
        };
    };
}

/// Exports a [`Stage`] that also implements [`Reconcile`] from the component.
#[macro_export]
macro_rules! export_effectful_stage {
    ($stage:ty) => {
        $crate::export_stage!($stage);

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type Exported = $crate::Adapter<$stage>;
    $crate::bindings::reconcile::export!(Exported with_types_in $crate::bindings::reconcile);
    $crate::bindings::drift::export!(Exported with_types_in $crate::bindings::drift);
        };
        #[cfg(not(target_arch = "wasm32"))]
        const _: () = {
            fn is_reconcile<S: $crate::Reconcile>() {}
            let _ = is_reconcile::<$stage>;
        };
    };
}
