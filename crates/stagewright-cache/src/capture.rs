//! Ensures that stages work on the files that were approved, and never on files that another run made.
//!
//! [`Capturing`] wraps all other runners. At a gate it captures the files that the stages behind the gate can read, by
//! content and whether git ignores them or not. The engine stores the capture's digest in the gate, an approval refers to
//! it, and the stages behind the gate work on a *view* of the capture instead of the workspace. Changes that people and
//! editors make in the workspace meanwhile don't affect these stages, and are not lost: what the stages write is copied
//! to the workspace too, but never over files that were changed there.
//!
//! When a stage has succeeded, the digest of the files that it leaves for later stages is recorded. A later stage starts
//! only if it finds them unchanged. Files that were made after the gate opened are copied into its view.
//!
//! ```text
//! runner ── expected (files of earlier stages) ──┐
//!    ├───── view (the files of a stage) ─────────┼── store (trees, lists) ── scan (content) ── walk (paths)
//!    └───── gc                                   └── content (digests, selected paths)
//! ```
//!
//! Unlike results of the cache, captures are kept until their run no longer needs them.

mod content;
mod expected;
mod gc;
mod runner;
mod scan;
mod store;
mod view;
mod walk;

#[cfg(test)]
mod tests;

pub use gc::{CapturesNeeded, RemovedCaptures, gc_captures};
pub use runner::{CaptureConfig, Capturing};
