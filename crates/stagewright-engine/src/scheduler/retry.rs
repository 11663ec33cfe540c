//! Whether a stage is retried, and when.

use std::time::Duration;

use stagewright_model::{Retry, StageIndex};

use super::Scheduler;
use crate::event::{Failure, FailureKind, Outcome};

/// The longest delay that a failure can request. The run would seem to hang if a server asked for a day.
const LONGEST_REQUEST: Duration = Duration::from_secs(60 * 60);

impl Scheduler {
    pub(super) fn retry_after(
        &self,
        index: StageIndex,
        attempt: u32,
        outcome: Outcome,
        failure: Option<&Failure>,
    ) -> Option<Duration> {
        let retry = &self.plan.stage(index).retry;
        let cause = outcome.retry_cause()?;
        let tries = attempt - self.state.stage(index).attempts_before;
        let can_help = failure.is_none_or(|failure| can_retry(failure.kind));
        let is_configured = tries <= retry.max && retry.on.contains(&cause);
        let requested = failure.and_then(|failure| failure.retry_after).unwrap_or_default();
        let requested = Duration::from_millis(requested).min(LONGEST_REQUEST);
        let delay = backoff(retry, tries).max(requested);
        (can_help && is_configured && self.reason_to_stop(index).is_none()).then_some(delay)
    }
}

/// Whether a retry can succeed after a failure of this kind.
pub(super) fn can_retry(kind: FailureKind) -> bool {
    !matches!(
        kind,
        FailureKind::Configuration
            | FailureKind::Denied
            | FailureKind::BadPlugin
            | FailureKind::Rejected
            | FailureKind::FilesChanged
            | FailureKind::Cancelled
    )
}

fn backoff(retry: &Retry, tries: u32) -> Duration {
    let factor = retry.backoff.factor.checked_pow(tries - 1).unwrap_or(u32::MAX);
    retry.backoff.initial.checked_mul(factor).unwrap_or(retry.backoff.max).min(retry.backoff.max)
}
