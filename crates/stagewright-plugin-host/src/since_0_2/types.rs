//! `types`: what the other interfaces share. The errors of all of them are made here.

use std::num::NonZeroU32;
use std::time::Duration;

use stagewright_engine::{FilePlace, Finding, Level, Observation, Problem, TextRange, Wait};
use stagewright_model::WorkspacePath;
use wasmtime::component::Resource;

use super::stagewright::types::types::{
    ErrorCode as WitCode, Host, HostError, HostObservation, HostOutcome, HostProblem, HostRequirement, HostSuspension,
    Position, Severity,
};
use crate::attempt::{Attempt, masked};
use crate::call::CallError;
use crate::error::{CapabilityError, ErrorCode};
use crate::guest::{GuestReturn, Suspension};
use crate::handles::Handles;
use crate::plugin::Requirement;

/// The result of a host function that can fail. The outer error is a trap.
pub(super) type Answer<T> = wasmtime::Result<Result<T, Resource<CapabilityError>>>;

impl Attempt {
    /// Converts the result of a capability. Every error of one passes here on its way to the guest, so this is where
    /// errors are masked and denials are collected.
    pub(super) fn answer<T>(&mut self, result: Result<T, impl Into<CallError>>) -> Answer<T> {
        let error = match result.map_err(Into::into) {
            Ok(value) => return Ok(Ok(value)),
            Err(CallError::Trap(error)) => return Err(error),
            Err(CallError::Answer(error)) => masked(error, self.log.masker()),
        };
        if error.code == ErrorCode::PermissionDenied {
            self.denials.add(&error);
        }
        Ok(Err(self.handles.push_error(error)?))
    }
}

impl Attempt {
    /// Like [`Attempt::answer`], for a result that the guest gets a handle of.
    pub(super) fn answer_with_handle<T: Send + 'static>(
        &mut self,
        result: Result<T, CapabilityError>,
    ) -> Answer<Resource<T>> {
        let handle = match result {
            Ok(value) => self.handles.push(value).map_err(CallError::from),
            Err(error) => Err(error.into()),
        };
        self.answer(handle)
    }
}

pub(super) fn level(severity: Severity) -> Level {
    match severity {
        Severity::Error => Level::Error,
        Severity::Warning => Level::Warning,
        Severity::Info => Level::Info,
    }
}

/// The range from a position to the last one that belongs to it. Without a line there is no range.
pub(super) fn range(start: Position, end: Option<Position>) -> Option<TextRange> {
    let known = |number: u32| (number > 0).then_some(number);
    let column = |position: Position| position.column.and_then(known);
    Some(TextRange {
        line: known(start.line)?,
        column: column(start),
        end_line: end.and_then(|end| known(end.line)),
        end_column: end.and_then(column),
    })
}

/// The path of a file of the workspace, without `./`. None for another path: the functions that take it have no result to
/// refuse it with.
pub(super) fn workspace_file(path: &str) -> Option<String> {
    WorkspacePath::parse(path).ok().map(|path| path.shown().to_owned())
}

pub(super) fn file_place(path: &str, position: Option<Position>) -> Option<FilePlace> {
    Some(FilePlace { path: workspace_file(path)?, range: position.and_then(|position| range(position, None)) })
}

impl Host for Handles {}

impl HostError for Handles {
    async fn new(&mut self, code: WitCode, message: String) -> wasmtime::Result<Resource<CapabilityError>> {
        let size = message.len();
        let error = self.push_error(CapabilityError::new(code.into(), message))?;
        self.keep(&error, size)?;
        Ok(error)
    }

    async fn code(&mut self, error: Resource<CapabilityError>) -> wasmtime::Result<WitCode> {
        Ok(self.get(&error)?.code.clone().into())
    }

    async fn message(&mut self, error: Resource<CapabilityError>) -> wasmtime::Result<String> {
        Ok(self.get(&error)?.message.clone())
    }

    async fn causes(&mut self, error: Resource<CapabilityError>) -> wasmtime::Result<Vec<String>> {
        Ok(self.get(&error)?.causes.clone())
    }

