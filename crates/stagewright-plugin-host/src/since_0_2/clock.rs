//! `clock`.

use std::time::Duration;

use tokio::time::Instant;
use wasmtime::component::Resource;

use super::Answer;
use super::stagewright::clock::clock::Host;
use crate::attempt::Attempt;
use crate::capability::clock::{now_ms, sleep};
use crate::capability::poll::Pollable;

impl Host for Attempt {
    async fn now_ms(&mut self) -> wasmtime::Result<u64> {
        Ok(now_ms())
    }

    async fn monotonic_ms(&mut self) -> wasmtime::Result<u64> {
        let since = Instant::now().saturating_duration_since(self.started);
        Ok(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    async fn sleep_ms(&mut self, duration: u64) -> Answer<()> {
        let slept = sleep(Duration::from_millis(duration), &self.cancel).await;
        self.answer(slept)
    }

    async fn timer_ms(&mut self, duration: u64) -> wasmtime::Result<Resource<Pollable>> {
        Ok(self.handles.push(Pollable::after(Duration::from_millis(duration)))?)
    }
}
