//! How a host function ends when it doesn't end well: with an answer for the guest, or with a trap.

use wasmtime::component::ResourceTableError;

use crate::error::{CapabilityError, ErrorCode};

/// What a host function returns in place of its result.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "generated bindings re-export it")]
pub enum CallError {
    /// The guest gets it as a typed error and may go on.
    Answer(CapabilityError),
    /// The guest is stopped: it broke the component model's rules.
    Trap(wasmtime::Error),
}

/// What host functions return.
pub(crate) type CallResult<T> = Result<T, CallError>;

impl From<CapabilityError> for CallError {
    fn from(error: CapabilityError) -> CallError {
        CallError::Answer(error)
    }
}

impl From<ResourceTableError> for CallError {
    fn from(error: ResourceTableError) -> CallError {
        match error {
            // A guest that hoards handles has run out of something, and can do something about it.
            ResourceTableError::Full => CallError::Answer(
                CapabilityError::new(ErrorCode::ResourceExhausted, "the stage holds too many handles at a time")
                    .with_help("drop handles that are no longer needed"),
            ),
            other => CallError::Trap(other.into()),
        }
    }
}
