//! What a plugin's functions return, whichever version of the contract it was built for.

use std::time::Duration;

use stagewright_engine::{Gate, Observation};

use crate::error::CapabilityError;

/// What one of the functions `run`, `observe` and `undo` returned.
#[derive(Debug)]
pub(crate) enum GuestReturn {
    /// `run` did its work, or `undo` did.
    Done,
    /// `run` found nothing to do, for this reason.
    Skipped(String),
    /// `run` waits.
    Suspended(Suspension),
    /// `observe` determined this.
    Observed(Observation),
}

/// The result of such a function. The outer error is a trap.
pub(crate) type GuestResult = wasmtime::Result<Result<GuestReturn, CapabilityError>>;

/// What a stage waits for.
#[derive(Clone, Debug)]
#[expect(unreachable_pub, reason = "generated bindings re-export it")]
pub enum Suspension {
    /// The answer to a gate.
    Gate(Box<Gate>),
    /// A time or a signal.
    Wait(Wait),
}

/// A wait of the plugin's own.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(unreachable_pub, reason = "part of a type that generated bindings re-export")]
pub struct Wait {
    /// What is waited for, as the plugin names it.
    pub(crate) token: String,
    /// The reason, for people.
    pub(crate) reason: String,
    /// When the plugin is called again; none to wait for a signal alone.
    pub(crate) poll_after: Option<Duration>,
    /// When the stage ends as timed out.
    pub(crate) expires: Option<Duration>,
}
