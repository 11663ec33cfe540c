//! From the end of a guest's call to the end of an attempt.

use stagewright_engine::{AttemptEnd, Failure, FailureKind, Finding, Observation, Outcome};
use wasmtime::{Trap, WasmBacktrace};

use crate::attempt::{Attempt, masked};
use crate::error::{CapabilityError, ErrorCode};
use crate::limits::OutOfMemory;
use crate::mask::Masker;
use crate::plugin::PluginError;
use crate::since_0_1::exports::stagewright::stage::plugin::Outcome as GuestOutcome;
use crate::since_0_1::reconciling::exports::stagewright::stage::reconcile::Observation as GuestObservation;
use crate::since_0_1::stagewright::stage::types;
use crate::stop::Stopped;
use crate::wasm::Answer;

/// Frames of a backtrace that are worth a reader's time.
const FRAMES: usize = 8;

/// How a call into the guest ended.
pub(crate) type Ended = Result<wasmtime::Result<Result<Answer, types::Error>>, Stopped>;

/// The end of an attempt whose guest returned, trapped or was stopped.
pub(crate) fn outcome_from_guest(ended: Ended, attempt: &mut Attempt) -> AttemptEnd {
    let masker = attempt.log.masker().clone();
    if let (Some(failure), Ok(_)) = (attempt.effects.too_late(), &ended) {
        return AttemptEnd::Unsuccessful(Outcome::Errored, failure);
    }
    match ended {
        Err(stopped) => outcome_from_stop(&stopped),
        Ok(Err(error)) => {
            let failure = failure_from_trap(&error, &masker);
            AttemptEnd::Unsuccessful(Outcome::Errored, failure)
        }
        Ok(Ok(Err(error))) => {
            outcome_from_error(masked(error.into(), &masker), attempt.cancel.is_set(), attempt.denials.last())
        }
        Ok(Ok(Ok(Answer::Undone | Answer::Ran(GuestOutcome::Succeeded)))) => AttemptEnd::Succeeded,
        Ok(Ok(Ok(Answer::Observed(observation)))) => AttemptEnd::Observed(observation_from_guest(observation, &masker)),
        Ok(Ok(Ok(Answer::Ran(GuestOutcome::Skipped(reason))))) => AttemptEnd::Skipped(masker.text(&reason)),
        Ok(Ok(Ok(Answer::Ran(GuestOutcome::Suspended(suspension))))) => match attempt.gates.take(&suspension.token) {
            Some(gate) => AttemptEnd::Suspended(gate),
            None => {
                let failure = Failure {
                    kind: FailureKind::BadPlugin,
                    message: "the plugin waits for a gate that it did not open".to_owned(),
                    causes: Vec::new(),
                    help: Some("return the token that `approval.open` gave in this very attempt".to_owned()),
                    retryable: false,
                };
                AttemptEnd::Unsuccessful(Outcome::Errored, failure)
            }
        },
    }
}

fn observation_from_guest(observation: GuestObservation, masker: &Masker) -> Observation {
    match observation {
        GuestObservation::NotStarted => Observation::Found(Finding::NotStarted),
        GuestObservation::InProgress => Observation::InProgress,
        GuestObservation::Applied(what) => Observation::Found(Finding::Applied(masker.text(&what))),
        GuestObservation::Failed(why) => Observation::Found(Finding::Failed(masker.text(&why))),
        GuestObservation::Unknown(why) => Observation::Unknown(masker.text(&why)),
    }
}

/// The end of an attempt that was stopped from outside its guest.
pub(crate) fn outcome_from_stop(stopped: &Stopped) -> AttemptEnd {
    if let Stopped::Rehearsed(what) = stopped {
        return AttemptEnd::Rehearsed(what.clone());
    }
    let (outcome, failure) = stopped.outcome();
    AttemptEnd::Unsuccessful(outcome, failure)
}

/// The end of an attempt whose plugin could not be loaded or started.
pub(crate) fn outcome_from_bad_plugin(error: PluginError) -> AttemptEnd {
    let PluginError { message, causes, help } = error;
    let failure = Failure { kind: FailureKind::BadPlugin, message, causes, help, retryable: false };
    AttemptEnd::Unsuccessful(Outcome::Errored, failure)
}

