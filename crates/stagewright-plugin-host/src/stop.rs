//! Timeouts, cancellation and limits: whatever can end an attempt before its guest returns.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use stagewright_engine::{Failure, FailureKind, Interrupt, Outcome};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// Why an attempt was stopped from outside its guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StopReason {
    /// The stage's `timeout` passed.
    Timeout(Duration),
    /// The engine requested it.
    Cancelled(Interrupt),
    /// The log exceeded its limit, in bytes.
    LogLimit(u64),
    /// The log exceeded its limit, in lines.
    LogLines(u64),
    /// More than this many processes of the stage ran at a time.
    Processes(u32),
    /// The stage's processes together used more CPU time than this.
    CpuTime(Duration),
    /// A rehearsal reached an effect that only a real run may have; describes the effect.
    Rehearsed(String),
}

impl StopReason {
    /// The outcome of the attempt, and the failure to report.
    pub(crate) fn outcome(&self) -> (Outcome, Failure) {
        let (outcome, kind, message, help) = match self {
            StopReason::Timeout(limit) => (
                Outcome::TimedOut,
                FailureKind::Timeout,
                format!("took longer than its timeout of {limit:?}"),
                Some("raise the stage's `timeout`, or find out what it waits for".to_owned()),
            ),
            StopReason::Cancelled(Interrupt::Graceful) => {
                (Outcome::Cancelled, FailureKind::Cancelled, "was cancelled".to_owned(), None)
            }
            StopReason::Cancelled(Interrupt::Kill) => {
                (Outcome::Cancelled, FailureKind::Cancelled, "was killed".to_owned(), None)
            }
            StopReason::LogLimit(limit) => (
                Outcome::Errored,
                FailureKind::LogLimit,
                format!("wrote more than {} of log output", crate::limits::ByteSize(*limit)),
                Some(format!(
                    "raise the limit with `log-limit = \"{}\"`",
                    crate::limits::ByteSize(limit.saturating_mul(2))
                )),
            ),
            StopReason::LogLines(limit) => (
                Outcome::Errored,
                FailureKind::LogLimit,
                format!("wrote more than {limit} lines of log output"),
                Some(format!("raise `log-lines` in the stage's limits: log-lines = {}", limit.saturating_mul(2))),
            ),
            StopReason::Processes(limit) => (
                Outcome::Errored,
                FailureKind::Limit,
                format!("ran more than {limit} processes at a time"),
                Some(format!("raise `processes` in the stage's limits: processes = {}", limit.saturating_mul(2))),
            ),
            StopReason::CpuTime(limit) => (
                Outcome::Errored,
                FailureKind::Limit,
                format!("used more than {limit:?} of CPU time"),
                Some("raise `cpu` in the stage's limits, or find out what uses so much".to_owned()),
            ),
            StopReason::Rehearsed(what) => (Outcome::Rehearsed, FailureKind::Rehearsed, what.clone(), None),
        };
        let retryable = matches!(self, StopReason::Timeout(_));
        (outcome, Failure { help, ..Failure::new(kind, message, retryable) })
    }
}

/// Whether cancellation of an attempt was requested; clones share the flag.
#[derive(Clone, Debug)]
pub(crate) struct Cancel(Arc<watch::Sender<bool>>);

impl Default for Cancel {
    fn default() -> Cancel {
        Cancel(Arc::new(watch::Sender::new(false)))
    }
}

impl Cancel {
    /// Requests cancellation.
    pub(crate) fn set(&self) {
        self.0.send_replace(true);
    }

    /// Whether cancellation was requested.
    pub(crate) fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until cancellation is requested.
    pub(crate) async fn wait(&self) {
        let mut receiver = self.0.subscribe();
        // This can't fail: the sender lives in `self`.
        let _ = receiver.wait_for(|set| *set).await;
    }
}

/// Lets any part of the host abort the attempt. Only the first reason is kept.
#[derive(Clone, Debug)]
pub(crate) struct AttemptAborter(Arc<watch::Sender<Option<StopReason>>>);

impl Default for AttemptAborter {
    fn default() -> AttemptAborter {
        AttemptAborter(Arc::new(watch::Sender::new(None)))
    }
}

impl AttemptAborter {
    /// Aborts the attempt. Later reasons are ignored.
    pub(crate) fn abort(&self, reason: StopReason) {
        self.0.send_if_modified(|current| {
            let first = current.is_none();
            current.get_or_insert(reason);
            first
        });
    }

    /// The reason, once the attempt was aborted.
    pub(crate) fn reason(&self) -> Option<StopReason> {
        self.0.borrow().clone()
    }

