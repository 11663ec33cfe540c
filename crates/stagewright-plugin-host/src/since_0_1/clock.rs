//! `clock`.

use std::time::Duration;

use tokio::time::Instant;

use super::stagewright::stage::clock::Host;
use crate::attempt::Attempt;
use crate::call::CallResult;
use crate::capability::clock::{now_ms, sleep};

impl Host for Attempt {
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
