//! `poll`.

use wasmtime::component::Resource;

use super::Answer;
use super::stagewright::poll::poll::{Host, HostPollable};
use crate::attempt::Attempt;
use crate::capability::poll::{Pollable, wait_any};

impl HostPollable for Attempt {
    async fn ready(&mut self, pollable: Resource<Pollable>) -> wasmtime::Result<bool> {
        Ok(self.handles.get(&pollable)?.is_ready())
    }

    async fn drop(&mut self, pollable: Resource<Pollable>) -> wasmtime::Result<()> {
        self.handles.delete(pollable)?;
        Ok(())
    }
}

impl Host for Attempt {
    async fn wait_any(&mut self, pollables: Vec<Resource<Pollable>>) -> Answer<u32> {
        let pollables = pollables.iter().map(|pollable| Ok(self.handles.get(pollable)?.clone()));
        let pollables = pollables.collect::<wasmtime::Result<Vec<_>>>()?;
        let first = wait_any(&pollables, &self.cancel).await;
        self.answer(first.map(|index| u32::try_from(index).unwrap_or(u32::MAX)))
    }
}
