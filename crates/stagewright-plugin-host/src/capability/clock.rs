//! `clock`: the wall clock, a monotonic one, and a sleep that a wish to stop ends.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::attempt::Attempt;
use crate::call::CallResult;
use crate::error::{CapabilityError, ErrorCode};
use crate::since_0_1::stagewright::stage::clock;
use crate::stop::Cancel;

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Sleeps for the whole time, or answers `cancelled`.
async fn sleep(duration: Duration, cancel: &Cancel) -> Result<(), CapabilityError> {
    tokio::select! {
        biased;
        () = cancel.wait() => Err(CapabilityError::new(ErrorCode::Cancelled, "the stage was asked to stop")),
        () = tokio::time::sleep(duration) => Ok(()),
    }
}

impl clock::Host for Attempt {
    async fn now_ms(&mut self) -> wasmtime::Result<u64> {
        Ok(now_ms())
    }

    async fn monotonic_ms(&mut self) -> wasmtime::Result<u64> {
        let since = Instant::now().saturating_duration_since(self.started);
        Ok(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    async fn sleep_ms(&mut self, duration: u32) -> CallResult<()> {
        Ok(sleep(Duration::from_millis(duration.into()), &self.cancel).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_wish_to_stop_ends_a_sleep() {
        let cancel = Cancel::default();
        let began = Instant::now();
        assert_eq!(sleep(Duration::from_secs(3), &cancel).await, Ok(()));
        assert_eq!(began.elapsed(), Duration::from_secs(3));

        let asked = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            cancel.set();
        };
        let (slept, ()) = tokio::join!(sleep(Duration::from_secs(3600), &cancel), asked);
        assert_eq!(slept.unwrap_err().code, ErrorCode::Cancelled);
        assert_eq!(began.elapsed(), Duration::from_secs(4));
    }
}
