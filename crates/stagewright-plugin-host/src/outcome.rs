//! Maps the result of a guest's call to the end of its attempt.

use stagewright_engine::{AttemptEnd, Failure, FailureKind, Outcome, Wait};
use tokio::task::JoinError;
use wasmtime::{Trap, WasmBacktrace};

use crate::attempt::{Attempt, masked};
use crate::error::{CapabilityError, ErrorCode};
use crate::guest::{GuestResult, GuestReturn, Suspension};
use crate::limits::OutOfMemory;
use crate::mask::Masker;
use crate::plugin::PluginError;
use crate::stop::StopReason;

/// Frames of a backtrace that are reported.
const FRAMES: usize = 8;

/// How a call into the guest ended.
pub(crate) type CallEnd = Result<GuestResult, StopReason>;

/// The end of an attempt whose guest returned, trapped or was stopped.
pub(crate) fn outcome_from_guest(ended: CallEnd, attempt: &mut Attempt) -> AttemptEnd {
    let masker = attempt.log.masker().clone();
    if let (Some(failure), Ok(_)) = (attempt.effects.superseded_failure(), &ended) {
        return AttemptEnd::Unsuccessful(Outcome::Errored, failure);
    }
    // A rehearsal of a deploy says what it would do as a whole, which tells more than the first request that isn't sent.
    if let Some(what) = attempt.environment.described()
        && matches!(ended, Err(StopReason::Rehearsed(_)) | Ok(Ok(Ok(GuestReturn::Done | GuestReturn::Skipped(_)))))
    {
        return AttemptEnd::Rehearsed(what.to_owned());
    }
    match ended {
        Err(stopped) => outcome_from_stop(&stopped),
        Ok(Err(error)) => {
            let failure = failure_from_trap(&error, &masker);
            AttemptEnd::Unsuccessful(Outcome::Errored, failure)
        }
        Ok(Ok(Err(error))) => {
            outcome_from_error(masked(error, &masker), attempt.cancel.is_set(), attempt.denials.last())
        }
        Ok(Ok(Ok(GuestReturn::Done))) => AttemptEnd::Succeeded,
        Ok(Ok(Ok(GuestReturn::Skipped(reason)))) => AttemptEnd::Skipped(reason),
        Ok(Ok(Ok(GuestReturn::Observed(observation)))) => AttemptEnd::Observed(observation),
        Ok(Ok(Ok(GuestReturn::Compared(differences)))) => AttemptEnd::Compared(differences),
        Ok(Ok(Ok(GuestReturn::Suspended(Suspension::Gate(gate))))) => AttemptEnd::Suspended(*gate),
        Ok(Ok(Ok(GuestReturn::Suspended(Suspension::Wait(wait))))) => outcome_from_wait(wait, &masker),
    }
}

/// The end of an attempt that waits for a time or a signal.
fn outcome_from_wait(wait: Wait, masker: &Masker) -> AttemptEnd {
    // A masked token would be of no use to the plugin, and an unmasked one would be recorded and shown.
    if masker.text(&wait.token) != wait.token {
        let message = "the token that the plugin waits for contains a secret";
        let failure = Failure::new(FailureKind::BadPlugin, message, false)
            .with_help("return a token that people may see, such as the id of a job");
        return AttemptEnd::Unsuccessful(Outcome::Inconclusive, failure);
    }
    AttemptEnd::Waiting(wait)
}

/// The end of an attempt that was stopped from outside its guest.
pub(crate) fn outcome_from_stop(stopped: &StopReason) -> AttemptEnd {
    if let StopReason::Rehearsed(what) = stopped {
        return AttemptEnd::Rehearsed(what.clone());
    }
    let (outcome, failure) = stopped.outcome();
    AttemptEnd::Unsuccessful(outcome, failure)
}

/// The end of an attempt whose plugin could not be loaded or started.
pub(crate) fn outcome_from_bad_plugin(error: PluginError) -> AttemptEnd {
    let PluginError { message, causes, help } = error;
    let failure = Failure { causes, help, ..Failure::new(FailureKind::BadPlugin, message, false) };
    AttemptEnd::Unsuccessful(Outcome::Errored, failure)
}

