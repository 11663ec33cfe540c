//! `context`: what the stage is, and what it was given. Reads only.

use std::collections::BTreeMap;
use std::sync::Arc;

use stagewright_engine::{AttemptRequest, Call, RunId};
use stagewright_model::{Permissions, PluginRef, StageIndex, Trust};
use tokio::time::Instant;

use crate::since_0_1::stagewright::stage::context;
use crate::stop::Cancel;

/// Answers from the attempt's request.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    request: Arc<AttemptRequest>,
    cancel: Cancel,
    deadline: Option<Instant>,
}

impl Context {
    pub(crate) fn new(request: Arc<AttemptRequest>, cancel: Cancel, deadline: Option<Instant>) -> Context {
        Context { request, cancel, deadline }
    }

    /// For a plugin that is asked about a `with` table before there is a run.
    pub(crate) fn for_inspection(config: serde_json::Value) -> Context {
        let request = AttemptRequest {
            run: RunId(String::new()),
            pipeline: String::new(),
            stage: StageIndex(0),
            stage_id: String::new(),
            table: String::new(),
            attempt: 1,
            call: Call::Run,
            uses: PluginRef::Builtin(String::new()),
            trust: Trust::Component,
            plugin: None,
            config,
            env: BTreeMap::new(),
            permissions: Permissions::default(),
            environment: None,
            needs: BTreeMap::new(),
            timeout: None,
            memory: None,
            log_limit: None,
            limits: Default::default(),
            declared: None,
            cache: None,
            resumption: None,
            rehearsal: None,
            basis: Default::default(),
            folder: None,
        };
        Context::new(Arc::new(request), Cancel::default(), None)
    }

    /// What all of this is about.
    pub(crate) fn request(&self) -> &AttemptRequest {
        &self.request
    }
}

impl context::Host for Context {
    async fn pipeline(&mut self) -> wasmtime::Result<String> {
        Ok(self.request.pipeline.clone())
    }

    async fn stage(&mut self) -> wasmtime::Result<String> {
        Ok(self.request.stage_id.clone())
    }

    async fn run_id(&mut self) -> wasmtime::Result<String> {
        Ok(self.request.run.0.clone())
    }

    async fn attempt(&mut self) -> wasmtime::Result<u32> {
        Ok(self.request.attempt)
    }

    async fn rehearsal(&mut self) -> wasmtime::Result<bool> {
        Ok(self.request.rehearsal.is_some())
    }

    async fn cancelled(&mut self) -> wasmtime::Result<bool> {
        Ok(self.cancel.is_set())
    }

    async fn remaining_ms(&mut self) -> wasmtime::Result<Option<u32>> {
        let remaining = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()).as_millis());
        Ok(remaining.map(|milliseconds| u32::try_from(milliseconds).unwrap_or(u32::MAX)))
    }

    async fn trace_parent(&mut self) -> wasmtime::Result<Option<String>> {
        // The engine keeps no traces that a stage's could belong to.
        Ok(None)
    }

    async fn environment(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(self.request.environment.as_ref().map(|environment| environment.name.clone()))
    }

    async fn config(&mut self) -> wasmtime::Result<String> {
        Ok(self.request.config.to_string())
    }

    async fn input(&mut self, stage: String) -> wasmtime::Result<Option<String>> {
        Ok(self.request.needs.get(&stage).map(ToString::to_string))
    }

    async fn variable(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        Ok(self.request.env.get(&name).cloned())
    }

    async fn resumption(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(self.request.resumption.as_ref().map(ToString::to_string))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use context::Host as _;

    use super::*;
    use crate::testing::request;

    #[tokio::test(start_paused = true)]
    async fn a_guest_learns_what_it_was_given() {
        let mut request = request();
        request.config = serde_json::json!({ "a": 1 });
        request.needs.insert("build".into(), serde_json::json!({ "digest": "x" }));
        request.env.insert("NAME".into(), "value".into());
        let cancel = Cancel::default();
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut context = Context::new(Arc::new(request), cancel.clone(), Some(deadline));
        assert_eq!(context.config().await.unwrap(), r#"{"a":1}"#);
        assert_eq!(context.input("build".into()).await.unwrap().as_deref(), Some(r#"{"digest":"x"}"#));
        assert_eq!(context.input("other".into()).await.unwrap(), None);
        assert_eq!(context.variable("NAME".into()).await.unwrap().as_deref(), Some("value"));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(context.remaining_ms().await.unwrap(), Some(3000));
        assert!(!context.cancelled().await.unwrap());
        cancel.set();
        assert!(context.cancelled().await.unwrap());
    }
}