    async fn add_cause(&mut self, error: Resource<CapabilityError>, cause: String) -> wasmtime::Result<()> {
        self.grow(&error, cause.len())?.causes.push(cause);
        Ok(())
    }

    async fn help(&mut self, error: Resource<CapabilityError>) -> wasmtime::Result<Option<String>> {
        Ok(self.get(&error)?.help.clone())
    }

    async fn set_help(&mut self, error: Resource<CapabilityError>, help: String) -> wasmtime::Result<()> {
        let size = help.len();
        self.grow(&error, size)?.help = Some(help);
        Ok(())
    }

    async fn retryable(&mut self, error: Resource<CapabilityError>) -> wasmtime::Result<Option<bool>> {
        Ok(self.get(&error)?.retryable)
    }

    async fn set_retryable(&mut self, error: Resource<CapabilityError>, retryable: bool) -> wasmtime::Result<()> {
        let error = self.get_mut(&error)?;
        error.retryable = Some(retryable);
        error.retry_after = error.retry_after.filter(|_| retryable);
        Ok(())
    }

    async fn retry_after_ms(&mut self, error: Resource<CapabilityError>) -> wasmtime::Result<Option<u64>> {
        Ok(self.get(&error)?.retry_after.map(|delay| delay.get().into()))
    }

    async fn set_retry_after_ms(&mut self, error: Resource<CapabilityError>, delay: u64) -> wasmtime::Result<()> {
        let error = self.get_mut(&error)?;
        error.retryable = Some(true);
        error.retry_after = NonZeroU32::new(u32::try_from(delay).unwrap_or(u32::MAX));
        Ok(())
    }

    async fn file(&mut self, error: Resource<CapabilityError>) -> wasmtime::Result<Option<(String, Option<Position>)>> {
        let place = self.get(&error)?.place.as_deref();
        Ok(place.map(|FilePlace { path, range }| {
            let position = range.map(|TextRange { line, column, .. }| Position { line, column });
            (path.clone(), position)
        }))
    }

    async fn set_file(
        &mut self,
        error: Resource<CapabilityError>,
        path: String,
        position: Option<Position>,
    ) -> wasmtime::Result<()> {
        let size = path.len();
        self.grow(&error, size)?.place = file_place(&path, position).map(Box::new);
        Ok(())
    }

    async fn drop(&mut self, error: Resource<CapabilityError>) -> wasmtime::Result<()> {
        self.delete(error)?;
        Ok(())
    }
}

impl HostProblem for Handles {
    async fn new(&mut self, severity: Severity, code: String, message: String) -> wasmtime::Result<Resource<Problem>> {
        let size = code.len() + message.len();
        self.push_sized(Problem::new(level(severity), code, message), size)
    }

    async fn key(&mut self, problem: Resource<Problem>, path: String) -> wasmtime::Result<()> {
        let size = path.len();
        self.grow(&problem, size)?.path = Some(path);
        Ok(())
    }

    async fn help(&mut self, problem: Resource<Problem>, help: String) -> wasmtime::Result<()> {
        let size = help.len();
        self.grow(&problem, size)?.help = Some(help);
        Ok(())
    }

    async fn drop(&mut self, problem: Resource<Problem>) -> wasmtime::Result<()> {
        self.delete(problem)?;
        Ok(())
    }
}

impl HostRequirement for Handles {
    async fn new(&mut self, permission: String, entry: String) -> wasmtime::Result<Resource<Requirement>> {
        let size = permission.len() + entry.len();
        self.push_sized(Requirement { permission, entry, reason: None, optional: false }, size)
    }

    async fn reason(&mut self, requirement: Resource<Requirement>, text: String) -> wasmtime::Result<()> {
        let size = text.len();
        self.grow(&requirement, size)?.reason = Some(text);
        Ok(())
    }

    async fn optional(&mut self, requirement: Resource<Requirement>) -> wasmtime::Result<()> {
        self.get_mut(&requirement)?.optional = true;
        Ok(())
    }

    async fn drop(&mut self, requirement: Resource<Requirement>) -> wasmtime::Result<()> {
        self.delete(requirement)?;
        Ok(())
    }
}