/// The end of an attempt whose call of the plugin was interrupted by a fault of the engine.
pub(crate) fn outcome_from_interruption(error: &JoinError) -> AttemptEnd {
    let (kind, causes) = (FailureKind::Internal, vec![error.to_string()]);
    let message = "the call of the plugin was interrupted".to_owned();
    AttemptEnd::Unsuccessful(Outcome::Errored, Failure { causes, ..Failure::new(kind, message, false) })
}

/// The end of an attempt whose plugin returned an error, or that the host could not start. `denial`: the last denial of
/// the attempt, whose help is used when the plugin's own error has none.
pub(crate) fn outcome_from_error(
    error: CapabilityError,
    cancelled: bool,
    denial: Option<CapabilityError>,
) -> AttemptEnd {
    let (outcome, kind) = match &error.code {
        // After a cancellation, an error is its consequence, whatever code the plugin gave it.
        _ if cancelled => (Outcome::Cancelled, FailureKind::Cancelled),
        ErrorCode::PermissionDenied => (Outcome::Errored, FailureKind::Denied),
        ErrorCode::InvalidArgument => (Outcome::Errored, FailureKind::Configuration),
        ErrorCode::FailedPrecondition
        | ErrorCode::NotFound
        | ErrorCode::AlreadyExists
        | ErrorCode::Other(_)
        | ErrorCode::Aborted
        | ErrorCode::Superseded
        | ErrorCode::Withheld => (Outcome::Failed, FailureKind::Reported),
        ErrorCode::Unauthenticated
        | ErrorCode::ResourceExhausted
        | ErrorCode::DeadlineExceeded
        | ErrorCode::Cancelled
        | ErrorCode::Unavailable
        | ErrorCode::Internal
        | ErrorCode::Unimplemented => (Outcome::Errored, FailureKind::Reported),
    };
    let CapabilityError { code, mut message, retryable, retry_after, place, mut causes, mut help, grant: _ } = error;
    if kind == FailureKind::Cancelled && code != ErrorCode::Cancelled {
        // The plugin mistook the cancellation for a failure of its work. Its message becomes a cause, since it isn't the
        // reason why the attempt ended, and its advice would send the reader after the wrong problem.
        causes.insert(0, format!("while it was stopping: {message}"));
        "was cancelled".clone_into(&mut message);
        help = None;
    }
    if kind == FailureKind::Denied {
        // A plugin that replaced the host's message with its own may have dropped the advice.
        help = help.or_else(|| denial.and_then(|denial| denial.help));
    }
    // Any failure may be retried if the pipeline says so, unless the plugin says that it may not: a flaky test can pass the
    // next time. Only what would fail in the same way again is final: a denial, a wrong configuration, and a cancellation.
    let is_final = matches!(kind, FailureKind::Denied | FailureKind::Configuration | FailureKind::Cancelled);
    let retryable = retryable.unwrap_or(!is_final);
    let retry_after = retry_after.map(|delay| u64::from(delay.get()));
    let failure = Failure { causes, help, retry_after, place, ..Failure::new(kind, message, retryable) };
    AttemptEnd::Unsuccessful(outcome, failure)
}

