//! `context`.

use stagewright_engine::Need;
use wasmtime::component::{HasData, Resource};

use super::stagewright::context::context::{Host, HostNeed};
use crate::capability::context::Context;
use crate::handles::Handles;

/// The context of an attempt or of an inspection, with the handles of its guest.
pub(super) struct ContextView<'a> {
    pub(super) context: &'a Context,
    pub(super) handles: &'a mut Handles,
}

/// Tells wasmtime that the interface is implemented on [`ContextView`].
pub(super) struct HasContext;

impl HasData for HasContext {
    type Data<'a> = ContextView<'a>;
}

impl Host for ContextView<'_> {
    async fn pipeline(&mut self) -> wasmtime::Result<String> {
        Ok(self.context.request().pipeline.clone())
    }

    async fn stage(&mut self) -> wasmtime::Result<String> {
        Ok(self.context.stage_name().to_owned())
    }

    async fn stage_id(&mut self) -> wasmtime::Result<String> {
        Ok(self.context.request().stage_id.clone())
    }

    async fn run_id(&mut self) -> wasmtime::Result<String> {
        Ok(self.context.request().run.0.clone())
    }

    async fn attempt(&mut self) -> wasmtime::Result<u32> {
        Ok(self.context.request().attempt)
    }

    async fn rehearsal(&mut self) -> wasmtime::Result<bool> {
        Ok(self.context.request().rehearsal.is_some())
    }

    async fn cancelled(&mut self) -> wasmtime::Result<bool> {
        Ok(self.context.is_cancelled())
    }

    async fn remaining_ms(&mut self) -> wasmtime::Result<Option<u64>> {
        let remaining = self.context.remaining();
        Ok(remaining.map(|remaining| u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX)))
    }

    async fn trace_parent(&mut self) -> wasmtime::Result<String> {
        Ok(self.context.trace_context())
    }

    async fn environment(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(self.context.request().environment.as_ref().map(|environment| environment.name.clone()))
    }

    async fn config(&mut self) -> wasmtime::Result<String> {
        Ok(self.context.request().config.to_string())
    }

    async fn variable(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        Ok(self.context.request().env.get(&name).cloned())
    }

    async fn needs(&mut self) -> wasmtime::Result<Vec<Resource<Need>>> {
        let needs = &self.context.request().needs;
        needs.iter().map(|need| Ok(self.handles.push(need.clone())?)).collect()
    }

    async fn resumption(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(self.context.request().resumption.as_ref().map(ToString::to_string))
    }
}

impl HostNeed for ContextView<'_> {
    async fn stage(&mut self, need: Resource<Need>) -> wasmtime::Result<String> {
        Ok(self.handles.get(&need)?.stage.clone())
    }

    async fn stage_id(&mut self, need: Resource<Need>) -> wasmtime::Result<String> {
        Ok(self.handles.get(&need)?.id.clone())
    }

    async fn outcome(&mut self, need: Resource<Need>) -> wasmtime::Result<String> {
        Ok(self.handles.get(&need)?.outcome.as_str().to_owned())
    }

    async fn conclusion(&mut self, need: Resource<Need>) -> wasmtime::Result<String> {
        Ok(self.handles.get(&need)?.conclusion.as_str().to_owned())
    }

    async fn outputs(&mut self, need: Resource<Need>) -> wasmtime::Result<String> {
        Ok(serde_json::to_string(&self.handles.get(&need)?.outputs)?)
    }

    async fn drop(&mut self, need: Resource<Need>) -> wasmtime::Result<()> {
        self.handles.delete(need)?;
        Ok(())
    }
}
