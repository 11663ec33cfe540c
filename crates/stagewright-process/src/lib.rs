//! Native child processes, and services that outlive the engine.
//!
//! In flows a [`Command`]: an absolute program, its arguments, a complete environment and a folder; out come its output
//! in pieces and how it ended. A child leads a process group of its own, and the group ends with it: what it left
//! behind in the background is killed when it exits, when [`Child`] is dropped, and when a stop is asked for.
//!
//! The group also ends when this process does, by whatever signal: see `guard`, which is a shell, so `/bin/sh` must be
//! there.
//!
//! What is not to be trusted runs in a [`sandbox`], from which no process escapes. Outside of one, a process that makes
//! a session of its own (`setsid`, a double-forking daemon) does: it is no longer in the group. It can't keep
//! [`Child::next_chunk`] waiting, but it lives on. Making the engine a subreaper was weighed and left out: it is a
//! property of the whole process, which a library must not claim, and it can't tell whose orphan it got.
//!
//! [`supervisor`] is the one exception to "ends with the engine": a detached process that keeps a service running.
//!
//! Linux only: it leans on pidfds and `/proc`.
//!
//! Architecture invariant: nothing else in the workspace starts a process. This crate knows no stages, keeps no
//! journal and never writes to the terminal.

mod blocking;
mod child;
mod command;
mod exit_status;
mod guard;
mod kernel;
mod reap;
pub mod sandbox;
mod shield;
pub mod supervisor;

pub use blocking::{Output, RunError, run_in_sandbox, run_inherited, run_to_end};
pub use child::{Child, Group, Source};
pub use command::{Command, SpawnError, name_this_process, path_outside, which, which_outside};
pub use exit_status::ExitStatus;
pub use shield::protect;
