//! The SDK for stage plugins.
//!
//! A plugin is a type that implements [`Stage`]: its description ([`Stage::manifest`]), its configuration
//! ([`Stage::Config`]) and its work ([`Stage::run`]). It gets the stage's `with` table and what the pipeline grants. It
//! produces outputs, log lines, diagnostics and an [`Outcome`]. Each module is a capability of the host. A call that isn't
//! granted returns an [`Error`] with [`ErrorCode::PermissionDenied`] and the line of TOML that would grant it.
//!
//! ```
//! use serde::Deserialize;
//! use stagewright_sdk::{JsonSchema, Manifest, Outcome, Result, Stage, outputs};
//!
//! /// The stage's `with` table.
//! #[derive(Deserialize, JsonSchema)]
//! #[serde(rename_all = "kebab-case", deny_unknown_fields)]
//! struct Config {
//!     /// The name of the person to greet.
//!     name: String,
//! }
//!
//! struct Greet;
//!
//! impl Stage for Greet {
//!     type Config = Config;
//!
//!     fn manifest() -> Manifest {
//!         Manifest::new("greet", env!("CARGO_PKG_VERSION")).output("greeting", "The greeting")
//!     }
//!
//!     fn run(config: Config) -> Result<Outcome> {
//!         outputs::set("greeting", &format!("Hello, {}", config.name))?;
//!         Ok(Outcome::Succeeded)
//!     }
//! }
//!
//! stagewright_sdk::export_stage!(Greet);
//!
//! use stagewright_sdk::fake::FakeHost;
//! let report = FakeHost::new().config(serde_json::json!({ "name": "Ada" })).run::<Greet>();
//! assert_eq!(report.outputs["greeting"], "Hello, Ada");
//! ```
//!
//! Compiled for `wasm32`, the modules call the host. On other targets they call the scripted [`fake`] host, so a stage can
//! have ordinary unit tests.
//!
//! Architecture invariant: this crate depends on the WIT contract and on none of the host's crates.

pub mod artifacts;
#[doc(hidden)]
pub mod bindings;
pub mod clock;
mod config;
pub mod context;
mod duration;
pub mod environment;
mod error;
mod export;
#[cfg(not(target_arch = "wasm32"))]
pub mod fake;
pub mod gate;
pub mod http;
pub mod log;
mod manifest;
pub mod outputs;
pub mod process;
pub mod registry;
pub mod secrets;
pub mod service;
mod stage;
mod statuses;
pub mod text;
pub mod workspace;
mod workspace_path;

pub use duration::DurationText;
pub use error::{Diagnostic, Error, ErrorCode, Result, Severity};
#[doc(hidden)]
pub use export::Adapter;
pub use manifest::{Capability, Manifest};
/// To derive for [`Stage::Config`]. Editors and the engine check `with` tables against this schema.
pub use schemars::JsonSchema;
pub use stage::{Observation, Outcome, Reconcile, Stage, Suspension};
pub use statuses::Statuses;
pub use workspace_path::WorkspacePath;

/// For `#[schemars(crate = "stagewright_sdk::schemars")]`, so that a plugin needn't depend on it.
pub use schemars;

#[cfg(target_arch = "wasm32")]
use bindings::stage::stagewright::stage as host;
#[cfg(not(target_arch = "wasm32"))]
use fake::imports as host;

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
        };
        #[cfg(not(target_arch = "wasm32"))]
        const _: () = {
            fn is_reconcile<S: $crate::Reconcile>() {}
            let _ = is_reconcile::<$stage>;
        };
    };
}