    pub(crate) async fn wait(&self) -> StopReason {
        let mut receiver = self.0.subscribe();
        loop {
            if let Some(reason) = receiver.borrow_and_update().clone() {
                return reason;
            }
            if receiver.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Runs an attempt's work until it ends, or until its timeout, an interrupt or an abort ends it early.
pub(crate) struct AttemptTimer {
    pub(crate) interrupt: watch::Receiver<Option<Interrupt>>,
    pub(crate) cancel: Cancel,
    pub(crate) aborter: AttemptAborter,
    /// When the timeout expires, and how long it is.
    pub(crate) deadline: Option<(Instant, Duration)>,
    /// How long a guest may go on after cancellation was requested.
    pub(crate) grace: Duration,
    grace_ends: Option<Instant>,
}

impl AttemptTimer {
    /// `grace`: see [`AttemptTimer::grace`]. The timeout doesn't run until [`AttemptTimer::start`].
    pub(crate) fn new(interrupt: watch::Receiver<Option<Interrupt>>, grace: Duration) -> AttemptTimer {
        let (cancel, aborter) = (Cancel::default(), AttemptAborter::default());
        AttemptTimer { interrupt, cancel, aborter, deadline: None, grace, grace_ends: None }
    }

    /// Starts the clock of the stage's `timeout`, if it has one.
    pub(crate) fn start(&mut self, timeout: Option<Duration>) {
        self.deadline = timeout.and_then(|timeout| Some((Instant::now().checked_add(timeout)?, timeout)));
    }

    /// Polls `work` to completion, or drops it when the attempt must end.
    ///
    /// Guest code yields at each epoch and host functions are awaited within `work`, so dropping `work` stops the guest
    /// wherever it is, and no capability has to implement interruption itself. `on_cancel` is called once, when
    /// cancellation is requested; the guest then has the grace period to return by itself.
    pub(crate) async fn run<T>(
        &mut self,
        work: impl Future<Output = T>,
        on_cancel: impl Fn(),
    ) -> Result<T, StopReason> {
        let mut work = pin!(work);
        loop {
            match *self.interrupt.borrow_and_update() {
                Some(Interrupt::Kill) => return Err(StopReason::Cancelled(Interrupt::Kill)),
                Some(Interrupt::Graceful) if self.grace_ends.is_none() => {
                    self.grace_ends = Some(Instant::now() + self.grace);
                    self.cancel.set();
                    on_cancel();
                }
                _ => {}
            }
            // `biased` polls in this order, so that a stop wins over `work` when both are ready. A guest whose program was
            // killed for exceeding a limit would otherwise get to return an error of its own about the program, and the
            // limit would not be reported.
            tokio::select! {
                biased;
                Ok(()) = self.interrupt.changed() => {}
                reason = self.aborter.wait() => return Err(reason),
                () = at(self.deadline.map(|(deadline, _)| deadline)) => {
                    let limit = self.deadline.map(|(_, limit)| limit).unwrap_or_default();
                    return Err(StopReason::Timeout(limit));
                }
                () = at(self.grace_ends) => return Err(StopReason::Cancelled(Interrupt::Graceful)),
                result = &mut work => return Ok(result),
            }
        }
    }
}

/// Sleeps until `moment`; forever without one.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_timeout_ends_work_that_never_completes() {
        let (_sender, interrupt) = watch::channel(None);
        let mut timer = AttemptTimer::new(interrupt, Duration::from_secs(10));
        timer.start(Some(Duration::from_secs(3)));
        let end = timer.run(std::future::pending::<()>(), || {}).await;
        assert_eq!(end, Err(StopReason::Timeout(Duration::from_secs(3))));
    }

    #[tokio::test(start_paused = true)]
    async fn work_may_complete_within_the_grace_period() {
        let (sender, interrupt) = watch::channel(Some(Interrupt::Graceful));
        let mut timer = AttemptTimer::new(interrupt, Duration::from_secs(10));
        let cancel = timer.cancel.clone();
        let end = timer.run(async { cancel.wait().await }, || {}).await;
        assert_eq!(end, Ok(()));
        drop(sender);
    }

    #[tokio::test(start_paused = true)]
    async fn work_is_dropped_after_the_grace_period_and_at_once_on_a_kill() {
        let (sender, interrupt) = watch::channel(Some(Interrupt::Graceful));
        let mut timer = AttemptTimer::new(interrupt.clone(), Duration::from_secs(10));
        let cancellations = std::cell::Cell::new(0);
        let end = timer.run(std::future::pending::<()>(), || cancellations.set(cancellations.get() + 1)).await;
        assert_eq!((end, cancellations.get()), (Err(StopReason::Cancelled(Interrupt::Graceful)), 1));

        sender.send_replace(Some(Interrupt::Kill));
        let mut timer = AttemptTimer::new(interrupt, Duration::from_secs(10));
        let end = timer.run(std::future::pending::<()>(), || {}).await;
        assert_eq!(end, Err(StopReason::Cancelled(Interrupt::Kill)));
    }

    #[tokio::test]
    async fn only_the_first_reason_is_kept() {
        let aborter = AttemptAborter::default();
        aborter.abort(StopReason::LogLimit(1));
        aborter.abort(StopReason::LogLimit(2));
        assert_eq!(aborter.wait().await, StopReason::LogLimit(1));
    }
}
