//! `types`: the errors of all other interfaces.

use super::stagewright::stage::types;
use crate::attempt::{Attempt, masked};
use crate::call::CallError;
use crate::error::{CapabilityError, ErrorCode};

impl types::Host for Attempt {
    /// Every error of a capability passes here on its way to the guest, so this is where errors are masked and denials are
    /// collected.
    fn convert_error(&mut self, error: CallError) -> wasmtime::Result<types::Error> {
        match error {
            CallError::Answer(error) => {
                let error = masked(error, self.log.masker());
                if error.code == ErrorCode::PermissionDenied {
                    self.denials.add(&error);
                }
                Ok(error.into())
            }
            CallError::Trap(error) => Err(error),
        }
    }
}

impl From<CapabilityError> for types::Error {
    fn from(error: CapabilityError) -> types::Error {
        types::Error {
            code: error.code.into(),
            message: error.message,
            retryable: error.retryable.unwrap_or_default(),
            causes: error.causes,
            help: error.help,
        }
    }
}

impl From<types::Error> for CapabilityError {
    fn from(error: types::Error) -> CapabilityError {
        CapabilityError {
            // A plugin that doesn't say it can be retried hasn't said that it can't.
            retryable: error.retryable.then_some(true),
            causes: error.causes,
            help: error.help,
            ..CapabilityError::new(error.code.into(), error.message)
        }
    }
}

/// Converts between the generated type and the one that code without wasmtime uses; their variants have the same names.
macro_rules! same_codes {
    ($($code:ident),*) => {
        impl From<ErrorCode> for types::ErrorCode {
            fn from(code: ErrorCode) -> types::ErrorCode {
                match code {
                    $(ErrorCode::$code => types::ErrorCode::$code,)*
                    // This version has no names for them.
                    ErrorCode::Aborted => types::ErrorCode::Other("aborted".to_owned()),
                    ErrorCode::Unimplemented => types::ErrorCode::Other("unimplemented".to_owned()),
                    ErrorCode::Superseded => types::ErrorCode::Other("superseded".to_owned()),
                    ErrorCode::Withheld => types::ErrorCode::Other("withheld-in-rehearsal".to_owned()),
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
