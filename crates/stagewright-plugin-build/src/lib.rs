//! Builds plugins: crates for wasm, which are compiled to core modules and encoded as components.
//!
//! The input is folders of guest crates; the output is components, each with a stamp of what it was built from.
//! [`guest`] finds the crates, [`fingerprint`] determines whether anything changed, `toolchain` finds or installs a
//! compiler for wasm, and [`build()`] uses all of them.
//!
//! The cli uses it for `stagewright plugin build`, and the build of a release for the plugins that are embedded in it
//! (`examples/build_plugins.rs`). It depends on neither wasmtime nor the model, so that a release is not compiled twice for
//! that.
//!
//! Architecture invariant: it runs cargo and rustup, and never a plugin. It reads the environment as cargo does.

mod build;
mod error;
pub mod fingerprint;
pub mod guest;
pub mod tool;
mod toolchain;

pub use build::{BuildOptions, BuiltPlugin, build};
pub use error::{PluginBuildError, ToolError};
