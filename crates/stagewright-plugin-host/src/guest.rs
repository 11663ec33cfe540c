//! What a plugin's functions return, whichever version of the contract it was built for.

use stagewright_engine::{Drift, Gate, Observation, Wait};

use crate::error::CapabilityError;

/// What one of the functions `run`, `observe`, `undo` and `compare` returned.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "generated bindings re-export it")]
pub enum GuestReturn {
    /// `run` did its work, or `undo` did.
    Done,
    /// `run` found nothing to do, for this reason.
    Skipped(String),
    /// `run` waits.
    Suspended(Suspension),
    /// `observe` determined this.
    Observed(Observation),
    /// `compare` found these.
    Compared(Vec<Drift>),
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
