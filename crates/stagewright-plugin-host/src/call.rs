//! The errors of host functions: an error value for the guest, or a trap.

use wasmtime::component::ResourceTableError;

use crate::error::{CapabilityError, ErrorCode};

/// What a host function returns in place of its result.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "generated bindings re-export it")]
pub enum CallError {
    /// Returned to the guest as a typed error; the guest may go on.
    Answer(CapabilityError),
    /// Stops the guest, which broke the component model's rules.
    Trap(wasmtime::Error),
}

/// The result of a host function.
pub(crate) type CallResult<T> = Result<T, CallError>;

impl From<CapabilityError> for CallError {
    fn from(error: CapabilityError) -> CallError {
        CallError::Answer(error)
    }
}

impl From<ResourceTableError> for CallError {
    fn from(error: ResourceTableError) -> CallError {
        match error {
            // An error and not a trap: the guest can drop handles and go on.
            ResourceTableError::Full => CallError::Answer(
                CapabilityError::new(ErrorCode::ResourceExhausted, "the stage holds too many handles at a time")
                    .with_help("drop handles that are no longer needed"),
            ),
            other => CallError::Trap(other.into()),
        }
    }
}
