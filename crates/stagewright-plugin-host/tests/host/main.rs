//! The plugin host through the engine's interface: guests run, fail, misbehave and are stopped.

#![expect(clippy::disallowed_methods, reason = "tests read what they made themselves")]
#![expect(clippy::unwrap_used, reason = "in a test, a panic is the failure")]

mod guest;
mod harness;
mod hostile;
mod limits;
mod native;
mod plugins;
mod reconcile;
mod runs;
mod shared_runtime;