fn failure_from_trap(error: &wasmtime::Error, masker: &Masker) -> Failure {
    if let Some(out_of_memory) = error.downcast_ref::<OutOfMemory>() {
        return Failure::from(*out_of_memory);
    }
    let message = match error.downcast_ref::<Trap>() {
        Some(Trap::StackOverflow) => "the plugin ran out of stack".to_owned(),
        Some(Trap::UnreachableCodeReached) => "the plugin panicked or aborted".to_owned(),
        Some(trap) => format!("the plugin trapped: {trap}"),
        None => format!("the plugin trapped: {}", error.root_cause()),
    };
    let frames = error.downcast_ref::<WasmBacktrace>().map(WasmBacktrace::frames).unwrap_or_default();
    let causes = frames.iter().take(FRAMES).map(|frame| match frame.func_name() {
        Some(name) => format!("in {name}"),
        None => format!("in function {}", frame.func_index()),
    });
    Failure {
        causes: causes.map(|cause| masker.text(&cause)).collect(),
        help: Some("look for the plugin's last message at the end of the stage's log".to_owned()),
        ..Failure::new(FailureKind::Trapped, masker.text(&message), false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(code: ErrorCode, cancelled: bool) -> (Outcome, FailureKind, bool) {
        match outcome_from_error(CapabilityError::new(code, "x"), cancelled, None) {
            AttemptEnd::Unsuccessful(outcome, failure) => (outcome, failure.kind, failure.retryable),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_error_code_decides_between_failed_and_errored() {
        let reported = |outcome| (outcome, FailureKind::Reported, true);
        assert_eq!(judged(ErrorCode::FailedPrecondition, false), reported(Outcome::Failed));
        assert_eq!(judged(ErrorCode::Unavailable, false), reported(Outcome::Errored));
        assert_eq!(judged(ErrorCode::PermissionDenied, false), (Outcome::Errored, FailureKind::Denied, false));
        assert_eq!(judged(ErrorCode::InvalidArgument, false), (Outcome::Errored, FailureKind::Configuration, false));
        assert_eq!(judged(ErrorCode::Internal, true), (Outcome::Cancelled, FailureKind::Cancelled, false));
        assert_eq!(judged(ErrorCode::Aborted, false), reported(Outcome::Failed));
        assert_eq!(judged(ErrorCode::Unimplemented, false), reported(Outcome::Errored));
    }

    #[test]
    fn a_plugin_decides_whether_its_error_is_final() {
        let is_retryable = |code: ErrorCode, retryable: bool| {
            let error = CapabilityError { retryable: Some(retryable), ..CapabilityError::new(code, "x") };
            match outcome_from_error(error, false, None) {
                AttemptEnd::Unsuccessful(_, failure) => failure.retryable,
                other => panic!("{other:?}"),
            }
        };
        assert!(!is_retryable(ErrorCode::FailedPrecondition, false));
        assert!(is_retryable(ErrorCode::InvalidArgument, true));
    }

    #[test]
    fn a_token_with_a_secret_is_refused_and_leaves_the_outcome_open() {
        let masker = Masker::default();
        masker.add("hunter22", false);
        let wait = |token: &str| Wait {
            token: token.to_owned(),
            reason: "queued".to_owned(),
            poll_after: None,
            expires: None,
        };
        assert_eq!(outcome_from_wait(wait("job-7"), &masker), AttemptEnd::Waiting(wait("job-7")));
        match outcome_from_wait(wait("job-hunter22"), &masker) {
            AttemptEnd::Unsuccessful(Outcome::Inconclusive, failure) => {
                assert_eq!(failure.kind, FailureKind::BadPlugin);
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_error_returned_during_cancellation_becomes_a_cause() {
        let judged = |error: CapabilityError| match outcome_from_error(error, true, None) {
            AttemptEnd::Unsuccessful(Outcome::Cancelled, failure) => failure,
            other => panic!("{other:?}"),
        };
        let crash = CapabilityError::new(ErrorCode::FailedPrecondition, "1 of 2 tests failed").with_help("mend it");
        let failure = judged(crash);
        assert_eq!((failure.message.as_str(), failure.help), ("was cancelled", None));
        assert_eq!(failure.causes, ["while it was stopping: 1 of 2 tests failed"]);
        let own = CapabilityError::new(ErrorCode::Cancelled, "the deploy was cancelled, the old release serves");
        assert_eq!(judged(own).message, "the deploy was cancelled, the old release serves");
    }

    #[test]
    fn a_denial_keeps_its_help_when_the_plugin_drops_it() {
        let denial = CapabilityError::new(ErrorCode::PermissionDenied, "no").with_help("add to [stages.x.permissions]");
        let own_words = CapabilityError::new(ErrorCode::PermissionDenied, "couldn't start the tests");
        match outcome_from_error(own_words, false, Some(denial)) {
            AttemptEnd::Unsuccessful(_, failure) => {
                assert_eq!(failure.help.as_deref(), Some("add to [stages.x.permissions]"));
            }
            other => panic!("{other:?}"),
        }
    }
}
