//! What is reported of attempts whose runner can't report.

use std::collections::BTreeMap;

use tokio::task::JoinError;

use crate::event::{Failure, FailureKind, Outcome};
use crate::port::{AttemptEnd, AttemptReport};

/// Of an attempt whose runner panicked, or was aborted.
pub(super) fn defect(error: JoinError) -> AttemptReport {
    let cause = match error.try_into_panic() {
        Ok(panic) => {
            let text = panic.downcast_ref::<&str>().copied();
            text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no reason given").to_owned()
        }
        Err(error) => error.to_string(),
    };
    unrunnable(Outcome::Errored, "the stage's runner panicked", vec![cause])
}

/// Of an attempt that ignored a kill.
pub(super) fn left_behind() -> AttemptReport {
    let message = "the stage did not stop when it was killed, and the run continued without it";
    unrunnable(Outcome::Cancelled, message, Vec::new())
}

fn unrunnable(outcome: Outcome, message: &str, causes: Vec<String>) -> AttemptReport {
    let failure = Failure {
        kind: FailureKind::Internal,
        message: message.to_owned(),
        causes,
        help: Some("this is a defect of Stagewright: please report it with the log of the run".to_owned()),
        retryable: false,
    };
    AttemptReport {
        end: AttemptEnd::Unsuccessful(outcome, failure),
        outputs: BTreeMap::new(),
        artifacts: Vec::new(),
        release: None,
        made: None,
    }
}
