//! Reports for attempts whose runner returned none.

use std::collections::BTreeMap;

use tokio::task::JoinError;

use crate::event::{Failure, FailureKind, Outcome};
use crate::port::{AttemptEnd, AttemptReport};

/// The report for an attempt whose runner panicked or was aborted.
pub(super) fn panicked(error: JoinError) -> AttemptReport {
    let cause = match error.try_into_panic() {
        Ok(panic) => {
            let text = panic.downcast_ref::<&str>().copied();
            text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no reason given").to_owned()
        }
        Err(error) => error.to_string(),
    };
    failed_report(Outcome::Errored, "the stage's runner panicked", vec![cause])
}

/// The report for an attempt that ignored a kill.
pub(super) fn abandoned() -> AttemptReport {
    let message = "the stage did not stop when it was killed, and the run continued without it";
    failed_report(Outcome::Cancelled, message, Vec::new())
}

fn failed_report(outcome: Outcome, message: &str, causes: Vec<String>) -> AttemptReport {
    let failure = Failure {
        causes,
        help: Some("this is a defect in Stagewright: please report it with the log of the run".to_owned()),
        ..Failure::new(FailureKind::Internal, message, false)
    };
    AttemptReport {
        end: AttemptEnd::Unsuccessful(outcome, failure),
        outputs: BTreeMap::new(),
        artifacts: Vec::new(),
        release: None,
        made: None,
        read_history: false,
    }
}
