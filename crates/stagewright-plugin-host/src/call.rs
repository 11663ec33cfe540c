//! How a host function ends when it doesn't end well: with an answer for the guest, or with a trap.

use wasmtime::component::ResourceTableError;

use crate::error::{CapabilityError, ErrorCode};
use crate::since_0_1::stagewright::stage::types;

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

impl From<CapabilityError> for types::Error {
    fn from(error: CapabilityError) -> types::Error {
        types::Error {
            code: error.code.into(),
            message: error.message,
            retryable: error.retryable,
            causes: error.causes,
            help: error.help,
        }
    }
}

impl From<types::Error> for CapabilityError {
    fn from(error: types::Error) -> CapabilityError {
        CapabilityError {
            code: error.code.into(),
            message: error.message,
            retryable: error.retryable,
            causes: error.causes,
            help: error.help,
        }
    }
}

/// The same variants under two names: the generated type, and the one that code without wasmtime can use.
macro_rules! same_codes {
    ($($code:ident),*) => {
        impl From<ErrorCode> for types::ErrorCode {
            fn from(code: ErrorCode) -> types::ErrorCode {
                match code {
                    $(ErrorCode::$code => types::ErrorCode::$code,)*
                    ErrorCode::Other(name) => types::ErrorCode::Other(name),
                }
            }
        }

        impl From<types::ErrorCode> for ErrorCode {
            fn from(code: types::ErrorCode) -> ErrorCode {
                match code {
                    $(types::ErrorCode::$code => ErrorCode::$code,)*
                    types::ErrorCode::Other(name) => ErrorCode::Other(name),
                }
            }
        }
    };
}

same_codes!(
    InvalidArgument,
    FailedPrecondition,
    NotFound,
    AlreadyExists,
    PermissionDenied,
    Unauthenticated,
    ResourceExhausted,
    DeadlineExceeded,
    Cancelled,
    Unavailable,
    Internal
);
