//! Gives stages the files that people approved of, and never the results of another run.
//!
//! [`Capturing`] stands before all other runners. At a gate it captures what the stages behind it can read: by content,
//! whatever git thinks of it. The engine puts the capture's digest into the gate, an approval names it, and the stages
//! behind the gate are given a *view* of the capture in place of the workspace. What people and editors do to the
//! workspace meanwhile neither reaches these stages nor is it lost: what they write is put into the workspace, too, but
//! not over files that were changed there.
//!
//! When a stage has succeeded, what it leaves for later ones is recorded by its digest. A stage starts only when it finds
//! that as it was left. Where a view lacks it, since it was made after the gate had opened, it is copied into it.
//!
//! ```text
//! runner ── expected (what earlier stages made) ─┐
//!    ├───── view (what a stage is given) ────────┼── store (trees, lists) ── scan (content) ── walk (paths)
//!    └───── gc                                   └── content (digests, which paths)
//! ```
//!
//! Unlike a cache, this keeps what is captured until its run no longer needs it.

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