/// The end of an attempt with an error that the plugin returned, or that kept the host from starting it. `denial`: the
/// last denial of the attempt, whose remedy is kept.
pub(crate) fn outcome_from_error(
    error: CapabilityError,
    cancelled: bool,
    denial: Option<CapabilityError>,
) -> AttemptEnd {
    let (outcome, kind) = match &error.code {
        // Whatever a plugin says after it was asked to stop, it says because it was asked.
        _ if cancelled => (Outcome::Cancelled, FailureKind::Cancelled),
        ErrorCode::PermissionDenied => (Outcome::Errored, FailureKind::Denied),
        ErrorCode::InvalidArgument => (Outcome::Errored, FailureKind::Configuration),
        ErrorCode::FailedPrecondition | ErrorCode::NotFound | ErrorCode::AlreadyExists | ErrorCode::Other(_) => {
            (Outcome::Failed, FailureKind::Reported)
        }
        ErrorCode::Unauthenticated
        | ErrorCode::ResourceExhausted
        | ErrorCode::DeadlineExceeded
        | ErrorCode::Cancelled
        | ErrorCode::Unavailable
        | ErrorCode::Internal => (Outcome::Errored, FailureKind::Reported),
    };
    let CapabilityError { code, mut message, retryable, mut causes, mut help } = error;
    if kind == FailureKind::Cancelled && code != ErrorCode::Cancelled {
        // The plugin took the stop for a failure of its work. Its words stay, but not as the reason.
        causes.insert(0, format!("while it was stopping: {message}"));
        "was asked to stop".clone_into(&mut message);
        help = None;
    }
    if kind == FailureKind::Denied {
        // A plugin that put the refusal into its own words may have lost what to do about it.
        help = help.or_else(|| denial.and_then(|denial| denial.help));
    }
    let never = matches!(kind, FailureKind::Denied | FailureKind::Configuration | FailureKind::Cancelled);
    // A test that failed may pass when it is tried again, if the pipeline says so: only what can't change is final.
    let retryable = retryable || !never;
    AttemptEnd::Unsuccessful(outcome, Failure { kind, message, causes, help, retryable })
}

fn failure_from_trap(error: &wasmtime::Error, masker: &Masker) -> Failure {
    if let Some(out_of_memory) = error.downcast_ref::<OutOfMemory>() {
        return Failure::from(*out_of_memory);
    }
    let message = match error.downcast_ref::<Trap>() {
        Some(Trap::StackOverflow) => "the plugin ran out of stack".to_owned(),
        Some(Trap::UnreachableCodeReached) => "the plugin broke off: a panic, or an abort".to_owned(),
        Some(trap) => format!("the plugin trapped: {trap}"),
        None => format!("the plugin trapped: {}", error.root_cause()),
    };
    let frames = error.downcast_ref::<WasmBacktrace>().map(WasmBacktrace::frames).unwrap_or_default();
    let causes = frames.iter().take(FRAMES).map(|frame| match frame.func_name() {
        Some(name) => format!("in {name}"),
        None => format!("in function {}", frame.func_index()),
    });
    Failure {
        kind: FailureKind::Trapped,
        message: masker.text(&message),
        causes: causes.map(|cause| masker.text(&cause)).collect(),
        help: Some("the plugin's last words may be in the stage's log".to_owned()),
        retryable: false,
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
    fn a_negative_answer_is_told_from_work_that_could_not_be_done() {
        let reported = |outcome| (outcome, FailureKind::Reported, true);
        assert_eq!(judged(ErrorCode::FailedPrecondition, false), reported(Outcome::Failed));
        assert_eq!(judged(ErrorCode::Unavailable, false), reported(Outcome::Errored));
        assert_eq!(judged(ErrorCode::PermissionDenied, false), (Outcome::Errored, FailureKind::Denied, false));
        assert_eq!(judged(ErrorCode::InvalidArgument, false), (Outcome::Errored, FailureKind::Configuration, false));
        assert_eq!(judged(ErrorCode::Internal, true), (Outcome::Cancelled, FailureKind::Cancelled, false));
    }

    #[test]
    fn what_a_plugin_reports_while_it_is_cancelled_is_not_the_reason() {
        let judged = |error: CapabilityError| match outcome_from_error(error, true, None) {
            AttemptEnd::Unsuccessful(Outcome::Cancelled, failure) => failure,
            other => panic!("{other:?}"),
        };
        let crash = CapabilityError::new(ErrorCode::FailedPrecondition, "1 of 2 tests failed").with_help("mend it");
        let failure = judged(crash);
        assert_eq!((failure.message.as_str(), failure.help), ("was asked to stop", None));
        assert_eq!(failure.causes, ["while it was stopping: 1 of 2 tests failed"]);
        let own = CapabilityError::new(ErrorCode::Cancelled, "the deploy was cancelled, the old release serves");
        assert_eq!(judged(own).message, "the deploy was cancelled, the old release serves");
    }

    #[test]
    fn a_denial_keeps_its_remedy() {
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