impl HostSuspension for Handles {
    async fn new(&mut self, token: String, reason: String) -> wasmtime::Result<Resource<Suspension>> {
        let size = token.len() + reason.len();
        self.push_sized(Suspension::Wait(Wait { token, reason, poll_after: None, expires: None }), size)
    }

    async fn poll_after_ms(&mut self, suspension: Resource<Suspension>, delay: u64) -> wasmtime::Result<()> {
        match self.get_mut(&suspension)? {
            Suspension::Wait(wait) => wait.poll_after = Some(Duration::from_millis(delay)),
            Suspension::Gate(_) => wasmtime::bail!("a gate isn't polled: a decision or its expiry ends the wait"),
        }
        Ok(())
    }

    async fn expires_ms(&mut self, suspension: Resource<Suspension>, delay: u64) -> wasmtime::Result<()> {
        match self.get_mut(&suspension)? {
            Suspension::Wait(wait) => wait.expires = Some(Duration::from_millis(delay)),
            Suspension::Gate(_) => wasmtime::bail!("the expiry of a gate is set before it is opened"),
        }
        Ok(())
    }

    async fn drop(&mut self, suspension: Resource<Suspension>) -> wasmtime::Result<()> {
        self.delete(suspension)?;
        Ok(())
    }
}

impl HostOutcome for Handles {
    async fn succeeded(&mut self) -> wasmtime::Result<Resource<GuestReturn>> {
        self.push_sized(GuestReturn::Done, 0)
    }

    async fn skipped(&mut self, reason: String) -> wasmtime::Result<Resource<GuestReturn>> {
        let size = reason.len();
        self.push_sized(GuestReturn::Skipped(reason), size)
    }

    async fn suspended(&mut self, wait: Resource<Suspension>) -> wasmtime::Result<Resource<GuestReturn>> {
        let wait = self.delete(wait)?;
        let size = match &wait {
            // The memory of an opened gate is counted for as long as the guest lives.
            Suspension::Gate(_) => 0,
            Suspension::Wait(wait) => wait.token.len() + wait.reason.len(),
        };
        self.push_sized(GuestReturn::Suspended(wait), size)
    }

    async fn drop(&mut self, outcome: Resource<GuestReturn>) -> wasmtime::Result<()> {
        self.delete(outcome)?;
        Ok(())
    }
}

impl HostObservation for Handles {
    async fn not_started(&mut self) -> wasmtime::Result<Resource<Observation>> {
        self.push_sized(Observation::Found(Finding::NotStarted), 0)
    }

    async fn in_progress(&mut self) -> wasmtime::Result<Resource<Observation>> {
        self.push_sized(Observation::InProgress, 0)
    }

    async fn applied(&mut self, what: String) -> wasmtime::Result<Resource<Observation>> {
        let size = what.len();
        self.push_sized(Observation::Found(Finding::Applied(what)), size)
    }

    async fn failed(&mut self, reason: String) -> wasmtime::Result<Resource<Observation>> {
        let size = reason.len();
        self.push_sized(Observation::Found(Finding::Failed(reason)), size)
    }

    async fn unknown(&mut self, reason: String) -> wasmtime::Result<Resource<Observation>> {
        let size = reason.len();
        self.push_sized(Observation::Unknown(reason), size)
    }

    async fn drop(&mut self, observation: Resource<Observation>) -> wasmtime::Result<()> {
        self.delete(observation)?;
        Ok(())
    }
}

/// Converts between the generated type and the one that code without wasmtime uses; their variants have the same names.
macro_rules! same_codes {
    ($($code:ident),*) => {
        impl From<ErrorCode> for WitCode {
            fn from(code: ErrorCode) -> WitCode {
                match code {
                    $(ErrorCode::$code => WitCode::$code,)*
                    ErrorCode::Other(name) => WitCode::Other(name),
                }
            }
        }

        impl From<WitCode> for ErrorCode {
            fn from(code: WitCode) -> ErrorCode {
                match code {
                    $(WitCode::$code => ErrorCode::$code,)*
                    WitCode::Other(name) => ErrorCode::Other(name),
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
    Internal,
    Aborted,
    Unimplemented,
    Superseded,
    Withheld
);
