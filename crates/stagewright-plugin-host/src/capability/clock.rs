//! `clock`: the wall clock, a monotonic clock, and a sleep that ends early on cancellation.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::{CapabilityError, ErrorCode};
use crate::stop::Cancel;

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Sleeps for `duration`, or fails with `cancelled` as soon as cancellation is requested.
pub(crate) async fn sleep(duration: Duration, cancel: &Cancel) -> Result<(), CapabilityError> {
    tokio::select! {
        biased;
        () = cancel.wait() => Err(CapabilityError::new(ErrorCode::Cancelled, "the stage is being cancelled")),
        () = tokio::time::sleep(duration) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn cancellation_ends_a_sleep() {
        let cancel = Cancel::default();
        let began = Instant::now();
        assert_eq!(sleep(Duration::from_secs(3), &cancel).await, Ok(()));
        assert_eq!(began.elapsed(), Duration::from_secs(3));

        let cancelling = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            cancel.set();
        };
        let (slept, ()) = tokio::join!(sleep(Duration::from_secs(3600), &cancel), cancelling);
        assert_eq!(slept.unwrap_err().code, ErrorCode::Cancelled);
        assert_eq!(began.elapsed(), Duration::from_secs(4));
    }
}
